"""Which questions are read together: those on the same media, and of these, those that begin with the same text.

``families`` finds shared beginnings; ``batches`` and ``chunks`` cut work to the room there is; ``halves`` cuts it
in two where that room was not enough.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple, TypeVar

from earwitness.models.qwen_inputs import Kind
from earwitness.models.qwen_memory import Room
from earwitness.records import Item, Media

_T = TypeVar("_T")
SCORES = 1 << 22  # attention scores of one head in a batch, at most: long texts gain nothing from company
SHARED = 64  # tokens that questions on the same media must have in common to be read together


@dataclass(eq=False)
class Group:
    """Questions on the same media with the same beginning: one prefix."""

    media: Media
    kind: Kind
    before: tuple[int, ...]
    asks: list[tuple[int, Item, tuple[int, ...]]]  # place in the call, item, tokens behind the media
    size: int  # tokens of the prefix, estimated from the media's shape


class Question(NamedTuple):
    """One question: its place in the call, which prefix it follows, and its tokens behind that."""

    place: int
    item: Item
    prefix: int
    tokens: tuple[int, ...]


class Family(NamedTuple):
    """Questions on the same media that begin with the same long text (MMA's long context)."""

    prefix: int
    text: tuple[int, ...]
    asks: list[Question]


def families(groups: Sequence[Group]) -> tuple[list[Question], list[Family]]:
    """Questions that stand alone, and those that share at least SHARED tokens behind their media."""
    alike: dict[object, list[Question]] = {}
    for g, group in enumerate(groups):
        for place, item, after in group.asks:
            key = (g, after[:SHARED]) if len(after) > SHARED else place
            alike.setdefault(key, []).append(Question(place, item, g, after))
    singles = [q for some in alike.values() if len(some) == 1 for q in some]
    found = []
    for some in alike.values():
        if len(some) > 1:
            low, high = min(q.tokens for q in some), max(q.tokens for q in some)
            least = min(len(q.tokens) for q in some) - 1  # each keeps a token of its own to be read last
            common = next((n for n in range(least) if low[n] != high[n]), least)
            found.append(Family(some[0].prefix, low[:common], some))
    return singles, found


def batches(groups: Iterable[Group], room: Room) -> Iterator[list[Group]]:
    """Groups of one kind whose questions fill the room as it then is; a group larger than that stays whole."""
    batch: list[Group] = []
    for group in groups:
        asked = sum(len(g.asks) for g in batch) + len(group.asks)
        held = (1 + len(batch)) * max(group.size, *(g.size for g in batch), 1)
        if batch and (batch[0].kind != group.kind or asked > room.rows or held > room.tokens):
            yield batch
            batch = []
        batch.append(group)
    if batch:
        yield batch


def chunks(rows: Iterable[_T], prefix: int, length: Callable[[_T], int], room: Room) -> Iterator[list[_T]]:
    """Rows, shortest first, in batches that fit by number, by tokens held, and by attention scores at once.

    Padding is bounded too: a row more than twice as long as a batch's shortest begins a new batch.
    """
    batch: list[_T] = []
    for row in sorted(rows, key=length):
        n, new = len(batch) + 1, length(row)
        held = n * (prefix + new)
        unlike = bool(batch) and new > 2 * length(batch[0]) + 32
        if batch and (n > room.rows or held > room.tokens or held * new > SCORES or unlike):
            yield batch
            batch = []
        batch.append(row)
    if batch:
        yield batch


def halves(groups: Sequence[Group], answered: set[int]) -> list[list[Group]]:
    """What is unanswered of the groups, in two lists; in one where a single question is left."""
    left = [replace(g, asks=[a for a in g.asks if a[0] not in answered]) for g in groups]
    left = [g for g in left if g.asks]
    if len(left) > 1:
        return [left[: len(left) // 2], left[len(left) // 2 :]]
    (one,) = left
    half = len(one.asks) // 2
    return [[replace(one, asks=asks)] for asks in (one.asks[:half], one.asks[half:]) if asks]
