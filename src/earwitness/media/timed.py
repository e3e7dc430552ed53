"""Pictures at their own times to a silent file: what a clip in memory becomes before it is sent to a server."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import numpy as np

from earwitness.media.encode import _encode
from earwitness.records import Frames, Times

TICKS = 90_000  # a second: the usual clock of video, finer than any frame rate


def write_timed(frames: Frames, times: Times, duration: float, out: str | Path) -> None:
    """Encode pictures (H.264, crf 20, yuv420p) that are shown from ``times`` on, the last until ``duration``.

    frames is uint8 [time, height, width, 3]; times are seconds, rising, the first at 0. No sound track: lay one
    beside with ``write_sound``. Unlike ``write_clip`` it keeps lengths that are no whole number of frames, so that
    sound as long as the clip fits. Raises ValueError for times that do not fit.
    """
    if frames.ndim != 4 or frames.shape[-1] != 3 or frames.dtype != np.uint8 or not len(frames):
        raise ValueError(f"frames must be uint8 [time, height, width, 3], got {frames.dtype} {list(frames.shape)}")
    if len(times) != len(frames):
        raise ValueError(f"{len(times)} times for {len(frames)} frames")
    ticks = np.rint((np.asarray(times) - times[0]) * TICKS).astype(np.int64)
    ends = np.append(ticks[1:], max(round(duration * TICKS), int(ticks[-1]) + 1))
    if (ends <= ticks).any():
        raise ValueError("times must rise by more than 1/90000 s from frame to frame (unsorted, or milliseconds?)")
    _encode(
        frames.__getitem__,
        [int(t) for t in ticks],
        [int(n) for n in ends - ticks],
        Fraction(1, TICKS),
        None,
        0,
        Path(out),
        "flac",
        duration=float(ends[-1]) / TICKS,
    )
