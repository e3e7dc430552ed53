"""What does the answer lose when a path of attention is cut, and what when it is not that path but as many others?

How much attention goes to a group of tokens says nothing of what it does there. Here the path is taken away: some
tokens (``video``) are hidden from some others (``answer``), in some layers, and the answer is read again. Edges are
written as in ``edges``.

A cut path is off the road that the model was trained on: attention that went there goes elsewhere, much of it to
the sink. So every cut stands beside **controls**: as many tokens, drawn from all others that the target can see
(sink and asking token left out), hidden from the same target in the same layers. Where there are fewer others than
tokens cut, the control takes them all, and ``Knockout.control_keys`` says how many. In a target inside the prompt
a drawn token may ask itself, and is then hidden from itself too.

What is read: log p of the given answer, and of each choice, with the cut and without. This is the attention
knockout of Geva et al. 2023 (arXiv 2304.14767, section 5), equal to their dense mask of all tokens by all tokens
to 1e-6; but only rows of the target are computed again, and what lies before the first of them once for all cuts.
A ``factor`` other than 0 weighs the path instead: weights times the factor, then normalised again.

Function: ``measure``; over a run folder: ``knockout.knockout``.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from earwitness.models import qwen_decode
from earwitness.models.qwen_omni import QwenOmni
from earwitness.records import Item, Media, digest
from earwitness.whitebox import forward
from earwitness.whitebox.attention import text_decoder
from earwitness.whitebox.capture import Edit, answer_logprobs, probe
from earwitness.whitebox.edges import Cut, Knockout, Path, Reading, drawn, media_end, path, read_edge
from earwitness.whitebox.groups import Tokens

DIGITS = 6  # of log-probs as they are written down: float32 has no more to say
Ways = Sequence[Path]  # one for each way of the edge; none: nothing is cut


@dataclass(frozen=True, eq=False)
class Plan:
    """A cut on one item: the paths of the cut itself, then of its controls; none where it hides no token."""

    rounds: Sequence[Ways] = ()
    keys: int = 0
    control_keys: int = 0


def measure(
    model: QwenOmni,
    items: Sequence[Item],
    media: Sequence[Media],
    answers: Sequence[forward.Given],
    cuts: Sequence[Cut],
    *,
    controls: int = 3,
    seed: int = 0,
    plain: bool = False,
) -> list[list[Knockout]]:
    """The cuts on each item, in the items' order; a cut that hides no token of an item is left out there.

    Parameters
    ----------
    controls : random draws beside each cut. They depend on item, edge, ``seed`` and number alone: windows and
        runs compare like with like.
    plain : a whole pass for each answer, each choice and each cut, nothing shared: what the other way is held to.

    Raises
    ------
    ValueError
        For an unknown edge or layer, and what ``capture.capture`` raises for.
    """
    task = _Task(tuple(cuts), controls, seed)
    task.check(text_decoder(model.thinker.bare))
    candidates = [
        (forward.answer_tokens(model.thinker, i, a), *(_tokens(model, c) for c in i.choices))
        for i, a in zip(items, answers, strict=True)
    ]
    if plain:
        each = [(n, tokens) for n, some in enumerate(candidates) for tokens in some]
        made = iter(
            forward.each_batch(
                model, [items[n] for n, _ in each], [media[n] for n, _ in each], [t for _, t in each],
                partial(_plainly, task),
            )
        )  # fmt: skip
        read = [_joined([next(made) for _ in some]) for some in candidates]
    else:
        firsts = [some[0] for some in candidates]
        read = forward.each_batch(model, items, media, firsts, partial(_shared, task))
    return [_records(i, r, task) for i, r in zip(items, read, strict=True)]


def _tokens(model: QwenOmni, text: str) -> tuple[int, ...]:
    return tuple(int(i) for i in model.processor.tokenizer(text)["input_ids"])


@dataclass(frozen=True)
class _Task:
    cuts: tuple[Cut, ...]
    controls: int
    seed: int

    def check(self, decoder: Any) -> None:
        """Raise ValueError for what this model has not."""
        layers, heads = len(decoder.layers), int(decoder.config.num_attention_heads)
        if self.controls < 0:
            raise ValueError(f"{self.controls} controls: 0 or more")
        for cut in self.cuts:
            read_edge(cut.edge)
            low, high = cut.layers
            if not 0 <= low <= high < layers:
                raise ValueError(f"layers {low}-{high}: the model has {layers} layers, counted from 0")
            if not (math.isfinite(cut.factor) and cut.factor >= 0):
                raise ValueError(f"factor {cut.factor}: 0 cuts a path, a number above 0 weighs it")
            if any(not 0 <= h < heads for h in cut.heads):
                raise ValueError(f"heads {cut.heads}: the model has {heads} heads in a layer, counted from 0")

    def plans(self, item: Item, tokens: Tokens) -> list[Plan]:
        """Every cut on one item."""
        groups = tokens.groups[: tokens.prompt]
        return [self._plan(item, groups, cut) for cut in self.cuts]

    def _plan(self, item: Item, groups: NDArray[np.int8], cut: Cut) -> Plan:
        ways = read_edge(cut.edge)
        real = [path(a, b, groups) for a, b in ways]
        if not _hidden(real):
            return Plan()
        random = [
            [
                drawn(a, p, groups, digest("control", item.id, cut.edge, self.seed, n, way))
                for way, ((a, _), p) in enumerate(zip(ways, real, strict=True))
            ]
            for n in range(max(1, self.controls))
        ]
        size = _hidden(random[0])  # 0: there is nothing else to hide, and no control
        return Plan([real, *(random[: self.controls] if size else ())], _hidden(real), size)


def _hidden(ways: Ways) -> int:
    return sum(int(p.keys.sum()) for p in ways)


# --- reading -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class _Read:
    """One item's log-probs [candidates] as it is and, by cut, with the cut and with each of its controls."""

    plans: list[Plan]
    plain: list[float]
    changed: list[list[list[float]]]


