"""From clips to items: ids, class lists, whose sound a clip gets in a swap.

Functions: ``finish`` (give an item its id), ``class_list``, ``donors``, ``limited``, ``pick`` (a seeded choice),
``fits`` (may a shift be applied), ``one_class``.
"""

from __future__ import annotations

from bisect import insort
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from itertools import islice
from typing import TypeVar

import msgspec

from earwitness.questions import clean, same
from earwitness.records import Clip, Item, digest

T = TypeVar("T")
EDGE = 0.3  # seconds: a shifted event nearer to an edge of the clip cannot be checked by listening
APART = 0.3  # seconds: a shifted event this near to another visible one would look in step again


def finish(item: Item) -> Item:
    """The item with the id that follows from everything else in it: the same content, the same id, anywhere."""
    return msgspec.structs.replace(item, id=digest(msgspec.json.encode(msgspec.structs.replace(item, id=""))))


def pick(options: Sequence[T], *key: object) -> T:
    """One of the options, chosen by the key alone."""
    return options[int(digest(*key), 16) % len(options)]


def shuffled(options: Sequence[T], *key: object) -> tuple[T, ...]:
    """The options in an order that follows from the key and from what they are, not from the order they came in."""
    return tuple(sorted(options, key=lambda o: digest(*key, o)))


def limited(clips: Sequence[Clip], limit: int | None, seed: int) -> list[Clip]:
    """At most ``limit`` of the clips, drawn by seed, in the order given."""
    if limit is None or len(clips) <= limit:
        return list(clips)
    chosen = {c.id for c in sorted(clips, key=lambda c: digest("limit", seed, c.id))[:limit]}
    return [c for c in clips if c.id in chosen]


def class_list(clips: Sequence[Clip], given: Sequence[str]) -> tuple[str, ...]:
    """The classes to choose from: those given, else all that the clips have, one spelling each, sorted."""
    if given:
        doubles = [n for n, k in Counter(clean(c) for c in given).items() if k > 1]
        if doubles:
            raise ValueError(f"classes: {doubles[0]!r} is listed twice (case and underscores do not count)")
        return tuple(given)
    spelled: dict[str, str] = {}
    for clip in clips:
        for name in (*clip.seen, *clip.heard):
            spelled[clean(name)] = min(name, spelled.get(clean(name), name))
    return tuple(sorted(spelled.values(), key=clean))


def in_list(name: str, classes: Sequence[str]) -> str | None:
    """The class as the list spells it; None where it is not in the list."""
    return next((c for c in classes if clean(c) == clean(name)), None)


def length(clip: Clip) -> float | None:
    """Seconds of the clip; None where its end is not known."""
    return None if clip.end is None else clip.end - clip.start


def fits(clip: Clip, seconds: float) -> bool:
    """Whether a shift leaves a checkable clip: every event 0.3 s from the edges and from another sight.

    Section 2.1 of arXiv 2605.16403 shifts any clip. Differs from the source: a drum beaten every half second,
    shifted by two, looks in step again, and a sound pushed off the clip is a muted one, not a shifted one.
    """
    whole = length(clip)
    heard = [e.heard for e in clip.events if e.heard is not None]
    seen = [e.seen for e in clip.events if e.seen is not None]
    if not heard or not seen or whole is None:
        return False
    moved = [t + seconds for t in heard]
    inside = all(EDGE <= t <= whole - EDGE for t in moved)
    return inside and all(abs(t - s) >= min(APART, abs(seconds) / 2) for t in moved for s in seen)


def _things(names: Sequence[str]) -> frozenset[str]:
    return frozenset(same(n) for n in names)


def _given(clip: Clip, named: Mapping[str, Clip]) -> Clip | None:
    """The first of a clip's own donors that is there, of another source and of other classes."""
    own = _things((*clip.seen, *clip.heard))
    there = (named[i] for i in clip.donors if i in named)
    return next((d for d in there if d.heard and d.cluster != clip.cluster and not own & _things(d.heard)), None)


def donors(
    clips: Sequence[Clip], seed: int, uses: int, also: Callable[[Clip, Clip], bool] | None = None
) -> dict[str, Clip]:
    """Clip id -> the clip whose sound it gets in a swap: another source, other classes, audible within its length.

    Clips are paired off (each takes the other's sound), so that a cluster of the statistics is two sources, not a
    chain through all of them. Who is left over takes the sound of a clip used fewer than ``uses`` times, or none.
    Follows from the seed and the clips, not from their order. ``also`` says of a taker and a giver whether they fit
    in what else is asked. A clip whose labels name its donors gets the first of them that is there, or none.
    """
    named = {c.id: c for c in clips}
    chosen = {c.id: _given(c, named) for c in clips if c.donors and c.heard}
    if chosen:
        rest = donors([c for c in clips if not c.donors], seed, uses, also)
        return {**{i: giver for i, giver in chosen.items() if giver is not None}, **rest}
    order = sorted((c for c in clips if c.heard), key=lambda c: digest("donor", seed, c.id))
    own = [_things((*c.seen, *c.heard)) for c in order]
    gives = [_things(c.heard) for c in order]
    kind = [min(things) for things in gives]

    def may(taker: int, giver: int) -> bool:
        a, b = order[taker], order[giver]
        if a.cluster == b.cluster or own[taker] & gives[giver]:
            return False
        if also is not None and not also(a, b):
            return False
        times, whole = [e.heard for e in b.events if e.heard is not None], length(a)
        return not times or whole is None or any(t <= whole - EDGE for t in times)

    # Class by class, for of each class only the first that fits can be the one wanted: 10,000 clips are no longer
    # compared with 10,000. The order's first stands last, where it is taken off at no cost.
    waiting: dict[str, list[int]] = {}
    for n in reversed(range(len(order))):
        waiting.setdefault(kind[n], []).append(n)
    out: dict[str, Clip] = {}
    used = [0] * len(order)
    while any(waiting.values()):
        # Whoever has the commonest class goes first: else its last clips find only each other.
        first = min((-len(left), left[-1]) for left in waiting.values() if left)[1]
        common = {name: len(left) for name, left in waiting.items()}
        waiting[kind[first]].pop()
        mates = [
            (-common[name], n)
            for name, left in waiting.items()
            if name not in own[first]
            for n in islice((n for n in reversed(left) if may(first, n) and may(n, first)), 1)
        ]
        if mates:
            mate = min(mates)[1]
            waiting[kind[mate]].remove(mate)
            out[order[first].id], out[order[mate].id] = order[mate], order[first]
            used[first] += 1
            used[mate] += 1
    # Who is left over: the least used giver, the first of the order among equals.
    givers: dict[tuple[int, str], list[int]] = {}
    for n in range(len(order)):
        if used[n] < uses:
            givers.setdefault((used[n], kind[n]), []).append(n)
    for taker, clip in enumerate(order):
        for level in range(uses if clip.id not in out else 0):
            found = [
                n
                for (times, name), some in givers.items()
                if times == level and name not in own[taker]
                for n in islice((n for n in some if may(taker, n)), 1)
            ]
            if found:
                giver = min(found)
                out[clip.id] = order[giver]
                givers[level, kind[giver]].remove(giver)
                if level + 1 < uses:
                    insort(givers.setdefault((level + 1, kind[giver]), []), giver)
                break
    return out
