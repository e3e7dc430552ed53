"""Whose sound goes under whose picture? Misaligned twins, chosen so that nothing but hearing helps.

A twin is a clip with the sound of another one, its donor (MMA-Bench, arXiv 2511.22826, section 3): of another
source and another class. A good set of twins has more to it:

- **loudness**: a donor must come within 3 LU of the clip's own sound without being clipped (arXiv 2605.16403 says
  "loudness matched"). What that takes is known from both sounds' loudness and peak, before anything is written; a
  donor whose peaks would have to be turned down is taken only where the result was measured.
- **length**: a donor shorter than the clip is looped; below a share of the clip's length it is not used.
- **kinship**: how far apart the two classes are in the ontology (``classes.kin``): 1 one parent, 2 one root, 3
  other roots. A cat's picture with a dog's sound asks more of an ear than with a drill's; the distance is recorded.
- **balance**: each sound is used as often as any other, so that which classes are heard in twins says nothing more
  than which are heard in aligned clips.

For evaluation clips are paired off, so that a cluster of the statistics is two sources (``protocols.making``). For
training each clip gets several donors of distinct classes, in rounds that use each sound once.

Functions: ``twins``.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Literal, NamedTuple

import msgspec

from earwitness.curate.classes import ClassTable, kin
from earwitness.protocols.making import EDGE, donors, length
from earwitness.questions import same
from earwitness.records import Clip, digest, how_many

QUIET = -60.0  # LUFS below which a sound is taken for silence: it would be noise once it is made louder
TRIES = 5  # donors whose peaks are too high that are measured for one clip before it goes without
Distance = Literal["any", "near", "far"]
Measure = Callable[[Clip, Clip], float | None]  # clip, donor -> LU left after matching, by doing it


class Sound(msgspec.Struct, frozen=True, kw_only=True):
    """What a clip's sound measures: loudness in LUFS at 16 kHz mono (None = silent), highest |x|, and seconds."""

    lufs: float | None
    peak: float
    seconds: float

    @property
    def silent(self) -> bool:
        """Whether there is nothing in it to be matched or to be heard."""
        return self.lufs is None or self.lufs < QUIET


class Wanted(msgspec.Struct, frozen=True, kw_only=True):
    """What is asked of twins.

    ``n`` donors a clip; ``within`` LU of the clip's own loudness; ``loop``: the least length of a donor as a share
    of the clip's (1 = never looped); ``distance``: donors of the same root (near), of another root (far), or any;
    ``uses``: the most that one sound may be used (0 = n, and n + 1 where it does not come out even).
    """

    n: int = 1
    within: float = 3.0
    loop: float = 0.5
    distance: Distance = "any"
    uses: int = 0
    seed: int = 0

    def __post_init__(self) -> None:
        if self.n < 1 or self.uses < 0:
            raise ValueError(f"twins={self.n}, uses={self.uses}: wants at least one twin, and no negative uses")
        if not 0 < self.within <= 20:
            raise ValueError(f"within={self.within:g}: wants LU above 0, at most 20")
        if not 0 < self.loop <= 1:
            raise ValueError(f"loop={self.loop:g}: wants a share above 0, at most 1")


class Twin(msgspec.Struct, frozen=True, kw_only=True):
    """A clip and the donor of its sound, the ``turn``-th of the clip.

    ``gain_db`` is what the donor will be given; ``pressed_db`` > 0: its peaks will be turned down by about as much;
    ``left_lu``: what is left over, where that was measured (else the gain is exact).
    """

    clip: str
    donor: str
    turn: int
    distance: int | None
    gain_db: float
    pressed_db: float = 0.0
    looped: bool = False
    left_lu: float | None = None


class Paired(NamedTuple):
    """Twins, and in plain words who has none or fewer than wanted."""

    twins: list[Twin]
    left_out: list[str]


def twins(
    clips: Sequence[Clip],
    sounds: Mapping[str, Sound],
    table: ClassTable,
    wanted: Wanted,
    measure: Measure | None = None,
) -> Paired:
    """Choose donors for aligned clips of one class each.

    Parameters
    ---------- clips : clips with one seen and heard class; who is silent must be left out before. sounds : by clip
    id. table : the classes' kinship; classes that it does not have are of unknown distance. measure : does the
    matching and returns the LU left over; without it, a donor whose peaks would have to be turned
        down is not used.

    Raises ValueError where ``distance`` is asked for and a class is not in the table (it is named).
    """
    if wanted.distance != "any":
        lost = sorted({c.heard[0] for c in clips if not table.ways_to(c.heard[0])})
        if lost:
            raise ValueError(
                f"distance={wanted.distance}: {lost[0]!r} is not in the class file {table.version}; give one that "
                f"has it (--set classes=FILE), or leave distance out"
            )
    fit = _Fit(sounds, table, wanted, measure)
    if wanted.n == 1:
        chosen = _paired_off(clips, wanted, fit)
        pairs = [(c, tuple(d for d in (chosen.get(c.id),) if d is not None)) for c in clips]
    else:
        found = _rounds(clips, wanted, fit)
        pairs = [(c, tuple(found[c.id])) for c in clips]
    made = [fit.twin(clip, donor, turn) for clip, some in pairs for turn, donor in enumerate(some)]
    return Paired(made, _said(pairs, wanted))


