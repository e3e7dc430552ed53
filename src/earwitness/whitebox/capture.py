"""Where do the answer's rows of attention go, layer by layer and head by head, while the model runs as it is?

``probe`` watches the text layers of any forward or ``generate``: for the query rows asked for it keeps the softmax
mass that falls on each group of tokens, and the sum of squares within the group, from which the variance over
tokens follows without storing a row. It can also change what rows see (``Edit``): cut a path (-inf) or weigh it
(log of a factor); then only the changed rows are computed again.

``capture`` is the whole measurement for an item and its answer: one pass over prompt and answer, read by ``probe``
and by the lens.

What equals what, measured: masses of eager attention to 5e-6 in float32 (mixture of experts 1e-4); a dense mask of
all tokens by all tokens to 2e-6 for ``Edit`` (last states).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from earwitness.models.qwen_omni import QwenOmni
from earwitness.records import Item, Media
from earwitness.whitebox import forward, lens
from earwitness.whitebox.attention import Call, Out, around, attend, rows_in, scores
from earwitness.whitebox.groups import counts, spelled
from earwitness.whitebox.moments import GROUPS, Captured

CHUNK = 64  # rows read at once: bounds the memory
MANY = 512  # rows recomputed at once


@dataclass(frozen=True, eq=False)
class Edit:
    """What is added to the scores of some queries on some keys: -inf cuts the path, log(a) weighs it by a.

    ``queries`` and ``keys`` are masks [B, T] (or [T] for all) over positions. Tokens written later are asked from
    like the last position, and are never among the keys. ``heads``: only these (None: all).
    """

    queries: torch.Tensor
    keys: torch.Tensor
    value: float = -torch.inf
    heads: tuple[int, ...] | None = None


Bias = Mapping[int, Sequence[Edit]]  # by layer


def capture(
    model: QwenOmni,
    items: Sequence[Item],
    media: Sequence[Media],
    answers: Sequence[forward.Given],
    *,
    values: bool = False,
    keep_layers: Sequence[int] = (),
    lens: bool = True,
) -> list[Captured]:
    """What the model attends to, and what its layers would say, where it gives these answers; in the items' order.

    Parameters
    ----------
    answers : a text, or the very tokens that were said (of a served model), for each item.
    values : also ``Captured.value``. keep_layers : layers whose whole rows are kept, for heat maps.
    lens : also entropies and log-probs by layer (costs the output matrix for each layer and row).

    Raises
    ------
    ValueError
        Where an answer is empty, media do not fit the model, or its attention cannot be read.
    """
    return forward.each_batch(
        model, items, media, answers, lambda batch: _captured(batch, values, keep_layers, lens)
    )


def answer_logprobs(batch: forward.Batch, bias: Bias | None = None) -> list[NDArray[np.float32]]:
    """Log p of each token of each item's answer [tokens], with the attention edited or as it is."""
    last = len(batch.decoder.layers) - 1
    with probe(batch.decoder, None, 0, bias), lens.states(batch.decoder, batch.rows, [last]) as kept:
        forward.run(batch)
    read = lens.read(batch.decoder, batch.head, kept, batch.targets[..., None])
    return [read.logp[0, n, batch.own(n), 0].numpy() for n in range(len(batch.asked))]


def _captured(batch: forward.Batch, values: bool, keep: Sequence[int], with_lens: bool) -> list[Captured]:
    decoder = batch.decoder
    watched = None if with_lens else ()
    with (
        probe(decoder, batch.groups, batch.rows, values=values, keep=keep) as taken,
        lens.states(decoder, batch.rows, watched) as kept,
    ):
        forward.run(batch)
    mass, mass2 = taken.mass.numpy(), taken.mass2.numpy()
    value = taken.value.numpy() if values else None
    firsts = [_first_tokens(batch, a.item) for a in batch.asked]
    read = None
    if with_lens:
        picks = torch.zeros(*batch.targets.shape, 1 + max(len(f) for f in firsts), dtype=torch.long)
        picks[..., 0] = batch.targets
        for n, first in enumerate(firsts):
            picks[n, :, 1 : 1 + len(first)] = torch.tensor(list(first.values()), dtype=torch.long)
        read = lens.read(decoder, batch.head, kept, picks)
    out = []
    tokenizer = batch.thinker.processor.tokenizer
    for n, (asked, tokens) in enumerate(zip(batch.asked, batch.tokens, strict=True)):
        own, length = batch.own(n), len(tokens.ids)
        by_layer: dict[str, Any] = {}
        if read is not None:
            at_first = read.logp[:, n, own][:, 0, 1:].numpy()
            by_layer = {
                "u_top10": read.u_top10[:, n, own].numpy(),
                "entropy": read.entropy[:, n, own].numpy(),
                "kl": read.kl[:, n, own].numpy(),
                "logp_answer": read.logp[:, n, own, 0].numpy(),
                "logp_choice": {c: at_first[:, i].copy() for i, c in enumerate(firsts[n])},
            }
        if keep:
            rows = {layer: taken.rows(layer)[n, own, -length:].numpy().copy() for layer in keep}
            by_layer |= {"kept": rows, "words": tokens.words}
            by_layer |= {"groups": tokens.groups, "seconds": tokens.seconds}
        out.append(
            Captured(
                item=asked.item.id,
                answer=str(tokenizer.decode(list(asked.answer), skip_special_tokens=True)),
                tokens=spelled(tokenizer, asked.answer),
                count=counts(tokens.groups),
                mass=mass[:, n, :, own].copy(),
                mass2=mass2[:, n, :, own].copy(),
                value=None if value is None else value[:, n, :, own].copy(),
                **by_layer,
            )
        )
    return out


