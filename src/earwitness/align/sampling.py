"""What a model in training says: greedily, to validate it, or several samples a question, to reward them.

The adapter's own decoding (``qwen_decode``) behind the features that training holds anyway: media are read once for
all questions and samples behind them. A media token is never drawn: the next pass would look for its features.

Differs from sampling in general: nothing but temperature and top-p; the log-probs told are those at temperature 1.

Functions: ``say`` (samples of each item), ``texts``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

from earwitness.align.feeding import Feeder
from earwitness.models import qwen_decode as decode
from earwitness.records import Item

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
    top_p: float = 1.0, generator: torch.Generator | None = None,
) -> list[list[Sample]]:  # fmt: skip
    """``samples`` answers to each item, of ``tokens`` tokens at most (default: each item's ``decode``).

    ``temperature`` 0 is greedy. The model is asked in eval mode and left in the mode it was in.

    Raises ValueError for more samples than one at temperature 0.
    """
    if samples > 1 and temperature <= 0:
        raise ValueError(f"{samples} samples at temperature 0 are {samples} times the same answer")
    model, thinker = feeder.model.model, feeder.model.thinker
    draw = _drawing(temperature, top_p, generator) if temperature > 0 else None
    stop = set(thinker.ends)
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
                    (n, decode.Row(kinds[s.key], question, (), tokens or items[n].decode))
                    for n, (s, question) in zip(places, shown, strict=True)
                    for _ in range(samples)
                ]
                for start in range(0, len(rows), BATCH):
                    some = rows[start : start + BATCH]
                    at = torch.tensor([row.prefix for _, row in some], device=thinker.device)
                    cache = decode.spread(prefix, at)
                    scores, mask, ends = decode.read_question(thinker, cache, prefix, at, [r for _, r in some])
                    limits = [row.limit for _, row in some]
                    written = decode.write(thinker, cache, mask, ends, scores, limits, draw=draw, ended=True)
                    for (n, _), steps in zip(some, written, strict=True):
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


def _drawing(
    temperature: float, top_p: float, generator: torch.Generator | None
) -> Callable[[torch.Tensor], torch.Tensor]:
    def draw(scores: torch.Tensor) -> torch.Tensor:
        p = (scores / temperature).softmax(-1)
        if top_p < 1:
            ranked, order = p.sort(-1, descending=True)
            ranked = ranked * ((ranked.cumsum(-1) - ranked) < top_p)
            p = torch.zeros_like(p).scatter(-1, order, ranked)
        return torch.multinomial(p.cpu(), 1, generator=generator)[:, 0].to(scores.device)

    return draw