@dataclass(frozen=True, eq=False)
class Places:
    """Where in a batch of ``width`` columns each prompt stands [prompt], and where what follows it begins."""

    columns: list[torch.Tensor]
    behind: list[int]
    width: int

    def bias(self, cut: Cut, ways: Sequence[Ways]) -> dict[int, list[Edit]]:
        """Edits by layer, from each item's paths."""
        edits = []
        for way in range(len(read_edge(cut.edge))):
            # The one column more stands for all tokens that are written later.
            queries = torch.zeros(len(ways), self.width + 1, dtype=torch.bool)
            keys = torch.zeros_like(queries)
            for n, (some, columns, behind) in enumerate(zip(ways, self.columns, self.behind, strict=True)):
                if some:
                    queries[n, columns] = torch.from_numpy(some[way].queries[:-1])
                    queries[n, behind:] = bool(some[way].queries[-1])
                    keys[n, columns] = torch.from_numpy(some[way].keys)
            value = math.log(cut.factor) if cut.factor else -math.inf
            edits.append(Edit(queries, keys, value, cut.heads or None))
        return dict.fromkeys(range(cut.layers[0], cut.layers[1] + 1), edits)


def places(batch: forward.Batch) -> Places:
    """Those of a batch that is run as one pass (``forward.run``)."""
    length = batch.groups.shape[1]
    starts = [length - len(t.ids) for t in batch.tokens]
    columns = [torch.arange(s, s + t.prompt) for s, t in zip(starts, batch.tokens, strict=True)]
    return Places(columns, [int(c[-1]) + 1 for c in columns], length)


_Reader = Callable[[Cut | None, Sequence[Ways]], list[list[float]]]


def _swept(task: _Task, batch: forward.Batch, read: _Reader) -> list[_Read]:
    """All cuts on one batch; ``read`` gives each item's log-probs with its paths cut."""
    plans = [task.plans(a.item, t) for a, t in zip(batch.asked, batch.tokens, strict=True)]
    out = [_Read(p, base, []) for p, base in zip(plans, read(None, [()] * len(plans)), strict=True)]
    for number, cut in enumerate(task.cuts):
        rounds = [p[number].rounds for p in plans]
        made = [
            read(cut, [mine[n] if n < len(mine) else () for mine in rounds]) for n in range(max(map(len, rounds)))
        ]
        for n, (one, mine) in enumerate(zip(out, rounds, strict=True)):
            one.changed.append([m[n] for m in made[: len(mine)]])
    return out


