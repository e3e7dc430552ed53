"""The cheap gates: faults of a clip that need no model to be found. Pure functions on a decoded clip.

A gate answers one question about one clip ("does anything move?") and gives verdicts: what was measured, its limit,
and in words what that means. Passing a gate is not being good; failing one is being of no use, since no later
check, judge or person could make anything of the clip. All limits are fields of :class:`Limits`, each with its
reason in docs/checks_gates.md.

Gates look at a clip as ``media.load`` gives it through :data:`LOOK`: two small pictures a second and mono sound.
They take larger pictures, other rates and more channels as well.

Functions: ``gates`` (all of them on a clip), or one by one ``tracks``, ``length``, ``loudness``, ``clipping``,
``motion``, ``brightness``, ``offset``, ``sync``; over a whole set ``duplicates`` in
:mod:`earwitness.curate.checks.prints`; with a tagger's ears ``intruders`` in
:mod:`earwitness.curate.checks.gates_intruders`.
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec
import numpy as np
from numpy.typing import NDArray

from earwitness.curate.checks.verdict import Verdict
from earwitness.media.probe import Probe
from earwitness.media.signal import loudness_lufs, onsets
from earwitness.records import Clip, Frames, Media, View, Wave, how_many

REVISION = "gates-1"  # who made these verdicts; a change of what is measured is a new one
LOOK = View(fps=2.0, size=(64, 64), rate=16_000)  # what a clip is decoded to for its gates and its print
GRID = 8  # a picture is compared in 8 x 8 blocks
SPAN = 0.05  # s: a short-time level's span; a click of 1 ms is 17 dB down in it, a footstep is not
FULL = 0.99  # of full scale, at and above which a sample counts as clipped


class Limits(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a clip must keep to. dBFS: 0 is a full-scale square wave (RMS 1). Reasons: docs/checks_gates.md."""

    seconds: float = 1.0  # at least: a tagger's window
    longest: float = 600.0  # at most
    silent: float = -60.0  # dBFS, loudest 50 ms: below, a track is silent
    quiet: float = -50.0  # LUFS: below, too quiet to judge
    clipped: float = 0.01  # share of samples at full scale
    moving: float = 0.1  # share of picture pairs in which something moves
    change: float = 2.0  # grey levels of 255 by which a block must change to count as moving
    bright: float = 16.0  # grey level of the brightest block of any picture
    early: float = 0.09  # s: sound before picture
    late: float = 0.185  # s: sound after picture
    near: float = 0.5  # s around an event's picture in which its sound is looked for
    speech: float = 0.5  # mean probability over a clip that is of something else
    music: float = 0.5
    picture: float = 0.22  # share of differing bits under which two pictures are one
    sound: float = 0.25  # share of differing bits under which two sounds are one

    def __post_init__(self) -> None:
        for name in ("silent", "quiet"):
            value = getattr(self, name)
            if value > 0:
                raise ValueError(f"{name}={value:g}: a level is 0 at most (did you mean -{value:g}?)")
        for name in ("clipped", "moving", "speech", "music", "picture", "sound"):
            value = getattr(self, name)
            if not 0 <= value <= 1:
                raise ValueError(f"{name}={value:g}: a share is from 0 to 1 (per cent? 0.1 is ten)")
        for name in ("early", "late", "near"):
            value = getattr(self, name)
            if not 0 <= value < 30:
                raise ValueError(f"{name}={value:g}: wants seconds, 0 or more (milliseconds?)")
        for name in ("change", "bright"):
            value = getattr(self, name)
            if not 0 <= value <= 255:
                raise ValueError(f"{name}={value:g}: wants grey levels, 0 to 255")
        if not 0 <= self.seconds <= self.longest:
            raise ValueError(
                f"seconds={self.seconds:g}, longest={self.longest:g}: want seconds, the first one not above the "
                "second one (milliseconds?)"
            )


def _made(
    clip: Clip, check: str, passed: bool | None, why: str, value: float | None = None, limit: float | None = None,
    unit: str = "",
) -> Verdict:  # fmt: skip
    shown = None if value is None or not np.isfinite(value) else round(float(value), 4)
    return Verdict(
        clip=clip.id, check=check, passed=passed, value=shown, limit=limit, unit=unit, why=why, by=REVISION
    )


def tracks(clip: Clip, media: Media, limits: Limits) -> list[Verdict]:
    """``picture_track`` and ``sound_track``: are there both?"""
    return [
        _made(clip, f"{what}_track", there, f"has a {what} track" if there else f"no {what} track")
        for what, there in (("picture", media.frames is not None), ("sound", media.wave is not None))
    ]