def _first_tokens(batch: forward.Batch, item: Item) -> dict[str, int]:
    """First token of each choice; choices that share it cannot be told apart in the first row."""
    tokenizer = batch.thinker.processor.tokenizer
    return {c: int(tokenizer(c)["input_ids"][0]) for c in item.choices}


class Taken:
    """What a probe has read: all [layers, batch, heads, rows, groups], float32 on the CPU; rows in reading order.

    A row that stands on padding has no mass: zeros.
    """

    def __init__(self, layers: int) -> None:
        self._read: list[dict[str, list[torch.Tensor]]] = [{} for _ in range(layers)]

    def add(self, layer: int, what: str, values: torch.Tensor) -> None:
        """Keep values of some rows of a layer, behind those kept before."""
        self._read[layer].setdefault(what, []).append(values)

    def _joined(self, what: str) -> torch.Tensor:
        if not self._read[0].get(what):
            raise ValueError(f"the probe has read no {what}: no wanted row was asked from while it was there")
        return torch.stack([torch.cat(layer[what], 2).cpu() for layer in self._read]).nan_to_num_()

    @property
    def mass(self) -> torch.Tensor:
        """Softmax mass of each row on each group; sums to 1 over the groups."""
        return self._joined("mass")

    @property
    def mass2(self) -> torch.Tensor:
        """Sum of the squared weights in each group."""
        return self._joined("mass2")

    @property
    def value(self) -> torch.Tensor:
        """Length of the weighted sum of each group's values, before the output projection."""
        return self._joined("value")

    def rows(self, layer: int) -> torch.Tensor:
        """Whole rows of a kept layer, mean over heads: [batch, rows, tokens], tokens not yet there being zeros."""
        parts = self._read[layer].get("rows", [])
        if not parts:
            raise ValueError(f"rows of layer {layer} were not kept: name it in keep")
        longest = max(p.shape[-1] for p in parts)
        return (
            torch.cat([torch.nn.functional.pad(p, (0, longest - p.shape[-1])) for p in parts], 1)
            .cpu()
            .nan_to_num_()
        )


@contextmanager
def probe(
    decoder: Any,
    groups: torch.Tensor | None,
    rows: int | torch.Tensor,
    bias: Bias | None = None,
    *,
    values: bool = False,
    keep: Sequence[int] = (),
) -> Iterator[Taken]:
    """Read, and where asked change, the attention of a text decoder for as long as the context lasts.

    Parameters
    ----------
    decoder : ``attention.text_decoder(model)``.
    groups : group of each token [B, T], numbers of ``moments.GROUPS``, -1 = padding; tokens behind T are
        "generated". None: read nothing.
    rows : positions to read, ascending; an int: all from that one on (``prompt length - 1`` for an answer: its row
        predicts the first token). Positions count padding on the left.
    bias : edits by layer. Where probes are nested, give the edits to the innermost: it computes their rows anew.
    values : also ``Taken.value`` (costs a few per cent more).
    keep : layers whose whole rows are kept (``Taken.rows``).

    A pass that gradient checkpointing repeats on the way back is edited again but not read twice.

    Raises
    ------
    ValueError
        Where the model's attention cannot be read, or a layer is named that it has not.
    """
    count = len(decoder.layers)
    unknown = sorted({n for n in (*keep, *(bias or ())) if not 0 <= n < count})
    if unknown:
        raise ValueError(f"no layer {unknown[0]}: the model has {count}, counted from 0")
    taken, sorter = Taken(count), None if groups is None else _Sorter(groups)
    kept, edits = frozenset(keep), bias or {}

    def see(call: Call, proceed: Any) -> Out:
        out, weights = proceed(call)
        mine = edits.get(call.layer, ())
        if mine:
            out = _edited(call, out, mine)
        repeated = torch._C._current_graph_task_id() != -1  # inside a backward pass
        if sorter is not None and not repeated:
            with torch.no_grad():
                for part in torch.split(rows_in(call, rows), CHUNK):
                    if len(part):
                        _read(taken, call, part, sorter, mine, values, call.layer in kept)
        return out, weights

    with around(decoder, see):
        yield taken


