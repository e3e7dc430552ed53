"""Clips of one size and length for training: aspect-preserving resize, centre crop, exactly ten seconds.

MMA-Bench trains on clips of 504 x 504 pixels (36 x 36 patches of 14) and 10 s; shorter ones are dropped, longer
ones cut (appendix C of arXiv 2511.22826). The picture is scaled until it covers the square, then cropped in the
middle, so nothing is stretched; frames are taken by their time stamps at a constant rate; the sound keeps its rate
and channels.

Differs from the source: a clip counts as 10 s long if no more than one of its frames is missing (AudioSet's cuts
often last 9.97 s by their pictures, and a container's stated length may be the sound's): its last picture stays on
show and its sound is filled up with silence for that long. Written once as H.264 with FLAC (there: AAC).

Functions: ``cover`` (the size to resize to), ``long_enough``, ``prepare`` (one file).
"""

from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np

from earwitness import media
from earwitness.media import MediaError
from earwitness.records import Frames, View, Wave

SIDE = 504  # pixels; 36 patches of 14
SECONDS = 10.0
FASTEST = 30.0  # frames a second at most: models take 1 or 2
EVEN = 2  # H.264's halved colour needs even sides


class Square(msgspec.Struct, frozen=True, kw_only=True):
    """What is wanted: the side of the picture in pixels (0 = its own size), the length in seconds (0 = its own)."""

    side: int = SIDE
    seconds: float = SECONDS

    def __post_init__(self) -> None:
        if self.side % EVEN or not 0 <= self.side <= 4096:
            raise ValueError(f"side={self.side}: wants an even number of pixels up to 4096 (14 x 36 = 504)")
        if not 0 <= self.seconds <= 600:
            raise ValueError(f"seconds={self.seconds:g}: wants up to 600 s (milliseconds?)")


def cover(height: int, width: int, side: int) -> tuple[int, int]:
    """The smallest (height, width) of that aspect that covers a square of ``side``."""
    scale = side / min(height, width)
    return max(side, round(height * scale)), max(side, round(width * scale))


def centre(frames: Frames, side: int) -> Frames:
    """The square in the middle of the pictures, [time, side, side, 3]."""
    top, left = (frames.shape[1] - side) // 2, (frames.shape[2] - side) // 2
    return np.ascontiguousarray(frames[:, top : top + side, left : left + side])


def rate_of(fps: float) -> float:
    """A constant rate near a clip's own, of which ten seconds hold a whole number of frames: 23.976 -> 24."""
    return float(min(max(1, round(fps)), FASTEST))


def long_enough(duration: float, fps: float, seconds: float) -> bool:
    """Whether a clip lasts that long, or one frame less."""
    return duration >= seconds - 1.0 / fps - 1e-3


def prepare(
    source: str | Path,
    out: str | Path,
    wanted: Square | None = None,
    *,
    start: float = 0.0,
    end: float | None = None,
) -> None:
    """Write the square, ten-second version of a clip.

    Raises MediaError for a clip without pictures or sound, or that is too short (it says by how much).
    """
    want, source, out = wanted or Square(), Path(source), Path(out)
    found = media.probe(source)
    if found.picture is None or found.sound is None:
        raise MediaError(f"{source}: has no {'pictures' if found.picture is None else 'sound track'}")
    fps = rate_of(found.picture.fps)
    last = found.duration if end is None else min(end, found.duration)
    seconds = want.seconds or last - start
    if not long_enough(last - start, min(fps, found.picture.fps), seconds):
        raise MediaError(f"{source}: lasts {last - start:.2f} s, shorter than {seconds:g} s")
    stop = min(start + seconds, found.duration)
    size = cover(found.picture.height, found.picture.width, want.side) if want.side else None
    shown = media.load(source, View(fps=fps, size=size, rate=16_000), start=start, end=stop)
    heard = media.load_native(source, start=start, end=stop)
    assert shown.frames is not None
    assert heard.wave is not None
    frames = centre(shown.frames, want.side) if want.side else shown.frames
    count = round(seconds * fps)
    media.write_clip(
        _long(frames, count), fps, _filled(heard.wave, round(count / fps * heard.rate)), heard.rate, out
    )


def _long(frames: Frames, count: int) -> Frames:
    """Exactly that many pictures: cut, or the last one again."""
    if len(frames) >= count:
        return frames[:count]
    return np.concatenate([frames, np.repeat(frames[-1:], count - len(frames), axis=0)])


def _filled(wave: Wave, samples: int) -> Wave:
    """Exactly that many samples: cut, or filled with zeros."""
    kept = wave[:, :samples]
    return np.pad(kept, ((0, 0), (0, samples - kept.shape[1])))