class _Fit:
    """Whether a donor may be used, and what it takes."""

    def __init__(
        self, sounds: Mapping[str, Sound], table: ClassTable, wanted: Wanted, measure: Measure | None
    ) -> None:
        self.sounds, self.table, self.wanted, self.measure = sounds, table, wanted, measure
        self._near: dict[tuple[str, str], int | None] = {}
        self._left: dict[tuple[str, str], float | None] = {}

    def distance(self, a: str, b: str) -> int | None:
        """Kinship of two classes, looked up once."""
        if (a, b) not in self._near:
            self._near[a, b] = kin(self.table, a, b)
        return self._near[a, b]

    def easy(self, clip: Clip, donor: Clip) -> bool:
        """Length, distance and loudness, without a peak that must be turned down (source, class: the caller's)."""
        own, other = self.sounds[clip.id], self.sounds[donor.id]
        return self._long(own, other) and _over(own, other) <= 0 and self._apart(clip, donor)

    def may(self, clip: Clip, donor: Clip) -> bool:
        """The same, with peaks turned down where that was measured to come near enough."""
        own, other = self.sounds[clip.id], self.sounds[donor.id]
        if not self._long(own, other) or not self._apart(clip, donor):
            return False
        if _over(own, other) <= 0:
            return True
        left = self.left(clip, donor)
        return left is not None and abs(left) <= self.wanted.within

    def room(self, clip: Clip) -> float:
        """The loudness in LUFS up to which a sound can be brought without its peaks passing full scale."""
        sound = self.sounds[clip.id]
        return -math.inf if sound.lufs is None or sound.peak <= 0 else sound.lufs - 20 * math.log10(sound.peak)

    def _long(self, own: Sound, other: Sound) -> bool:
        return not own.silent and not other.silent and other.seconds >= self.wanted.loop * own.seconds

    def _apart(self, clip: Clip, donor: Clip) -> bool:
        if self.wanted.distance == "any":
            return True
        return (self.distance(clip.heard[0], donor.heard[0]) == 3) == (self.wanted.distance == "far")

    def left(self, clip: Clip, donor: Clip) -> float | None:
        """LU left over after matching a donor whose peaks are too high, measured; None where it was not."""
        key = (clip.id, donor.id)
        if key not in self._left:
            self._left[key] = None if self.measure is None else self.measure(clip, donor)
        return self._left[key]

    def twin(self, clip: Clip, donor: Clip, turn: int) -> Twin:
        """The pair as a twin."""
        own, other = self.sounds[clip.id], self.sounds[donor.id]
        over = _over(own, other)
        return Twin(
            clip=clip.id, donor=donor.id, turn=turn, distance=self.distance(clip.heard[0], donor.heard[0]),
            gain_db=round((own.lufs or 0.0) - (other.lufs or 0.0), 2), pressed_db=round(max(0.0, over), 2),
            looped=other.seconds < own.seconds - 0.05,
            left_lu=None if over <= 0 else self.left(clip, donor),
        )  # fmt: skip


def _over(own: Sound, other: Sound) -> float:
    """dB by which the donor's highest peak would pass full scale once it is as loud as the clip's own sound."""
    if own.lufs is None or other.lufs is None or other.peak <= 0:
        return -math.inf
    return own.lufs - other.lufs + 20 * math.log10(other.peak)


def _foreign(taker: Clip, giver: Clip) -> bool:
    """Whether a sound is another source's, of another class, and audible within the clip's length."""
    own = {same(n) for n in (*taker.seen, *taker.heard)}
    if taker.cluster == giver.cluster or same(giver.heard[0]) in own:
        return False
    times, whole = [e.heard for e in giver.events if e.heard is not None], length(taker)
    return not times or whole is None or any(t <= whole - EDGE for t in times)


