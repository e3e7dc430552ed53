"""From a recording to the sound of a clip: a phrase with quiet around it, and when in it something starts.

Two kinds of clips. A *call* is one phrase of 1.2 to 1.8 s in the middle of 7.6 to 9.5 s: its sound can be moved by
Thud's 1.8 to 2.5 s either way, and then falls where nothing moves. A *long* one is up to 5 s of the recording, or
the phrase twice where the recording is shorter. Around the phrase is digital silence; a shift fills up with the
same, so that a model cannot tell a shifted clip by the zeros alone.

Phrases are the loudest parts of the recording that do not overlap, in falling order; each clip takes the next one
(and begins again with the first). Nothing is pitched or stretched; levels differ by up to 6 dB.

Functions: ``sound`` (one clip's), ``envelope`` (what a picture moves by).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from earwitness.media import signal
from earwitness.records import Wave, digest

RATE = 48_000
FPS = 25
PEAK = 0.7  # of the loudest clip of a source
FADE_IN, FADE_OUT = 0.01, 0.12  # s, at a phrase's ends: a cut would click
EDGE = 2.9  # s before and after a call's phrase: a shift of 2.5 s stays 0.3 s inside
GAINS = (0.0, -3.0, -6.0)  # dB, by clip
RANGE = 30.0  # dB under the loudest moment at which the picture stands still
APART = 0.12  # s; onsets nearer than this are one to the eye: three frames


@dataclass(frozen=True, eq=False)
class Sound:
    """A clip's sound at 48 kHz, and the moments (s) at which something in it starts."""

    wave: Wave
    onsets: tuple[float, ...]
    long: bool

    @property
    def seconds(self) -> float:
        """Its length: whole frames."""
        return float(self.wave.shape[1]) / RATE


def sound(recording: Wave, number: int, key: str, *, long: bool) -> Sound:
    """The sound of clip ``number`` of a recording (mono, at 48 kHz); ``key`` draws lengths and places.

    Raises ValueError for a recording that is silent.
    """
    dice = np.random.default_rng(int(digest("starter", key, number), 16))
    if not np.abs(recording).max(initial=0.0) > 1e-4:
        raise ValueError("the recording is silent")
    whole = recording.shape[1] / RATE
    if long:
        length = min(5.0, whole)
        phrase = _phrase(recording, length, 0)
        again = whole < 3.0
        seconds = 6.4 if again else length + 1.0
        starts = (0.6, 0.6 + max(length + 0.5, 1.7 + 0.6 * float(dice.random()))) if again else (0.5,)
    else:
        length = min(whole, float(dice.choice([1.2, 1.5, 1.8])))
        phrase = _phrase(recording, length, number)
        seconds = 2 * EDGE + length + 1.2 * float(dice.random())
        starts = (EDGE + (seconds - 2 * EDGE - length) * float(dice.random()),)
    count = round(seconds * FPS)
    out = np.zeros((1, round(count / FPS * RATE)), dtype=np.float32)
    for start in starts:
        at = round(start * RATE)
        stop = min(at + phrase.shape[1], out.shape[1])
        out[:, at:stop] += phrase[:, : stop - at]
    gain = PEAK * 10 ** (GAINS[number % len(GAINS)] / 20) / float(np.abs(out).max())
    out *= np.float32(gain)
    return Sound(out, _onsets(out, starts), long)


def _phrase(recording: Wave, length: float, rank: int) -> Wave:
    """The loudest part of that length that overlaps with no louder one, by rank, faded at its ends."""
    size = min(recording.shape[1], round(length * RATE))
    hop = RATE // 50
    power = np.concatenate([[0.0], np.cumsum(np.square(recording[0], dtype=np.float64))])
    begins = np.arange(0, recording.shape[1] - size + 1, hop)
    level = power[begins + size] - power[begins]
    free = np.ones(len(begins), dtype=bool)
    order: list[int] = []
    while free.any() and len(order) <= rank:
        best = int(np.argmax(np.where(free, level, -1.0)))
        if order and level[best] < 0.05 * level[order[0]]:
            break  # -13 dB under the loudest: the recording's quiet rest
        order.append(best)
        free &= np.abs(begins - begins[best]) >= size
    begin = int(begins[order[rank % len(order)]])
    phrase = recording[:, begin : begin + size].copy()
    rise, fall = round(FADE_IN * RATE), round(FADE_OUT * RATE)
    phrase[:, :rise] *= np.linspace(0, 1, rise, dtype=np.float32)
    phrase[:, -fall:] *= np.linspace(1, 0, fall, dtype=np.float32)
    return phrase


def _onsets(wave: Wave, starts: Sequence[float]) -> tuple[float, ...]:
    """When something starts: each phrase's beginning as it is heard, and the onsets within."""
    curve, out = envelope(wave), []
    for start in starts:
        after = np.flatnonzero(curve[int(start * FPS) :] > 0.3)
        if len(after):
            out.append((int(start * FPS) + int(after[0])) / FPS)
    found = signal.onsets(wave, RATE)
    loud = [float(t) for t in found if curve[min(len(curve) - 1, int(t * FPS) + 1)] > 0.3]
    for t in loud:
        # The detector's moment is the finer one of two that mean the same.
        near = [n for n, o in enumerate(out) if abs(o - t) < APART]
        if near:
            out[near[0]] = t
        else:
            out.append(t)
    kept: list[float] = []
    for t in sorted(out):
        if not kept or t - kept[-1] >= APART:
            kept.append(t)
    return tuple(round(t, 3) for t in kept)


def envelope(wave: Wave) -> NDArray[np.float64]:
    """How loud it is while each frame is shown, from 0 (30 dB or more under the loudest) to 1; [frames].

    Frames are 25 a second; a frame has the sound that is heard while it is on show, so that picture and sound agree
    to a frame.
    """
    step = RATE // FPS
    power = np.square(wave[0, : wave.shape[1] // step * step].reshape(-1, step), dtype=np.float64).mean(axis=1)
    level = 10 * np.log10(power + 1e-12)
    curve: NDArray[np.float64] = np.clip((level - level.max() + RANGE) / RANGE, 0.0, 1.0)
    return curve