def _plainly(task: _Task, batch: forward.Batch) -> list[_Read]:
    """One whole pass for everything: the items of the batch have one candidate each, their answer."""
    where = places(batch)

    def read(cut: Cut | None, ways: Sequence[Ways]) -> list[list[float]]:
        made = answer_logprobs(batch, None if cut is None else where.bias(cut, ways))
        return [[float(m.sum(dtype=np.float64))] for m in made]

    return _swept(task, batch, read)


def _joined(parts: Sequence[_Read]) -> _Read:
    """One item's candidates, read one by one, together."""
    changed = [
        [[x for part in parts for x in part.changed[c][r]] for r in range(len(parts[0].changed[c]))]
        for c in range(len(parts[0].changed))
    ]
    return _Read(parts[0].plans, [x for part in parts for x in part.plain], changed)


def _shared(task: _Task, batch: forward.Batch) -> list[_Read]:
    """What lies before the first token of the target is computed once, all candidates hang behind the prompt."""
    thinker, decoder = batch.thinker, batch.decoder
    tokenizer = thinker.processor.tokenizer
    choices = [[tuple(int(i) for i in tokenizer(c)["input_ids"]) for c in a.item.choices] for a in batch.asked]
    held: dict[tuple[int, ...], qwen_decode.Prefix] = {}

    def prefix(splits: tuple[int, ...]) -> qwen_decode.Prefix:
        layouts = [
            replace(x, ids=x.ids[:s], positions=x.positions[:, :s])
            for x, s in zip(batch.layouts, splits, strict=True)
        ]
        return qwen_decode.prefill(thinker, layouts, batch.seen, batch.heard)

    def read(cut: Cut | None, ways: Sequence[Ways]) -> list[list[float]]:
        splits, apart = _splits(batch, ways)
        longest = max(splits)
        columns = [torch.arange(t.prompt) + longest - s for t, s in zip(batch.tokens, splits, strict=True)]
        where = Places(columns, [int(c[-1]) + 1 for c in columns], max(int(c[-1]) + 1 for c in columns))
        if apart and splits not in held:
            held.clear()
            held[splits] = prefix(splits)
        rows = [
            qwen_decode.Row(n, t.ids[s : t.prompt], (a.answer, *choices[n]), 0)
            for n, (a, t, s) in enumerate(zip(batch.asked, batch.tokens, splits, strict=True))
        ]
        with probe(decoder, None, 0, None if cut is None else where.bias(cut, ways)):
            before = held[splits] if apart else prefix(splits)
            return [list(s.logprobs) for s in qwen_decode.ask(thinker, before, rows)]

    return _swept(task, batch, read)


def _splits(batch: forward.Batch, ways: Sequence[Ways]) -> tuple[tuple[int, ...], bool]:
    """How much of each prompt comes first, and whether the cut leaves all of that as it is.

    Only text behind the media can follow a prefix: where media are asked from, the prefix is part of the cut.
    """
    last = tuple(t.prompt - 1 for t in batch.tokens)
    out = []
    for some, tokens in zip(ways, batch.tokens, strict=True):
        asking = [int(np.flatnonzero(p.queries)[0]) for p in some if p.keys.any()]
        first = min([*asking, tokens.prompt - 1])
        if first < media_end(tokens.groups[: tokens.prompt]):
            return last, False
        out.append(first)
    return tuple(out), True


def _records(item: Item, read: _Read, task: _Task) -> list[Knockout]:
    def reading(values: Sequence[float]) -> Reading:
        answer, *choices = (round(v, DIGITS) for v in values)
        return Reading(answer, dict(zip(item.choices, choices, strict=True)))

    return [
        Knockout(
            item=item.id, edge=cut.edge, layers=cut.layers, factor=cut.factor, heads=cut.heads, seed=task.seed,
            keys=plan.keys, control_keys=plan.control_keys,
            plain=reading(read.plain), cut=reading(made[0]), controls=tuple(reading(m) for m in made[1:]),
        )
        for cut, plan, made in zip(task.cuts, read.plans, read.changed, strict=True)
        if made
    ]  # fmt: skip
