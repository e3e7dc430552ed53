"""What would each layer answer, if it were the last one?

Each text layer's state of a few rows goes through the model's own last norm and output matrix. From the
distribution over the vocabulary that this gives:

``u_top10``   entropy of the ten best logits alone, / ln 10: the uncertainty of MemVR (arXiv 2410.03577, its code:
              norm, output matrix, ten best, softmax over these), which AV-ConfuseBench (arXiv 2511.10059, Figure 1)
              draws by layer and whose threshold 0.75 it takes over
``entropy``   entropy of the whole distribution, / ln of the vocabulary's size
``kl``        KL(layer || last layer), nats: how far the layer still is from what the model says
``logp``      log p of chosen tokens: the given answer's, the first of each choice

The last layer is the model's own output. Rows alone are projected, a few at a time: all rows of a prompt of 16,000
tokens would be 5 GB of logits for each layer.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import torch

from earwitness.models.qwen_wrapped import beside

TOP = 10
LOGITS = 1 << 23  # logits held at once, at most


class States:
    """States of the wanted rows behind each watched layer, in reading order."""

    def __init__(self) -> None:
        self._read: dict[int, list[torch.Tensor]] = {}

    def add(self, layer: int, rows: torch.Tensor) -> None:
        """Keep states [B, R, hidden] behind those kept before."""
        self._read.setdefault(layer, []).append(rows)

    def __getitem__(self, layer: int) -> torch.Tensor:
        """[B, rows, hidden]."""
        return torch.cat(self._read[layer], 1)

    def __len__(self) -> int:
        return len(self._read)

    def __iter__(self) -> Iterator[int]:
        return iter(sorted(self._read))


@dataclass(frozen=True, eq=False)
class Read:
    """What the layers would say: float32 on the CPU, [layers, B, rows] each, ``logp`` [layers, B, rows, picks]."""

    u_top10: torch.Tensor
    entropy: torch.Tensor
    kl: torch.Tensor
    logp: torch.Tensor


@contextmanager
def states(decoder: Any, rows: int | torch.Tensor, layers: Sequence[int] | None = None) -> Iterator[States]:
    """Keep the states of these rows (positions as in ``capture.probe``) behind each layer, or the layers named."""
    kept, past = States(), 0

    def begin(_: Any, args: Any, given: dict[str, Any]) -> None:
        nonlocal past
        cache = given.get("past_key_values")
        past = 0 if cache is None else int(cache.get_seq_length())

    def keep(layer: int, made: Any) -> None:
        if torch._C._current_graph_task_id() != -1:
            return  # gradient checkpointing runs the layer a second time
        hidden = made[0] if isinstance(made, tuple) else made
        if isinstance(rows, int):
            some = hidden[:, max(rows - past, 0) :]
        else:
            some = hidden[:, rows[(rows >= past) & (rows < past + hidden.shape[1])] - past]
        if some.shape[1]:
            kept.add(layer, some.detach().clone())  # not a view: that would hold the whole layer's states

    with ExitStack() as hooks:
        hooks.callback(decoder.register_forward_pre_hook(begin, with_kwargs=True).remove)
        for n in range(len(decoder.layers)) if layers is None else layers:
            hook = decoder.layers[n].register_forward_hook(lambda _m, _a, out, n=n: keep(n, out))
            hooks.callback(hook.remove)
        yield kept


@torch.no_grad()
def read(decoder: Any, head: Any, kept: States, picks: torch.Tensor) -> Read:
    """The lens on kept states; ``head``: the output matrix; ``picks`` [B, rows, n]: token ids to read log p of.

    Raises ValueError where the picks are not of the states' rows.
    """
    layers = list(kept)
    shape = kept[layers[-1]].shape[:2]
    if picks.shape[:2] != shape:
        raise ValueError(f"picks for {tuple(picks.shape[:2])} rows, but the states are of {tuple(shape)}")
    flat = picks.reshape(shape.numel(), -1)
    hidden = [kept[n].flatten(0, 1) for n in layers]
    parts: list[list[list[torch.Tensor]]] = []  # by chunk of rows, layer, measure
    size = max(1, LOGITS // int(head.weight.shape[0]))
    for start in range(0, len(flat), size):
        chosen = flat[start : start + size]
        last = log_probs(decoder, head, hidden[-1][start : start + size])
        parts.append([_measures(log_probs(decoder, head, h[start : start + size]), last, chosen) for h in hidden])

    def joined(measure: int) -> torch.Tensor:
        out = torch.stack([torch.cat([p[n][measure] for p in parts]) for n in range(len(layers))])
        return out.view(len(layers), *shape, *out.shape[2:])

    return Read(joined(0), joined(1), joined(2), joined(3))


def log_probs(decoder: Any, head: Any, hidden: torch.Tensor) -> torch.Tensor:
    """Log-probs [N, vocabulary] in float32 of states [N, hidden] not yet normed."""
    logits: torch.Tensor = head(beside(decoder.norm(beside(hidden, decoder.norm)), head))
    return logits.float().log_softmax(-1)


def _measures(logp: torch.Tensor, last: torch.Tensor, picks: torch.Tensor) -> list[torch.Tensor]:
    best = logp.topk(min(TOP, logp.shape[-1]), -1).values.log_softmax(-1)
    p = logp.exp()
    return [
        (-(best.exp() * best).sum(-1) / math.log(best.shape[-1])).cpu(),
        (-(p * logp).sum(-1) / math.log(logp.shape[-1])).cpu(),
        (p * (logp - last)).sum(-1).cpu(),
        logp.gather(-1, picks.to(logp.device)).cpu(),
    ]