class _Sorter:
    """Which group each key belongs to, on the device of the layer that asks."""

    def __init__(self, groups: torch.Tensor) -> None:
        self._groups = groups.long().cpu()
        self._hot: dict[tuple[torch.device, int], torch.Tensor] = {}
        self._members: dict[tuple[torch.device, int], list[list[torch.Tensor]]] = {}

    def _upto(self, total: int) -> torch.Tensor:
        more = total - self._groups.shape[1]
        g = torch.nn.functional.pad(self._groups, (0, max(more, 0)), value=GROUPS.index("generated"))
        return g[:, :total]

    def one_hot(self, call: Call) -> torch.Tensor:
        """[B, K, groups], 1 where the key is of the group."""
        key = (call.key.device, call.total)
        if key not in self._hot:
            self._hot = {k: v for k, v in self._hot.items() if k[1] == call.total}  # one length at a time
            made = self._upto(call.total)[..., None] == torch.arange(len(GROUPS))
            self._hot[key] = made.float().to(call.key.device)
        return self._hot[key][:, call.begin :]

    def members(self, call: Call) -> list[list[torch.Tensor]]:
        """By clip and group: indices into the keys."""
        key = (call.key.device, call.total)
        if key not in self._members:
            self._members = {k: v for k, v in self._members.items() if k[1] == call.total}
            made = self._upto(call.total)
            self._members[key] = [
                [(row == n).nonzero()[:, 0].to(call.key.device) for n in range(len(GROUPS))] for row in made
            ]
        found = self._members[key]
        if call.begin == 0:
            return found
        return [[some[some >= call.begin] - call.begin for some in row] for row in found]


def _read(
    taken: Taken,
    call: Call,
    rows: torch.Tensor,
    sorter: _Sorter,
    edits: Sequence[Edit],
    values: bool,
    whole: bool,
) -> None:
    weights = torch.softmax(scores(call, rows, _added(call, rows, edits)), -1)  # [B, H, R, K]
    batch, heads, count, span = weights.shape
    hot = sorter.one_hot(call)

    def by_group(w: torch.Tensor) -> torch.Tensor:
        return (w.view(batch, heads * count, span) @ hot).view(batch, heads, count, -1)

    taken.add(call.layer, "mass", by_group(weights))
    if whole:
        taken.add(call.layer, "rows", torch.nn.functional.pad(weights.mean(1), (call.begin, 0)))
    if values:
        taken.add(call.layer, "value", _value_norms(weights, call, sorter.members(call)))
    taken.add(call.layer, "mass2", by_group(weights.square_()))


def _value_norms(weights: torch.Tensor, call: Call, members: list[list[torch.Tensor]]) -> torch.Tensor:
    """|sum of weight x value| over the keys of each group: [B, H, R, groups].

    Keys are gathered by group first, so that all groups together cost one product of weights and values.
    """
    batch, heads, count, span = weights.shape
    value = call.value[:, :, :span].float()
    shared = value.shape[1]
    out = weights.new_zeros(batch, heads, count, len(GROUPS))
    for b, row in enumerate(members):
        for n, some in enumerate(row):
            if len(some):
                part = weights[b].view(shared, -1, span)[..., some] @ value[b][:, some]
                out[b, ..., n] = torch.linalg.vector_norm(part, dim=-1).view(heads, count)
    return out


def _added(call: Call, rows: torch.Tensor, edits: Sequence[Edit]) -> torch.Tensor | None:
    """What the edits add to the scores of these rows: [B, 1 or H, R, K]; None where they touch none of them."""
    device, batch, heads = call.key.device, call.query.shape[0], call.query.shape[1]
    out: torch.Tensor | None = None
    for edit in edits:
        asking = _asking(edit, rows)
        if not bool(asking.any()):
            continue
        keys = _batched(edit.keys).to(device)
        more = call.total - keys.shape[1]
        keys = torch.nn.functional.pad(keys, (0, max(more, 0)))[:, call.begin : call.total]
        path = (asking.to(device)[:, :, None] & keys[:, None]).expand(batch, -1, -1)[:, None]  # [B, 1, R, K]
        if edit.heads is not None:
            chosen = torch.zeros(heads, dtype=torch.bool, device=device)
            chosen[list(edit.heads)] = True
            path = path & chosen[None, :, None, None]
        add = torch.zeros(path.shape, device=device).masked_fill_(path, edit.value)
        out = add if out is None else out + add
    return out


def _batched(mask: torch.Tensor) -> torch.Tensor:
    return mask[None] if mask.ndim == 1 else mask


def _asking(edit: Edit, rows: torch.Tensor) -> torch.Tensor:
    """Which of these rows the edit changes: [B or 1, R], on the CPU."""
    queries = _batched(edit.queries).cpu()
    return queries[:, rows.clamp(max=queries.shape[1] - 1)]


def _edited(call: Call, out: torch.Tensor, edits: Sequence[Edit]) -> torch.Tensor:
    """The layer's output with the edited rows computed anew."""
    asked = torch.arange(call.past, call.total)
    touched = torch.stack([_asking(edit, asked).any(0) for edit in edits]).any(0)
    rows = asked[touched]
    if not len(rows):
        return out
    if out.requires_grad:
        out = out.clone()
    for part in torch.split(rows, MANY):
        added = _added(call, part, edits)
        assert added is not None
        out[:, part - call.past] = attend(call, part, added)
    return out
