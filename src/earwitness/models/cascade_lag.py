"""By how much is the sound late? The change of the picture against that of the sound's level, and a prejudice.

Whoever listens compares two curves: how much the picture changes from frame to frame, and how much the level of the
sound does. Whoever does not expects them in step. The dial weighs the two:

    l* = argmax over |l| <= 3 s of (1 - d) r(l) + d [|l| <= half a frame],   r the normalised cross-correlation

so that at d = 1 everything is in step, and whatever passes as in step at one dial does at every higher one.

Functions: ``lag``, ``correlations``.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from earwitness.records import Frames, Wave

REACH = 3.0  # s; audits move sounds by up to 2.5
RANGE = 40.0  # dB under the loudest that count as silent
Curve = NDArray[np.float64]


def lag(frames: Frames, wave: Wave, rate: int, fps: float, dial: float) -> float:
    """Seconds by which the sound comes after the picture, as far as the dial lets it be believed."""
    lags, r = correlations(frames, wave, rate, fps)
    believed = (1 - dial) * r + dial * (np.abs(lags) < 0.5 / fps)
    return float(lags[int(np.argmax(believed))])


def correlations(frames: Frames, wave: Wave, rate: int, fps: float) -> tuple[Curve, Curve]:
    """Lags in s (> 0 = sound late) and the correlation of both curves at each; 0 where one does not change."""
    seen, heard = _picture(frames), _level(wave, rate, fps, len(frames))
    reach = min(round(REACH * fps), len(seen) - 1)
    steps = np.arange(-reach, reach + 1)
    size = float(np.linalg.norm(seen) * np.linalg.norm(heard))
    whole = np.correlate(heard, seen, mode="full")  # index len - 1 is lag 0; later ones: heard later
    middle = len(seen) - 1
    r = whole[middle - reach : middle + reach + 1] / size if size > 0 else np.zeros(len(steps))
    return steps / fps, r


def _picture(frames: Frames) -> Curve:
    """How much the picture changes before each frame, less what it always does (a drift, grain), >= 0."""
    small = frames[:, ::4, ::4].astype(np.float32).mean(axis=3)
    change = np.abs(np.diff(small, axis=0, prepend=small[:1])).mean(axis=(1, 2)).astype(np.float64)
    rest: Curve = np.maximum(change - np.median(change), 0.0)
    return rest


def _level(wave: Wave, rate: int, fps: float, count: int) -> Curve:
    """How much the sound's level changes before each frame, in dB within 40 dB of the loudest, >= 0."""
    edges = np.minimum((np.arange(count + 1) / fps * rate).round().astype(int), wave.shape[1])
    power = np.concatenate([[0.0], np.cumsum(np.square(wave.mean(axis=0, dtype=np.float64)))])
    mean = (power[edges[1:]] - power[edges[:-1]]) / np.maximum(np.diff(edges), 1)
    level = np.clip(10 * np.log10(mean + 1e-12) - 10 * np.log10(mean.max() + 1e-12) + RANGE, 0.0, None)
    change: Curve = np.abs(np.diff(level, prepend=level[:1]))
    return change
