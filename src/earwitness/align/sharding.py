"""Training in many processes: who writes, who asks which question, and layers that lie in shards.

``torchrun`` starts a process for each GPU. Up to some ten billion parameters each holds the whole model and the
trainers average gradients (DDP): nothing of it is here but that validation is shared out and that one process
writes. Where the weights do not fit, :func:`shard` lays each layer of the text model, its last norm, the word
embeddings and the head in shards (torch's FSDP2), each of them by itself: so they come together wherever they are
called, in the forward of training and in sampling alike. The towers stay whole: processes that hold different kinds
of media call them differently often, and a sharded tower would wait for the others for ever. For the same reason
all processes of a sharded model say the same answers, and agree on each token.

:func:`take` hands a whole trainer over to shards; :class:`InShards` keeps what such a trainer saves whole: a
checkpoint is the same file as that of one process, and training goes on from it in any number of them.

Functions: ``rank``, ``world``, ``place``, ``check_place``; ``wait``, ``share``, ``gathered``, ``joined``, ``same``,
``most``; ``asked``, ``check_started``, ``shard``, ``sharded``, ``take``; ``whole``, ``laid``, ``learned``,
``merged``.
Class: ``InShards``.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import torch
from torch import distributed

from earwitness.models import adapters
from earwitness.models.qwen_wrapped import unwrapped

if TYPE_CHECKING:
    from transformers import Trainer as Base
else:
    Base = object

Thing = TypeVar("Thing")
ALONE = "shards lie over several processes: start with torchrun (docs/scale_training.md)"


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


def joined(things: Sequence[Thing], model: Any) -> tuple[list[Thing], slice]:
    """What all processes must do together where the model is sharded, and which of it is this one's."""
    if world() == 1 or not sharded(model):
        return list(things), slice(0, len(things))
    each: list[list[Thing]] = [[] for _ in range(world())]
    distributed.all_gather_object(each, list(things))
    start = sum(len(some) for some in each[: rank()])
    return [thing for some in each for thing in some], slice(start, start + len(things))


def same(chosen: torch.Tensor) -> torch.Tensor:
    """The first process's tensor, in all of them: one that rounds otherwise would go on for longer, alone."""
    if _many():
        distributed.broadcast(chosen, 0)
    return chosen


def most(count: int, device: torch.device) -> int:
    """The largest of all processes' counts: how often each of them must call what lies in shards."""
    value = torch.tensor(count, device=device)
    distributed.all_reduce(value, distributed.ReduceOp.MAX)
    return int(value)


def sharded(model: Any) -> bool:
    """Whether any part of the model lies in shards."""
    from torch.distributed.fsdp import FSDPModule

    return any(isinstance(part, FSDPModule) for part in model.modules())


def asked() -> bool:
    """Whether accelerate's launcher was told to shard; its own wrapping, which takes the towers too, is called off.

    Raises ValueError for what is not done here: FSDP of version 1, and weights that rest in the machine's memory.
    """
    told = {name: os.environ.get(name, "").lower() for name in ("FSDP_VERSION", "FSDP_OFFLOAD_PARAMS")}
    if os.environ.get("ACCELERATE_USE_FSDP", "").lower() not in ("true", "1"):
        return False
    if told["FSDP_VERSION"] != "2":
        raise ValueError(f"accelerate was told FSDP of version {told['FSDP_VERSION'] or 1}: say fsdp_version: 2")
    if told["FSDP_OFFLOAD_PARAMS"] in ("true", "1"):
        raise ValueError("fsdp_offload_params is not done here: say false, or take more GPUs")
    os.environ.pop("ACCELERATE_USE_FSDP")
    return True


def check_started() -> None:
    """Raise ValueError where this process is not one of torchrun's (or accelerate's)."""
    if "RANK" not in os.environ:
        raise ValueError(ALONE)


def shard(model: Any, mesh: Any = None) -> None:
    """Lay the text model of a thinker (or of what wraps it) in shards over all processes; towers stay whole.

    ``mesh``: a torch DeviceMesh, where it is not to be all processes in one row. Call it after adapters were added
    and everything is on its device: what learns lies in shards, too, so optimizers are made afterwards. All
    processes must then read the same number of batches.

    Raises ValueError where there is no process group, the weights are quantised, or word embeddings and head are
    one tensor (tied): two owners of one shard.
    """
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    if not _many():
        raise ValueError(ALONE)
    thinker = unwrapped(model)
    words, head = thinker.get_input_embeddings(), thinker.get_output_embeddings()
    if words.weight is head.weight:
        raise ValueError("word embeddings and head are one tensor here (tied): such a small model needs no shards")
    if getattr(thinker.config, "quantization_config", None) is not None:
        raise ValueError("quantised weights do not lie in shards: take the checkpoint in bfloat16")
    text = thinker.model.language_model
    mesh = mesh or init_device_mesh(words.weight.device.type, (world(),))
    for part in (*text.layers, text.norm, words, head):
        # Each is a root, which would else stay together.
        fully_shard(part, mesh=mesh, reshard_after_forward=True)


