"""What training pairs are made from, and the unit in which they are drawn.

A maker (``twins``, ``preferences``, ``confuse``, ``general``, ``multiple_choice``, ``answering``) reads a
:class:`Stock` and lists units: a few pairs each that belong together, such as a pair on the changed clip and its
mirror on the untouched one. A unit is a plan. Its pairs are written only once it is drawn, so that a thousand
clips with ten twins each cost no more than the pairs that are kept.

Functions: ``drawn`` (an order of units, balanced over classes and clips), ``pair``, ``told_apart`` (are a pair's
answers right and wrong to the scorer?), ``partners`` (whose sound a clip gets, many times over).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import NamedTuple

import msgspec

from earwitness.protocols import Settings
from earwitness.protocols.making import EDGE, length
from earwitness.questions import same
from earwitness.records import Clip, Intervention, Item, Judged, Pair, Question, digest
from earwitness.scoring import reward


class Span(msgspec.Struct, frozen=True):
    """What is seen and heard from ``start`` to ``end`` (seconds on the clip's clock), in words; "" = not said."""

    clip: str
    start: float
    end: float
    visual: str = ""
    audio: str = ""


@dataclass(frozen=True)
class Stock:
    """What one side of the split (train or valid) has to make pairs from.

    ``classes`` are those of both sides, so that options are the same; ``twins`` is the most that one clip is paired
    with; ``judged`` is what a model answered in a run, ``spans`` are timed descriptions by clip.
    """

    clips: tuple[Clip, ...]
    classes: tuple[str, ...]
    settings: Settings
    twins: int = 10
    questions: tuple[Question, ...] = ()
    judged: tuple[Judged, ...] = ()
    spans: Mapping[str, tuple[Span, ...]] = field(default_factory=dict)

    @property
    def seed(self) -> int:
        """Seed of every draw."""
        return self.settings.seed


class Unit(NamedTuple):
    """A few pairs that are drawn together, as a plan."""

    key: str  # tells it from all other units
    clip: str  # what draws are balanced over: clips ...
    kind: str  # ... and, before them, classes
    size: int  # pairs that ``make`` gives
    make: Callable[[], list[Pair]]


class Plan(NamedTuple):
    """The units of a part, and in plain words what it could not use."""

    units: list[Unit]
    left_out: list[str]


def drawn(units: Sequence[Unit], seed: int) -> list[Unit]:
    """The units in an order drawn by seed, any beginning of which is balanced over classes, then over clips."""
    order = sorted(units, key=lambda u: digest("unit", seed, u.key))
    of_clip: dict[tuple[str, str], int] = {}
    turns = []
    for n, unit in enumerate(order):
        turn = of_clip.get((unit.kind, unit.clip), 0)
        of_clip[unit.kind, unit.clip] = turn + 1
        turns.append((turn, n))
    of_kind: dict[str, int] = {}
    ranked = []
    for _, n in sorted(turns):
        kind = order[n].kind
        ranked.append((of_kind.get(kind, 0), n))
        of_kind[kind] = of_kind.get(kind, 0) + 1
    return [order[n] for _, n in sorted(ranked)]


def pair(item: Item, part: str, chosen: str, rejected: str | None, why: str, *key: object) -> Pair:
    """A pair whose id follows from its content; ``key`` tells apart those that are made more than once."""
    return Pair(
        id=digest(part, item.id, chosen, rejected, *key), item=item, chosen=chosen, rejected=rejected, part=part,
        why=why,
    )  # fmt: skip


def told_apart(made: Pair) -> bool:
    """Whether the scorer finds the chosen answer right and the rejected one not. True where an item has no target.

    The rules read English class names; one such as "Silence" or "Whistle, match" could turn an answer over. Such
    pairs would teach something else than they say.
    """
    if made.item.target is None:
        return True
    bare = msgspec.structs.replace(
        made.item, id="", group="", clip="", source="", linked=(), prompt="", filler=None, seed=0,
        intervention=Intervention(), choices=tuple(sorted(made.item.choices)),  # no reader minds their order
    )  # fmt: skip
    key = msgspec.json.encode(bare)
    return _earns(key, made.chosen) == 1.0 and (made.rejected is None or _earns(key, made.rejected) == 0.0)


@lru_cache(maxsize=1 << 16)
def _earns(item: bytes, text: str) -> float:
    return reward(msgspec.json.decode(item, type=Item), text)


def names(things: Iterable[str]) -> frozenset[str]:
    """The things that class names mean."""
    return frozenset(same(n) for n in things)


def partners(clips: Sequence[Clip], seed: int, k: int) -> dict[str, tuple[Clip, ...]]:
    """Clip id -> at most ``k`` clips whose sound it may get: of distinct classes, other sources, audible within it.

    Every clip goes round the other classes from a place of its own, and every class hands out its clips in turn: so
    the classes that are heard over one class of picture are as even as they can be, and so are the uses of a donor
    within its class. A clip whose labels name its donors gets those of them that are there and fit, in their order.
    Follows from the seed and the clips, not from their order.

    Source: section 5 of arXiv 2511.22826 pairs each training clip with ten of distinct classes; how they were drawn
    is not said there.
    """
    order = sorted((c for c in clips if c.heard), key=lambda c: digest("partner", seed, c.id))
    own = {c.id: names((*c.seen, *c.heard)) for c in order}
    gives = {c.id: names(c.heard) for c in order}
    by_kind: dict[str, list[Clip]] = {}
    for clip in order:
        by_kind.setdefault(min(gives[clip.id]), []).append(clip)
    kinds = sorted(by_kind, key=lambda name: digest("class", seed, name))
    turn = dict.fromkeys(kinds, 0)

    def may(taker: Clip, giver: Clip) -> bool:
        if taker.cluster == giver.cluster or own[taker.id] & gives[giver.id]:
            return False
        times, whole = [e.heard for e in giver.events if e.heard is not None], length(taker)
        return not times or whole is None or any(t <= whole - EDGE for t in times)

    named = {c.id: c for c in order}
    out: dict[str, tuple[Clip, ...]] = {}
    for at, kind in enumerate(kinds):
        others = kinds[at + 1 :] + kinds[:at]
        for n, clip in enumerate(by_kind[kind]):
            found: list[Clip] = []
            if clip.donors:
                fit: dict[str, Clip] = {}  # the first of each class
                for i in clip.donors:
                    if i in named and may(clip, named[i]):
                        fit.setdefault(min(gives[i]), named[i])
                out |= {clip.id: tuple(fit.values())[:k]} if fit else {}
                continue
            for step in range(len(others)):
                if len(found) == k:
                    break
                name = others[(n * k + step) % len(others)]
                there = by_kind[name]
                places = ((turn[name] + j) % len(there) for j in range(len(there)))
                place = next((j for j in places if may(clip, there[j])), None)
                if place is not None:
                    turn[name] = place + 1
                    found.append(there[place])
            if found:
                out[clip.id] = tuple(found)
    return out


def counted(total: int, lost: int, what: str) -> list[str]:
    """One line "3 of 40 clips ...", or none where nothing was lost."""
    return [f"{lost} of {total} clips {what}"] if lost else []
