"""What the clip itself says about time: when sounds start and how salient they are, when the picture changes.

No model is asked: every clip is decoded once, through :data:`LOOK`, and measured. Sounds by ``media.signal.onsets``
(spectral flux or a surge of power against the local median, moved to the steepest rise); an onset's salience is how
far the level rises there. Pictures by the change from frame to frame, of the hundredth of the picture that changes
most: a ball is small, and the mean over the frame would not show it.

Jobs are done by the audit's own loop, so they are resumed as questions are; the :class:`Witness` stands where a
model does, and its answers are measurements.

Functions: ``measured`` (media -> Measured), ``witness`` (what workers load), ``nearest``, ``covered``, ``moving``.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

import msgspec
import numpy as np

from earwitness.media.signal import onsets
from earwitness.protocols.making import finish
from earwitness.records import Answer, Clip, Frames, Item, Media, View, Wave, digest

NAME = "earwitness.curate.events.witness:witness"
REVISION = "1"  # of what is measured: another one, and clips are measured again
LOOK = View(fps=10.0, size=(64, 64), rate=16_000)
SPAN, GAP = 0.05, 0.005  # s: level before and after an onset; the gap is twice the error of an onset's place
FLOOR = 1e-8  # -80 dB of full scale: below it a level is silence
SILENT = -60.0  # dB of full scale; a clip whose loudest 50 ms are below it has nothing to hear
TOP = 0.01  # share of the picture whose change counts
STILL = 4.0  # grey levels of 255; codec noise of a still picture stays below, see docs/curate_events.md


class Onset(msgspec.Struct, frozen=True):
    """A sound that starts: at which second, by how many dB the level rises there, and to which (dBFS)."""

    at: float
    rise: float
    level: float


class Measured(msgspec.Struct, frozen=True, kw_only=True):
    """What was measured on a clip; ``changes`` are (second, grey levels) of each frame against the one before.

    ``loudest`` is the level of the loudest 50 ms in dBFS, None without a sound track; ``frames`` 0 without
    pictures.
    """

    seconds: float
    loudest: float | None
    frames: int
    onsets: tuple[Onset, ...] = ()
    changes: tuple[tuple[float, float], ...] = ()

    @property
    def silent(self) -> bool:
        """Whether there is nothing to hear."""
        return self.loudest is None or self.loudest < SILENT


class Change(NamedTuple):
    """The largest change of the picture near a moment: when, how large, against the clip's median change."""

    at: float
    size: float
    usual: float

    @property
    def still(self) -> bool:
        """Whether nothing moves there."""
        return self.size < STILL


class Witness:
    """Measures clips in a model's place; has the audit's Model protocol."""

    name = NAME
    revision = REVISION
    view = LOOK
    abilities: frozenset[str] = frozenset()

    def answer(self, items: Sequence[Item], media: Sequence[Media]) -> list[Answer]:
        """One measurement a clip, as JSON."""
        found = [msgspec.json.encode(measured(m)).decode() for m in media]
        return [Answer(item=i.id, model=self.name, text=text) for i, text in zip(items, found, strict=True)]


def witness() -> Witness:
    """What workers load."""
    return Witness()


def item(clip: Clip, stamp: str = "") -> Item:
    """The order to measure a clip; ``stamp`` is its file's."""
    return finish(
        Item(
            id="", protocol="events", condition="original", question="measure", style=REVISION, clip=clip.id,
            source=clip.cluster, group=digest("events", clip.id, "measure"), prompt="measure", target=None,
            tags={"file": stamp, "part": f"{clip.start!r}-{clip.end!r}", "foley": clip.foley or ""},
        )
    )  # fmt: skip


def measured(media: Media) -> Measured:
    """Onsets with their salience, and the change of the picture."""
    wave, frames, times = media.wave, media.frames, media.times
    starts: tuple[Onset, ...] = ()
    if wave is not None:
        starts = tuple(_onset(wave, media.rate, float(at)) for at in onsets(wave, media.rate))
    changes: tuple[tuple[float, float], ...] = ()
    if frames is not None and times is not None:
        changes = tuple((round(float(t), 3), size) for t, size in zip(times[1:], _changes(frames), strict=True))
    return Measured(
        seconds=round(media.duration, 4), loudest=None if wave is None else _loudest(wave, media.rate),
        frames=0 if frames is None else len(frames), onsets=starts, changes=changes,
    )  # fmt: skip


def _onset(wave: Wave, rate: int, at: float) -> Onset:
    """Power of the 50 ms after an onset against that of the 50 ms before; mono."""
    mono = wave.mean(axis=0, dtype=np.float64)
    begin, span, gap = round(at * rate), round(SPAN * rate), round(GAP * rate)
    after = _decibels(mono[begin : begin + span])
    before = _decibels(mono[max(0, begin - gap - span) : max(0, begin - gap)])
    return Onset(round(at, 4), round(after - before, 2), round(after, 2))


def _decibels(part: np.ndarray) -> float:
    return float(10 * np.log10((np.mean(part**2) if len(part) else 0.0) + FLOOR))


def _loudest(wave: Wave, rate: int) -> float:
    mono = wave.mean(axis=0, dtype=np.float64)
    span = round(SPAN * rate)
    spans = [_decibels(mono[k : k + span]) for k in range(0, max(1, len(mono)), span)]
    return round(max(spans, default=-80.0), 2)


def _changes(frames: Frames) -> list[float]:
    """Mean grey-level change of the hundredth of the picture that changes most, frame after frame."""
    out = []
    for one, two in pairwise(frames):  # two at a time: a clip's floats would be gigabytes
        change = np.abs(two.mean(axis=-1, dtype=np.float32) - one.mean(axis=-1, dtype=np.float32)).ravel()
        count = max(1, round(TOP * change.size))
        out.append(round(float(np.partition(change, -count)[-count:].mean()), 2))
    return out


def salient(found: Measured, least: float) -> list[Onset]:
    """The onsets whose level rises by at least ``least`` dB, above silence."""
    return [o for o in found.onsets if o.rise >= least and o.level >= SILENT]


def nearest(some: Sequence[Onset], at: float) -> Onset | None:
    """The onset nearest to a moment; None where there is none."""
    return min(some, key=lambda o: (abs(o.at - at), o.at), default=None)


def covered(some: Sequence[Onset], seconds: float, reach: float) -> float:
    """The share of a clip that lies within ``reach`` seconds of an onset: what a made-up time passes by chance."""
    total = last = 0.0
    for o in sorted(some, key=lambda o: o.at):
        low, high = max(last, o.at - reach, 0.0), min(o.at + reach, seconds)
        total, last = total + max(0.0, high - low), max(last, high)
    return total / seconds if seconds > 0 else 0.0


def moving(found: Measured, at: float, reach: float) -> Change | None:
    """The largest change of the picture within ``reach`` seconds of a moment; None where there are no frames."""
    near = [(size, t) for t, size in found.changes if abs(t - at) <= reach + 1e-6]
    if not near:
        return None
    size, when = max(near, key=lambda pair: (pair[0], -abs(pair[1] - at)))
    return Change(when, size, round(float(np.median([s for _, s in found.changes])), 2))
