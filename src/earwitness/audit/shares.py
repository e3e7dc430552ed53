"""In which order to ask, and who asks what: an order that decodes once, and shares that outlive who asks them.

``in_order`` lays out items clip by clip, clips that lend each other their sound side by side, so that a swap's
donor is still in memory when it is wanted. :class:`Work` hands the clips out in shares to several that ask at once
(processes, machines): full batches first, single clips at the end, so that nobody waits long for the last one.

Whoever asks may die (out of memory, a crash in a decoder, a machine that is switched off). That must cost time and
nothing else, and one poisonous item must not take the run with it: an unfinished share goes back, first clip by
clip, then item by item, until the item that kills stands alone. It is given up when it has killed twice.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterable, Sequence

from earwitness.records import Answer, Item

ENOUGH = 2  # deaths after which a clip is split, and after which a single item is given up


def in_order(todo: Iterable[Item]) -> list[list[Item]]:
    """The items clip by clip, sorted by intervention within a clip; takers and donors of a sound are neighbours."""
    clips: dict[str, list[Item]] = {}
    links: dict[str, dict[str, None]] = {}  # a dict for its order
    for item in todo:
        clips.setdefault(item.clip, []).append(item)
        donor = item.intervention.donor
        if donor is not None:
            links.setdefault(item.clip, {})[donor] = None
            links.setdefault(donor, {})[item.clip] = None
    out: list[list[Item]] = []
    placed: set[str] = set()
    for first in clips:
        waiting = [first]
        while waiting:
            clip = waiting.pop()
            if clip in placed:
                continue
            placed.add(clip)
            if clip in clips:
                out.append(sorted(clips[clip], key=lambda item: item.intervention.key))
            waiting.extend(reversed(links.get(clip, {})))
    return out


class Share:
    """Items given to one that asks; ``left`` are those without an answer yet, by id."""

    def __init__(self, items: Sequence[Item], deaths: int = 0, *, alone: bool = False) -> None:
        self.left = {item.id: item for item in items}
        self.deaths = deaths
        self.alone = alone

    def settle(self, answers: Sequence[Answer]) -> None:
        """Take note of answers. Raises ValueError for one that was not asked here, or is there already."""
        for answer in answers:
            if self.left.pop(answer.item, None) is None:
                raise ValueError(f"an answer came to item {answer.item}, which was not asked or is answered")


class Work:
    """What nobody has taken yet. ``size`` items a share at most (a clip's items stay together), ``clips`` clips."""

    def __init__(self, todo: Iterable[Item], *, askers: int, size: int, clips: int | None = None) -> None:
        self._clips = deque(in_order(todo))
        self._fresh = sum(map(len, self._clips))
        self._again: deque[Share] = deque()
        self._fallen: dict[str, set[str]] = {}  # clip -> interventions under which an item was given up
        self._askers, self._size, self._most = askers, size, clips

    def __bool__(self) -> bool:
        return bool(self._again or self._clips)

    def take(self) -> Share | None:
        """The next share; None where all are taken (they may come back)."""
        if self._again:
            return self._again.popleft()
        if not self._clips:
            return None
        size = min(self._size, self._fresh // (2 * self._askers))
        items, clips = self._clips.popleft(), 1
        while self._clips and len(items) + len(self._clips[0]) <= size and clips != self._most:
            items, clips = items + self._clips.popleft(), clips + 1
        self._fresh -= len(items)
        return Share(items)

    def give_back(self, share: Share) -> None:
        """Take back a share whose asker died of another one."""
        if share.left:
            self._again.appendleft(share)

    def died(self, share: Share) -> list[Item]:
        """Take back what a dead one had left, in smaller shares; returns the items that are given up."""
        clips = in_order(share.left.values())
        deaths = share.deaths + 1
        if not clips:
            return []
        if share.alone:
            item = clips[0][0]
            fallen = self._fallen.setdefault(item.clip, set())
            if deaths < ENOUGH and len(fallen) < ENOUGH:
                self._again.appendleft(Share([item], deaths, alone=True))
                return []
            fallen.add(item.intervention.key)
            return [item, *(self._withdrawn(item.clip) if len(fallen) >= ENOUGH else [])]
        if len(clips) == 1 and deaths < ENOUGH:
            back = [Share(clips[0], deaths)]
        elif len(clips) > 1:
            back = [Share(items, deaths) for items in clips]
        else:
            back = [Share([item], alone=True) for item in _in_turn(clips[0])]
        self._again.extendleft(reversed(back))
        return []

    def _withdrawn(self, clip: str) -> list[Item]:
        """What is left of a clip under which everything dies: its decoding is to blame, not its questions."""
        gone = [s for s in self._again if s.alone and all(i.clip == clip for i in s.left.values())]
        self._again = deque(s for s in self._again if s not in gone)
        return [item for share in gone for item in share.left.values()]


def _in_turn(items: Iterable[Item]) -> list[Item]:
    """Items of a clip, one of each intervention before the second of any."""
    met: Counter[str] = Counter()
    turn = {}
    for item in items:
        turn[item.id] = met[item.intervention.key]
        met[item.intervention.key] += 1
    return sorted(items, key=lambda item: turn[item.id])