def length(clip: Clip, media: Media, limits: Limits) -> list[Verdict]:
    """``length``: neither too short to hold anything nor a whole film (of which no one label is true)."""
    seconds = media.duration
    short = seconds < limits.seconds
    passed = not short and seconds <= limits.longest
    limit = limits.longest if seconds > limits.longest else limits.seconds
    word = "at most" if seconds > limits.longest else "at least"
    said = f"{seconds:.2f} s long, wanted are {word} {limit:g} s"
    return [_made(clip, "length", passed, said, seconds, limit, "s")]


def levels(wave: Wave, rate: int) -> NDArray[np.float64]:
    """Short-time levels in dBFS: the RMS over 50 ms, every 25 ms, of the loudest channel; -inf for zeros."""
    count = wave.shape[1]
    size = max(1, min(count, round(SPAN * rate)))
    power = np.square(wave, dtype=np.float64)
    sums = np.concatenate([np.zeros((len(wave), 1)), np.cumsum(power, axis=1)], axis=1)
    starts = np.arange(0, count - size + 1, max(1, size // 2))
    mean = (sums[:, starts + size] - sums[:, starts]).max(axis=0) / size
    # What a running sum leaves behind a loud sound is rounding, not sound: 1e-16 of it.
    mean[mean < 1e-13] = 0.0
    with np.errstate(divide="ignore"):
        out: NDArray[np.float64] = 10 * np.log10(mean)
    return out


def loudness(clip: Clip, media: Media, limits: Limits) -> list[Verdict]:
    """``silent``: is anything on the track? ``quiet``: is it loud enough to be judged?

    The loudest 50 ms decide about silence (a single bark in a still night is no silence); the integrated loudness
    (ITU-R BS.1770) about quietness.
    """
    wave = media.wave
    if wave is None:
        return [_made(clip, check, None, "no sound track") for check in ("silent", "quiet")]
    if not wave.shape[1]:
        return [_made(clip, check, None, "the sound track holds no sample") for check in ("silent", "quiet")]
    top = float(levels(wave, media.rate).max())
    if np.isinf(top):
        said = "every sample is 0" if not wave.any() else "never above -130 dBFS"
        return [
            _made(clip, "silent", False, said, None, limits.silent, "dBFS"),
            _made(clip, "quiet", None, "silent"),
        ]
    passed = top >= limits.silent
    said = f"{top:.1f} dBFS at its loudest, the limit is {limits.silent:g}"
    out = [_made(clip, "silent", passed, said, top, limits.silent, "dBFS")]
    if not passed:
        return [*out, _made(clip, "quiet", None, "silent")]
    loud = loudness_lufs(wave, media.rate)
    said = f"{loud:.1f} LUFS, the limit is {limits.quiet:g}"
    if np.isinf(loud):
        said = f"below the gate of -70 LUFS, the limit is {limits.quiet:g}"
    return [*out, _made(clip, "quiet", loud >= limits.quiet, said, loud, limits.quiet, "LUFS")]


def clipping(clip: Clip, media: Media, limits: Limits) -> list[Verdict]:
    """``clipped``: the share of samples at full scale, in the worst channel.

    Works on sound at its own rate (``media.load_native``) best: resampling rounds the flat tops off, so at 16 kHz
    only gross clipping shows.
    """
    wave = media.wave
    if wave is None or not wave.shape[1]:
        return [_made(clip, "clipped", None, "no sound track" if wave is None else "no sample")]
    share = float((np.abs(wave) >= FULL).mean(axis=1).max())
    said = f"{100 * share:.2f} % of the samples are at full scale, the limit is {100 * limits.clipped:g} %"
    return [_made(clip, "clipped", share <= limits.clipped, said, share, limits.clipped, "share")]


# ---------------------------------------------------------------- pictures


def blocks(frames: Frames) -> NDArray[np.float32]:
    """Mean grey [time, 8, 8] of a picture's blocks: what is left when codec noise and grain are averaged out."""
    grey = (frames.astype(np.float32) @ np.array([0.299, 0.587, 0.114], np.float32)).astype(np.float32)
    return area(grey, GRID)


def area(grey: NDArray[np.float32], side: int) -> NDArray[np.float32]:
    """Pictures [time, height, width] averaged over side x side areas (nearly equal where it does not divide)."""
    height, width = grey.shape[1:]
    if height < side or width < side:
        rows, columns = (np.arange(side) * size // side for size in (height, width))
        return grey[:, rows][:, :, columns]
    rows, columns = (np.arange(side) * size // side for size in (height, width))
    summed = np.add.reduceat(np.add.reduceat(grey, rows, axis=1), columns, axis=2)
    sizes = np.diff([*rows, height])[:, None] * np.diff([*columns, width])
    out: NDArray[np.float32] = (summed / sizes).astype(np.float32)
    return out


def motion(clip: Clip, media: Media, limits: Limits) -> list[Verdict]:
    """``still``: in what share of successive pictures does any block of 8 x 8 change?

    A photo with sound, a title, a slide show of a few photos: nothing in them *does* the sound. Blocks, because a
    talking mouth moves a fiftieth of a picture; their means, because a still encoded as video shimmers.
    """
    frames = media.frames
    if frames is None:
        return [_made(clip, "still", None, "no picture track")]
    if len(frames) < 2:
        return [_made(clip, "still", None, "one picture was looked at (more frames a second, or a longer clip)")]
    small = blocks(frames)
    changed = np.abs(np.diff(small, axis=0)).max(axis=(1, 2))
    share = float((changed >= limits.change).mean())
    said = (
        f"something moves in {100 * share:.0f} % of {len(changed)} picture pairs, the limit is "
        f"{100 * limits.moving:g} %"
    )
    if not share:
        said = f"a still picture: no part of it changes by {limits.change:g} grey levels"
    return [_made(clip, "still", share >= limits.moving, said, share, limits.moving, "share")]


def brightness(clip: Clip, media: Media, limits: Limits) -> list[Verdict]:
    """``dark``: the brightest block of any picture. All pictures black, and nothing can be seen in them."""
    if media.frames is None:
        return [_made(clip, "dark", None, "no picture track")]
    top = float(blocks(media.frames).max())
    said = f"grey level {top:.0f} at its brightest, the limit is {limits.bright:g}"
    return [_made(clip, "dark", top >= limits.bright, said, top, limits.bright, "grey level")]


# ---------------------------------------------------------------- time


def offset(clip: Clip, probe: Probe, limits: Limits) -> list[Verdict]:
    """``offset``: seconds by which the container lets the sound start after the first shown picture.

    Players keep to it; most loaders of models drop it, so to a model such a clip is out of sync by as much. Only
    sound that starts late or early counts, not sound that is there all along (``media.probe`` measures it).
    """
    if probe.sound is None or probe.picture is None:
        return [_made(clip, "offset", None, "not both a sound and a picture track")]
    late = probe.sound.start
    word = "after" if late >= 0 else "before"
    said = f"sound starts {abs(late):.3f} s {word} the picture, allowed are {-limits.early:g} to {limits.late:g} s"
    limit = limits.late if late >= 0 else -limits.early
    return [_made(clip, "offset", -limits.early <= late <= limits.late, said, late, limit, "s")]


def sync(clip: Clip, media: Media, limits: Limits) -> list[Verdict]:
    """``sync``: where events are labelled, the median time from what is seen to the acoustic onset nearest to it.

    Only events that are both seen and heard; an onset counts within ``limits.near`` of what is seen. No verdict
    where fewer than half of the events have one: steady sounds have no onset.
    """
    wave = media.wave
    if wave is None:
        return [_made(clip, "sync", None, "no sound track")]
    both = [e.seen for e in clip.events if e.seen is not None and e.heard is not None]
    seen = [at for at in both if 0 <= at <= media.duration]
    if not seen:
        return [_made(clip, "sync", None, "no event is labelled as seen and heard")]
    found = onsets(wave, media.rate)
    lags = [float(found[np.abs(found - at).argmin()] - at) for at in seen] if len(found) else []
    lags = [lag for lag in lags if abs(lag) <= limits.near]
    if 2 * len(lags) < len(seen):
        said = f"an onset within {limits.near:g} s at {len(lags)} of {len(seen)} events only"
        return [_made(clip, "sync", None, said)]
    lag = float(np.median(lags))
    word = "after" if lag >= 0 else "before"
    said = (
        f"heard {abs(lag):.3f} s {word} it is seen (median of {how_many(len(lags), 'event')}), allowed are "
        f"{-limits.early:g} to {limits.late:g} s"
    )
    limit = limits.late if lag >= 0 else -limits.early
    return [_made(clip, "sync", -limits.early <= lag <= limits.late, said, lag, limit, "s")]


Gate = Callable[[Clip, Media, Limits], list[Verdict]]
GATES: tuple[Gate, ...] = (tracks, length, loudness, clipping, motion, brightness, sync)


def gates(
    clip: Clip, media: Media, limits: Limits | None = None, *, probe: Probe | None = None,
    native: Media | None = None,
) -> list[Verdict]:  # fmt: skip
    """Every gate on one clip. ``probe``: for the offset; ``native``: its sound at its own rate, for clipping."""
    limits = limits or Limits()
    out: list[Verdict] = []
    for gate in GATES:
        out += gate(clip, native if gate is clipping and native is not None else media, limits)
    if probe is not None:
        out += offset(clip, probe, limits)
    return out