def _paired_off(clips: Sequence[Clip], wanted: Wanted, fit: _Fit) -> dict[str, Clip]:
    """One donor each: in pairs that need no limiter, then in pairs that do, then whoever is used least."""
    bare = [msgspec.structs.replace(c, donors=()) for c in clips]
    found = donors(bare, wanted.seed, 1, fit.easy)
    found |= donors([c for c in bare if c.id not in found], wanted.seed, 1, fit.may)
    used = Counter(giver.id for giver in found.values())
    most = wanted.uses or 2
    for taker in sorted((c for c in bare if c.id not in found), key=lambda c: digest("left", wanted.seed, c.id)):
        rest = [g for g in bare if used[g.id] < most and _foreign(taker, g)]
        rest.sort(key=lambda g: (used[g.id], digest("left", wanted.seed, g.id)))
        easy = next((g for g in rest if fit.easy(taker, g)), None)
        giver = easy or next((g for g in rest[: 4 * TRIES] if fit.may(taker, g)), None)
        if giver is not None:
            found[taker.id] = giver
            used[giver.id] += 1
    return found


def _rounds(clips: Sequence[Clip], wanted: Wanted, fit: _Fit) -> dict[str, list[Clip]]:
    """``n`` donors of distinct classes for each clip. Every round hands out each sound once, as far as it goes.

    In a round the clips of the commonest class choose first (as in ``protocols.making.donors``: else the last clips
    find only each other), the loudest first among them; of the classes that a clip may have it tries the one with
    most sounds left, and takes the sound with the least headroom that is enough. Who finds nothing takes the least
    used sound that fits.
    """
    kind = {c.id: same(c.heard[0]) for c in clips}
    sizes = Counter(kind.values())
    found: dict[str, list[Clip]] = {c.id: [] for c in clips}
    had: dict[str, set[str]] = {c.id: {kind[c.id]} for c in clips}
    used: Counter[str] = Counter()
    for turn in range(wanted.n):
        key = partial(digest, "round", wanted.seed, turn)
        left: dict[str, list[tuple[float, str, Clip]]] = {}
        for clip in clips:
            left.setdefault(kind[clip.id], []).append((fit.room(clip), key(clip.id), clip))
        for some in left.values():
            some.sort()
        place = {name: key(name) for name in left}
        for taker in sorted(clips, key=lambda c: (-sizes[kind[c.id]], -(fit.sounds[c.id].lufs or 0.0), key(c.id))):
            order = sorted(
                (name for name in left if left[name] and name not in had[taker.id]),
                key=lambda name: (-len(left[name]), place[name]),
            )
            giver = _taken(taker, [left[name] for name in order], fit) or _again(
                taker, clips, kind, had, used, wanted, fit
            )
            if giver is not None:
                used[giver.id] += 1
                found[taker.id].append(giver)
                had[taker.id].add(kind[giver.id])
    return found


def _taken(taker: Clip, groups: Sequence[list[tuple[float, str, Clip]]], fit: _Fit) -> Clip | None:
    """Take a sound out of the groups (each sorted by headroom): one that fits as it is, or that was measured."""
    loud = fit.sounds[taker.id].lufs or 0.0
    for group in groups:
        for n in range(bisect_left(group, (loud,)), len(group)):
            if _foreign(taker, group[n][2]) and fit.easy(taker, group[n][2]):
                return group.pop(n)[2]
    for group in groups[:TRIES]:  # the one with most headroom of each
        giver = group[-1][2]
        if _foreign(taker, giver) and fit.may(taker, giver):
            return group.pop()[2]
    return None


def _again(
    taker: Clip, clips: Sequence[Clip], kind: Mapping[str, str], had: Mapping[str, set[str]], used: Counter[str],
    wanted: Wanted, fit: _Fit,
) -> Clip | None:  # fmt: skip
    """The least used sound that fits, of those that were not used too often."""
    most = wanted.uses or wanted.n + 1
    rest = [g for g in clips if used[g.id] < most and kind[g.id] not in had[taker.id] and _foreign(taker, g)]
    rest.sort(key=lambda g: (used[g.id], digest("again", wanted.seed, taker.id, g.id)))
    easy = next((g for g in rest if fit.easy(taker, g)), None)
    return easy or next((g for g in sorted(rest, key=fit.room)[: -TRIES - 1 : -1] if fit.may(taker, g)), None)


def _said(pairs: Sequence[tuple[Clip, tuple[Clip, ...]]], wanted: Wanted) -> list[str]:
    none = sum(not some for _, some in pairs)
    fewer = sum(0 < len(some) < wanted.n for _, some in pairs)
    lines = []
    if none:
        lines.append(
            f"{none} of {how_many(len(pairs), 'clip')} have no donor of another source and class within "
            f"{wanted.within:g} LU "
            f"and of enough length"
        )
    if fewer:
        lines.append(
            f"{fewer} of {how_many(len(pairs), 'clip')} have fewer than {wanted.n} donors of distinct classes"
        )
    return lines
