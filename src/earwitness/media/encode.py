"""New pictures beside exact sound: clips made from arrays, and the same clip black or frozen.

All are H.264 at constant quality (crf 20), yuv420p, with the index in front of the data, which every player and
every model loader tried reads. Black and frozen clips keep the source's time stamps one for one, so that a variable
frame rate stays as it was.
"""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from numpy.typing import NDArray

from earwitness.media.clock import Clock, clock
from earwitness.media.decode import load_native, pictures_at
from earwitness.media.opening import Demuxed, Limits, MediaError, Source, blaming, held
from earwitness.media.write import check_wave, container_of, encoded_sound, mux, replacing
from earwitness.records import Frames, View, Wave

Picture = NDArray[np.uint8]  # [height, width, 3]


def write_clip(
    frames: Frames, fps: float, wave: Wave | None, rate: int, out: str | Path, codec: str = "flac"
) -> None:
    """Encode pictures (H.264, crf 20, yuv420p, index in front) and sound into a file that everything plays.

    frames is uint8 [time, height, width, 3]; odd heights or widths are filled up by repeating the last line (halved
    colour needs even ones). wave is [channels, round(len(frames) / fps * rate)], or None for no sound track. Raises
    ValueError for shapes that do not fit.
    """
    if frames.ndim != 4 or frames.shape[-1] != 3 or frames.dtype != np.uint8 or not len(frames):
        raise ValueError(f"frames must be uint8 [time, height, width, 3], got {frames.dtype} {list(frames.shape)}")
    if not 0 < fps <= 1000:
        raise ValueError(f"fps must be in (0, 1000] frames a second, got {fps}")
    base = 1 / Fraction(fps).limit_denominator(1001)
    count = len(frames)
    _encode(frames.__getitem__, list(range(count)), [1] * count, base, wave, rate, Path(out), codec)


def write_black(source: Source, out: str | Path, codec: str = "flac", wave: Wave | None = None) -> None:
    """The source with every picture black (RGB exactly 0): same stamps, same upright size, its own sound.

    ``wave``: another sound, at the source's rate, instead of its own. A source without a sound track stays without
    one. Raises MediaError, or ValueError for a wrong ``out``.
    """
    _write_still(source, 0.0, out, codec, black=True, wave=wave)


def write_freeze(source: Source, out: str | Path, at: float = 0.0, codec: str = "flac") -> None:
    """The source with the picture on show at ``at`` seconds in place of every picture; stamps and sound kept.

    Raises MediaError, or ValueError for a time outside of the clip or a wrong ``out``.
    """
    _write_still(source, at, out, codec, black=False)


def _write_still(
    source: Source, at: float, out: str | Path, codec: str, *, black: bool, wave: Wave | None = None
) -> None:
    with held(source, Limits()) as demuxed:
        ticking = clock(demuxed)
        if ticking is None:
            raise MediaError(f"{demuxed.path}: has no pictures to replace (a sound file?)")
        if not 0 <= at < ticking.duration:
            raise ValueError(
                f"{demuxed.path}: no picture at {at:g} s in a clip of {ticking.duration:.2f} s (milliseconds?)"
            )
        container_of(Path(out), demuxed.path)
        still = pictures_at(demuxed, np.array([at]), View())[0]
        if black:
            still = np.zeros_like(still)
        sound = load_native(demuxed)
        lengths = _lengths(demuxed, ticking)
        with blaming(demuxed.path, f"writing {out}"):
            _encode(
                lambda _: still,
                [p - ticking.pts[0] for p in ticking.pts],
                lengths,
                ticking.base,
                sound.wave if wave is None else wave,
                sound.rate,
                Path(out),
                codec,
                duration=ticking.duration,
            )


def _lengths(demuxed: Demuxed, ticking: Clock) -> list[int]:
    """Ticks that each picture is on show: to the next one, the last to the clip's end."""
    end = ticking.pts[0] + round(ticking.duration / ticking.base)
    return [b - a for a, b in zip(ticking.pts, [*ticking.pts[1:], end], strict=True)]


def _even(pixels: Picture) -> Picture:
    """The picture with even sides: the last line repeated where needed."""
    height, width = pixels.shape[:2]
    if height % 2 or width % 2:
        return np.pad(pixels, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")
    return np.ascontiguousarray(pixels)


def _in_yuv(pixels: Picture) -> av.VideoFrame:
    """The picture as the encoder takes it (it would convert each frame to this itself, in the same way)."""
    return av.VideoFrame.from_ndarray(_even(pixels), format="rgb24").reformat(format="yuv420p")


def _encode(
    pixels: Callable[[int], Picture],
    stamps: list[int],
    lengths: list[int],
    base: Fraction,
    wave: Wave | None,
    rate: int,
    out: Path,
    codec: str,
    duration: float | None = None,
) -> None:
    """Encode pictures stamped in ticks of ``base``, and the sound, into ``out``."""
    kind = container_of(out)
    seconds = float((stamps[-1] + lengths[-1]) * base) if duration is None else duration
    if wave is not None:
        check_wave(wave, rate, codec, kind, seconds)
    options = {} if kind == "matroska" else {"movflags": "+faststart"}
    with replacing(out) as partial, av.open(str(partial), "w", format=kind, options=options) as target:
        first = _even(pixels(0))
        pace = Fraction(len(stamps) / seconds).limit_denominator(1001)
        # One thread: the bytes then do not depend on the machine's cores.
        # No reordering: a container tells a picture's length by decode time, which then is its time on show.
        quality = {"crf": "20", "preset": "veryfast", "threads": "1", "bf": "0"}
        track = target.add_stream("libx264", rate=pace, options=quality)
        track.height, track.width, track.pix_fmt = first.shape[0], first.shape[1], "yuv420p"
        track.codec_context.time_base = base
        packets: list[Any] = []
        sound = [] if wave is None else encoded_sound(target, wave, rate, codec)
        last, frame = None, None
        for index, stamp in enumerate(stamps):
            picture = pixels(index)
            if picture is not last:  # a still picture is turned into the codec's colours once
                last, frame = picture, _in_yuv(picture)
            assert frame is not None
            frame.pts, frame.time_base = stamp, base
            packets += track.encode(frame)
        packets += track.encode(None)
        length = dict(zip(stamps, lengths, strict=True))
        mux(target, track, packets, [(p.pts, p.dts, length[p.pts]) for p in packets], base, sound)
