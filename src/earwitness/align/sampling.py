"""What a model in training says: greedily, to validate it, or several samples a question, to reward them.

The adapter's own decoding (``qwen_decode``) behind the features that training holds anyway: media are read once for
all questions and samples behind them. A media token is never drawn: the next pass would look for its features.

What is drawn can be made to depend on a seed of its own for each item: then it is the same whatever is asked beside
it, in however many processes, and after a training that was stopped.

Differs from sampling in general: nothing but temperature and top-p. The log-probs told are those at that
temperature, of the whole vocabulary (media tokens and what top-p cuts off keep their share), which is what training
scores; greedy answers have those at temperature 1.

Functions: ``say`` (samples of each item), ``texts``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch

from earwitness.align import sharding
from earwitness.align.feeding import Feeder
from earwitness.models import qwen_decode as decode
from earwitness.records import Item

Draw = Callable[[torch.Tensor], torch.Tensor]
BATCH = 64  # answers written together
SHOWN = 16  # media read together


@dataclass(frozen=True)
class Sample:
    """One answer: its tokens, the end of the turn included where it came to one, and their log-probs."""

    tokens: tuple[int, ...]
    logprobs: tuple[float, ...]
    ended: bool


def say(
    feeder: Feeder, items: Sequence[Item], *, tokens: int | None = None, samples: int = 1, temperature: float = 0.0,
    top_p: float = 1.0, generator: torch.Generator | None = None, seeds: Sequence[int] | None = None,
) -> list[list[Sample]]:  # fmt: skip
    """``samples`` answers to each item, of ``tokens`` tokens at most (default: each item's ``decode``).

    ``temperature`` 0 is greedy. ``seeds``, one an item, name what its samples are drawn by; without, it is
    ``generator`` (None: torch's own). The model is asked in eval mode and left in the mode it was in.
    Where it lies in shards all processes must ask for the same.

    Raises ValueError for more samples than one at temperature 0, and for seeds that are not one an item.
    """
    if samples > 1 and temperature <= 0:
        raise ValueError(f"{samples} samples at temperature 0 are {samples} times the same answer")
    if seeds is not None and len(seeds) != len(items):
        raise ValueError(f"{len(seeds)} seeds for {len(items)} items: one an item")
    model, thinker = feeder.model.model, feeder.model.thinker
    if temperature > 0:
        thinker = replace(thinker, model=_Warm(thinker.bare, temperature))
    stop = set(thinker.ends)
    split = sharding.sharded(model)
    was = model.training
    model.eval()
    found: list[list[Sample]] = [[] for _ in items]
    try:
        with torch.no_grad():
            for places in _together(feeder, items):
                shown = [feeder.shown([items[n]])[0] for n in places]
                kinds: dict[object, int] = {}
                for s, _ in shown:
                    kinds.setdefault(s.key, len(kinds))
                first = {kinds[s.key]: s for s, _ in reversed(shown)}
                media = [first[k] for k in range(len(kinds))]
                prefix = decode.prefill(
                    thinker, [m.layout for m in media], [m.seen for m in media], [m.heard for m in media]
                )
                rows = [
                    (n, k, decode.Row(kinds[s.key], question, (), tokens or items[n].decode))
                    for n, (s, question) in zip(places, shown, strict=True)
                    for k in range(samples)
                ]
                for start in range(0, len(rows), BATCH):
                    some = rows[start : start + BATCH]
                    asked = [row for *_, row in some]
                    at = torch.tensor([row.prefix for row in asked], device=thinker.device)
                    cache = decode.spread(prefix, at)
                    scores, mask, ends = decode.read_question(thinker, cache, prefix, at, asked)
                    limits = [row.limit for row in asked]
                    draw: Draw | None = _likeliest if split else None
                    if temperature > 0:
                        named = None if seeds is None else [seeds[n] * samples + k for n, k, _ in some]
                        draw = _Drawing(limits, stop, _numbers(limits, named, generator), top_p, agree=split)
                    written = decode.write(thinker, cache, mask, ends, scores, limits, draw=draw, ended=True)
                    for (n, *_), steps in zip(some, written, strict=True):
                        said = tuple(step.token for step in steps)
                        found[n].append(
                            Sample(said, tuple(s.logprob for s in steps), bool(said) and said[-1] in stop)
                        )
    finally:
        model.train(was)
    return found


def texts(feeder: Feeder, found: Sequence[Sequence[Sample]]) -> list[list[str]]:
    """Their words, special tokens left out."""
    return [[decode.whole_text(feeder.model.thinker, s.tokens) for s in some] for some in found]


def _together(feeder: Feeder, items: Sequence[Item]) -> list[list[int]]:
    """Places of items to be asked together: one kind of media (as a prefix batch has), same ones adjacent."""
    kinds: dict[str, list[int]] = {}
    for n, (shown, _) in enumerate(feeder.shown(items)):
        kinds.setdefault(shown.layout.kind, []).append(n)
    out = []
    for places in kinds.values():
        ordered = sorted(places, key=lambda n: (items[n].clip, items[n].intervention.key))
        batch: list[int] = []
        seen: set[tuple[str, str]] = set()
        for n in ordered:
            name = (items[n].clip, items[n].intervention.key)
            if len(seen | {name}) > SHOWN:
                out.append(batch)
                batch, seen = [], set()
            batch.append(n)
            seen.add(name)
        out.append(batch)
    return out


class _Warm:
    """The parts of a thinker that decoding uses, the logits divided by a temperature."""

    def __init__(self, model: Any, temperature: float) -> None:
        self.model, self.get_input_embeddings = model.model, model.get_input_embeddings
        self._head, self._temperature = model.lm_head, temperature

    def lm_head(self, hidden: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self._head(hidden).float() / self._temperature
        return logits


def _numbers(limits: Sequence[int], seeds: Sequence[int] | None, generator: torch.Generator | None) -> torch.Tensor:
    """Numbers in [0, 1) [rows, longest]: the one that each token of each row is drawn by."""
    longest = max(limits)
    if seeds is None:
        return torch.rand(len(limits), longest, generator=generator, dtype=torch.float64)
    own = [torch.Generator().manual_seed(seed % 2**63) for seed in seeds]
    return torch.stack([torch.rand(longest, generator=g, dtype=torch.float64) for g in own])


def _likeliest(scores: torch.Tensor) -> torch.Tensor:
    """The likeliest tokens, the same in all processes of a sharded model."""
    return sharding.same(scores.argmax(-1))


class _Drawing:
    """Draws the tokens of a batch of rows, each row by its own numbers, as rows that are done leave the batch.

    A token is where its row's number falls in the cumulated probabilities. ``agree``: as the first process draws.
    """

    def __init__(
        self, limits: Sequence[int], stop: set[int], numbers: torch.Tensor, top_p: float, *, agree: bool = False
    ) -> None:
        self._limits, self._stop, self._numbers, self._top_p, self._agree = limits, stop, numbers, top_p, agree
        self._live = list(range(len(limits)))
        self._done: set[int] = set()
        self._step = 0

    def __call__(self, scores: torch.Tensor) -> torch.Tensor:
        if len(scores) < len(self._live):
            self._live = [row for row in self._live if row not in self._done]
        assert len(scores) == len(self._live), "rows have left the batch that were not done"
        p = scores.double().exp()
        if self._top_p < 1:
            ranked, order = (p / p.sum(-1, keepdim=True)).sort(-1, descending=True)
            ranked = ranked * ((ranked.cumsum(-1) - ranked) < self._top_p)
            p = torch.zeros_like(p).scatter(-1, order, ranked)
        heaped = p.cumsum(-1)
        number = self._numbers[self._live, self._step].to(scores.device)
        chosen = torch.searchsorted(heaped, (number * heaped[:, -1])[:, None], right=True)[:, 0]
        chosen = chosen.clamp(max=scores.shape[-1] - 1)
        if self._agree:
            chosen = sharding.same(chosen)
        self._step += 1
        for row, token in zip(self._live, chosen.tolist(), strict=True):
            if token in self._stop or self._step >= self._limits[row]:
                self._done.add(row)
        return chosen