def take(trainer: Any) -> None:
    """Lay a made trainer's model in shards, and its reference. Its optimizer must not have been made.

    Trainer then takes the model for one that was sharded as it was loaded: it neither wraps nor moves it.

    Raises ValueError as :func:`shard` does.
    """
    shard(trainer.model)
    if getattr(trainer, "ref_model", None) is not None:
        shard(trainer.ref_model)
    trainer.is_distributed_loading_by_transformers = True


def whole(value: torch.Tensor) -> torch.Tensor:
    """The tensor in one piece. All processes must ask for it."""
    from torch.distributed.tensor import DTensor

    return value.full_tensor() if isinstance(value, DTensor) else value


def laid(value: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
    """A tensor that all processes hold, lying as ``like`` does where it is of its shape."""
    from torch.distributed.tensor import DTensor, distribute_tensor

    if not isinstance(like, DTensor) or value.shape != like.shape:
        return value
    return distribute_tensor(value.to(like.device), like.device_mesh, like.placements, src_data_rank=None)


def learned(model: Any) -> dict[str, torch.Tensor]:
    """What learns, each tensor in one piece, by name, in the first process; of shards all must ask for it."""
    found: dict[str, torch.Tensor] = {}
    for name, value in model.named_parameters():
        if value.requires_grad:
            full = whole(value.detach())
            if rank() == 0:
                found[name] = full.cpu().contiguous().clone()
    return found


def merged(model: Any) -> dict[str, torch.Tensor]:
    """A thinker's weights as they are saved, with what an adapter adds, gathered one by one in the first process.

    All processes must ask for it; the others get none. The model stays as it is.
    """
    thinker = unwrapped(model)
    found: dict[str, torch.Tensor] = {}
    for name, value in thinker.state_dict().items():
        if ".lora_" in name:
            continue
        full = whole(value.detach())
        module, tuned, leaf = name.partition(".base_layer.")
        if tuned and leaf == "weight":
            layer = thinker.get_submodule(module)
            for adapter in layer.active_adapters:
                a, b = (whole(half[adapter].weight.detach()) for half in (layer.lora_A, layer.lora_B))
                if rank() == 0:
                    full = (full + b @ a * layer.scaling[adapter]).to(full.dtype)
        if rank() == 0:
            found[name.replace(".base_layer.", ".")] = full.cpu()
    return found


class InShards(Base):  # type: ignore[misc]
    """A Trainer whose checkpoints are whole, wherever its model lies: what one process writes, for any number."""

    def create_optimizer(self, *args: Any, **kwargs: Any) -> Any:
        """Its state is gathered where it is told, and laid in shards where it is taken up."""
        made = super().create_optimizer(*args, **kwargs)
        if sharded(self.model) and made is not None:
            made.register_state_dict_post_hook(_gathered_state)
            made.register_load_state_dict_pre_hook(_laid_state)
        return made

    def _save_optimizer_and_scheduler(self, output_dir: str) -> None:
        if sharded(self.model) and not self.args.should_save:
            self.optimizer.state_dict()  # the first process gathers it: all take part
        super()._save_optimizer_and_scheduler(output_dir)

    def _save(self, output_dir: str | None = None, state_dict: Any = None) -> None:
        """An adapter, as ever; of a text model that learns as a whole nothing, it is in the file of our own."""
        if not sharded(self.model):
            super()._save(output_dir, state_dict)
            return
        folder = Path(output_dir or self.args.output_dir)
        if self.args.should_save:
            folder.mkdir(parents=True, exist_ok=True)
        if hasattr(self.model, "get_base_model"):
            kept = learned(self.model)
            if self.args.should_save:
                adapters.save_adapter(self.model, folder, state=kept)

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        """What was learned is taken up from the file of our own (``training.Watch``), and from no other."""


def _gathered_state(optimizer: torch.optim.Optimizer, state: dict[str, Any]) -> dict[str, Any]:
    """An optimizer's state with each tensor in one piece."""
    of = {n: {k: _plain(v) for k, v in some.items()} for n, some in state["state"].items()}
    return {**state, "state": of}


def _plain(value: Any) -> Any:
    return whole(value).cpu() if isinstance(value, torch.Tensor) else value


def _laid_state(optimizer: torch.optim.Optimizer, state: dict[str, Any]) -> dict[str, Any]:
    """... laid as the parameters that it is of."""
    own = [p for group in optimizer.param_groups for p in group["params"]]
    names = [n for group in state["param_groups"] for n in group["params"]]
    of = dict(zip(names, own, strict=True))
    parts = {
        n: {k: laid(v, of[n]) if isinstance(v, torch.Tensor) else v for k, v in some.items()}
        for n, some in state["state"].items()
    }
    return {**state, "state": parts}
