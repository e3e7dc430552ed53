"""Training in many processes: who writes, who asks which question, and layers that lie in shards.

``torchrun`` starts a process for each GPU. Up to some ten billion parameters each holds the whole model and the
trainers average gradients (DDP): nothing of it is here but that validation is shared out and that one process
writes. Where the weights do not fit, :func:`shard` lays each layer of the text model, the word embeddings and the
head in shards (torch's FSDP2), each of them by itself: so they come together wherever they are called, in the
forward of training and in sampling alike. The towers stay whole: processes that hold different kinds of media call
them differently often, and a sharded tower would wait for the others for ever.

Functions: ``rank``, ``world``, ``place``, ``check_place``; ``wait``, ``share``, ``gathered``; ``shard``,
``sharded``.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any, TypeVar

import torch
from torch import distributed

from earwitness.align import forward

Thing = TypeVar("Thing")


def _many() -> bool:
    return distributed.is_available() and distributed.is_initialized()


def rank() -> int:
    """The number of this process; 0 where it is alone."""
    return distributed.get_rank() if _many() else 0


def world() -> int:
    """How many processes train together."""
    return distributed.get_world_size() if _many() else 1


def place() -> str | None:
    """Where a process that ``torchrun`` started is to load its model: "cuda:N"; None: the usual place."""
    local = os.environ.get("LOCAL_RANK")
    return f"cuda:{local}" if local is not None and torch.cuda.is_available() else None


def check_place(device: torch.device) -> None:
    """Refuse a model on another process's GPU: all of them would train on one."""
    own = place()
    if own is not None and device.type == "cuda" and f"cuda:{device.index or 0}" != own:
        raise ValueError(f"this process is to train on {own}, and its model lies on {device}: load it on {own}")


def wait() -> None:
    """Go on when all processes are here."""
    if _many():
        distributed.barrier()


def share(things: Sequence[Thing], model: Any) -> list[Thing]:
    """This process's part of the things; all of them where the model is sharded, since then all must call it."""
    return list(things) if sharded(model) else list(things[rank() :: world()])


def gathered(values: Sequence[Thing], model: Any) -> list[Thing]:
    """All processes' values of a :func:`share`, in no order that matters."""
    if world() == 1 or sharded(model):
        return list(values)
    each: list[list[Thing]] = [[] for _ in range(world())]
    distributed.all_gather_object(each, list(values))
    return [value for some in each for value in some]


def sharded(model: Any) -> bool:
    """Whether any part of the model lies in shards."""
    from torch.distributed.fsdp import FSDPModule

    return any(isinstance(part, FSDPModule) for part in model.modules())


def shard(model: Any) -> None:
    """Lay the text model of a thinker (or of what wraps it) in shards over all processes; towers stay whole.

    Call it after adapters were added and everything is on its device: what learns lies in shards, too, so
    optimizers are made afterwards. All processes must then read the same number of batches. It is for a loop of
    your own around ``forward.score``: ``training.align`` keeps the model whole in each process.

    Raises ValueError where there is no process group, or word embeddings and head are one tensor (tied): two owners
    of one shard.
    """
    from torch.distributed.fsdp import fully_shard

    if not _many():
        raise ValueError("shards lie over several processes: start with torchrun")
    thinker = forward.inner(model)
    words, head = thinker.get_input_embeddings(), thinker.get_output_embeddings()
    if words.weight is head.weight:
        raise ValueError("word embeddings and head are one tensor here (tied): such a small model needs no shards")
    for part in (*thinker.model.language_model.layers, words, head):
        fully_shard(part, reshard_after_forward=True)  # each is a root, which would else stay together
