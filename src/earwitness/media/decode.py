"""File to arrays, on one clock: what is seen and heard, sampled as a model wants it.

``load`` decodes a file once into a Media: pictures at ``view.fps`` by their time stamps (never by their number: the
claimed rate of a variable-rate clip can be off by more than a usual shift), turned upright, resized; sound mixed
down to mono as the *mean* of the channels (as librosa and the Qwen omni models do; FFmpeg's own mix-down is 3 dB
louder), resampled with soxr. ``load_native`` keeps the sound's own rate and channels, for writing files.

Pictures are sampled in one pass: packets that no wanted picture needs are skipped where nothing else refers to
them, so the result is bit-equal to a full decode and cheaper.
"""

from __future__ import annotations

from collections.abc import Generator
from pathlib import Path
from typing import Any

import av
import numpy as np
import soxr
from numpy.typing import NDArray

from earwitness.media.clock import Clock, clock, decode_pictures, decoded_clock, sound_end
from earwitness.media.opening import Demuxed, Limits, MediaError, Source, blaming, check_seconds, check_sound, held
from earwitness.records import Frames, Media, Times, View, Wave

GAP = 0.03  # seconds: smaller disagreements of stamps are rounding (Matroska's 1 ms ticks), larger ones are holes
TAIL = 0.5  # seconds by which a label may run past the end of its clip (10 s clips often last 9.97 s)


def load(
    path: Source,
    view: View | None = None,
    *,
    start: float = 0.0,
    end: float | None = None,
    limits: Limits | None = None,
) -> Media:
    """Decode a clip: frames at view.fps and size, wave mono [1, round(duration * rate)] at view.rate.

    Parameters
    ----------
    path : a file, or what ``demux`` gave.
    view : fps, exact (height, width) or a pixel cap, rate.
    start, end : crop in seconds on the clip's clock; the result's t = 0 is ``start``.

    ``times`` are the nominal sample times k / fps; the frame is the one on show then. Frames are None without a
    picture track, wave None without a sound track; sound that starts late, ends early or has holes above 30 ms is
    filled with zeros. Raises MediaError for anything wrong with the file, ValueError for a wrong view or crop.
    """
    view, limits = view or View(), limits or Limits()
    _check_view(view)
    with held(path, limits) as source, blaming(source.path, "decoding"):
        ticking = clock(source)
        if ticking is None:
            sound, rate, duration = _only_sound(source, start, end, mono=True)
            return _media(None, None, _resampled(sound, rate, view.rate, duration), view.rate, duration)
        first, last = window(source.path, ticking.duration, start, end)
        duration = last - first
        times = sample_times(view.fps, duration)
        frames = _sample(source, ticking, first + times, view)
        wave: Wave | None = None
        if source.audio is not None:
            sound, rate, _ = _sound(source, ticking.zero + first, duration, mono=True)
            wave = _resampled(sound, rate, view.rate, duration)
        return _media(frames, times, wave, view.rate, duration)


def load_native(
    path: Source, *, start: float = 0.0, end: float | None = None, limits: Limits | None = None
) -> Media:
    """The sound at its own rate and channels on the clip's clock, without the pictures (frames None).

    ``duration`` is the clip's (the pictures' where there are any); wave is [channels, round(duration * rate)], or
    None with rate 0 where the file has no sound track. Raises MediaError.
    """
    limits = limits or Limits()
    with held(path, limits) as source, blaming(source.path, "decoding the sound"):
        ticking = clock(source)
        if ticking is None:
            wave, rate, duration = _only_sound(source, start, end, mono=False)
            return _media(None, None, wave, rate, duration)
        first, last = window(source.path, ticking.duration, start, end)
        if source.audio is None:
            return _media(None, None, None, 0, last - first)
        wave, rate, _ = _sound(source, ticking.zero + first, last - first, mono=False)
        return _media(None, None, wave, rate, last - first)


def _media(frames: Frames | None, times: Times | None, wave: Wave | None, rate: int, duration: float) -> Media:
    return Media(frames=frames, times=times, wave=wave, rate=rate, duration=duration)


def _check_view(view: View) -> None:
    if not 0 < view.fps <= 1000:
        raise ValueError(f"view.fps must be in (0, 1000] frames a second, got {view.fps}")
    if view.rate < 1000:
        raise ValueError(f"view.rate must be at least 1000 Hz, got {view.rate} (did you pass kHz?)")
    if view.size is not None and min(view.size) < 1:
        raise ValueError(f"view.size must be (height, width) of at least 1, got {view.size}")
    if view.max_pixels is not None and view.max_pixels < 16:
        raise ValueError(f"view.max_pixels must be at least 16, got {view.max_pixels}")


def window(path: Path, duration: float, start: float, end: float | None) -> tuple[float, float]:
    """The crop [start, end) within a clip of ``duration`` seconds; raises MediaError where it leaves the clip."""
    last = duration if end is None else end
    if not 0 <= start < duration:
        raise MediaError(
            f"{path}: start={start:g} s is outside of the clip's {duration:.2f} s (did you pass milliseconds?)"
        )
    if last <= start:
        raise MediaError(f"{path}: end={last:g} s is not after start={start:g} s (swapped, or a length?)")
    if last > duration + TAIL:
        raise MediaError(
            f"{path}: end={last:g} s is after the clip's end at {duration:.2f} s (seconds of the uncut recording?)"
        )
    return start, min(last, duration)


def sample_times(fps: float, duration: float) -> Times:
    """Nominal sample times k / fps that lie before the end; at least one."""
    return np.arange(max(1, int(np.ceil(duration * fps - 1e-6)))) / fps


# ---------------------------------------------------------------- pictures


def fitted(height: int, width: int, view: View) -> tuple[int, int]:
    """The (height, width) that a view wants of an upright picture."""
    if view.size is not None:
        return view.size
    if view.max_pixels is None or height * width <= view.max_pixels:
        return height, width
    scale = (view.max_pixels / (height * width)) ** 0.5
    return max(1, int(height * scale)), max(1, int(width * scale))


def picture(frame: Any, view: View) -> NDArray[np.uint8]:
    """One PyAV frame as RGB [height, width, 3]: resized (bicubic), then turned upright."""
    turns = round(frame.rotation / 90) % 4  # quarter turns counter-clockwise; other angles do not occur in clips
    upright = (frame.height, frame.width) if turns % 2 == 0 else (frame.width, frame.height)
    height, width = fitted(*upright, view)
    if turns % 2:
        height, width = width, height
    if (height, width) != (frame.height, frame.width):
        frame = frame.reformat(width=width, height=height, format="rgb24", interpolation="BICUBIC")
    pixels: NDArray[np.uint8] = frame.to_ndarray(format="rgb24")
    return np.rot90(pixels, turns) if turns else pixels


def _sample(source: Demuxed, ticking: Clock, seconds: Times, view: View, *, skip: bool = True) -> Frames:
    """The pictures on show at these times [time, height, width, 3], from one pass over the packets."""
    wanted = ticking.shown_at(seconds)
    where: dict[int, list[int]] = {}
    for index, pts in enumerate(wanted):
        where.setdefault(pts, []).append(index)
    out: Frames | None = None
    feed = _decode_wanted(source, set(where)) if skip and ticking.stamped else decode_pictures(source)
    missing = set(where)
    for frame in feed:
        if frame.pts not in missing:
            continue
        if frame.is_corrupt:
            raise MediaError(
                f"{source.path}: the picture at {frame.time:.2f} s is damaged (an unfinished download?)"
            )
        pixels = picture(frame, view)
        if out is None:
            out = _room(source, len(wanted), pixels.shape)
        elif pixels.shape != out.shape[1:]:
            raise MediaError(
                f"{source.path}: the pictures change size midway, from {out.shape[1:3]} to {pixels.shape[:2]} "
                "(ask for one with view.size)"
            )
        out[where[frame.pts]] = pixels
        missing.discard(frame.pts)
        if not missing:
            break
    feed.close()
    if missing and ticking.stamped:
        # Some packets show nothing (VP8's alternate references), or a cut starts between references: ask the
        # decoder itself what is shown. Slow, exact, rare.
        return _sample(source, decoded_clock(source), seconds, view, skip=False)
    if out is None or missing:
        raise MediaError(f"{source.path}: {len(missing)} of {len(where)} pictures could not be decoded (damaged?)")
    return out


def pictures_at(source: Demuxed, seconds: Times, view: View) -> Frames:
    """The pictures on show at given (not only evenly spaced) seconds, upright, sized by the view."""
    with blaming(source.path, "decoding"):
        ticking = clock(source)
        if ticking is None:
            raise MediaError(f"{source.path}: has no pictures (a sound file?)")
        return _sample(source, ticking, np.asarray(seconds), view)


def _room(source: Demuxed, count: int, shape: tuple[int, ...]) -> Frames:
    """An array for the pictures, if the limits allow it."""
    size = count * int(np.prod(shape))
    if size > source.limits.array_bytes:
        raise MediaError(
            f"{source.path}: {count} pictures of {shape[1]} x {shape[0]} take {size / 1e9:.1f} GB, allowed are "
            f"{source.limits.array_bytes / 1e9:.1f} GB (fewer frames a second, smaller pictures, or a crop?)"
        )
    return np.empty((count, *shape), np.uint8)


def _decode_wanted(source: Demuxed, wanted: set[int]) -> Generator[Any]:
    """Decode towards the wanted stamps only: exact, since only pictures that nothing refers to are skipped."""
    context = source.video.codec_context  # type: ignore[union-attr]
    context.flush_buffers()
    packets = source.pictures
    # A crop deep inside a recording starts at the last key picture at or before the first wanted one.
    begin = max((i for i, p in enumerate(packets) if p.is_keyframe and p.pts <= min(wanted)), default=0)
    for packet in packets[begin:]:
        context.skip_frame = "DEFAULT" if packet.pts in wanted else "NONREF"
        yield from packet.decode()
    context.skip_frame = "DEFAULT"
    yield from context.decode(None)


# ---------------------------------------------------------------- sound


def _resampled(wave: Wave, rate: int, wanted: int, duration: float) -> Wave:
    """Mono [1, n] at another rate, exactly round(duration * wanted) samples."""
    count = round(duration * wanted)
    if rate != wanted:
        wave = soxr.resample(wave[0], rate, wanted, quality="HQ")[None].astype(np.float32, copy=False)
    out: Wave = np.zeros((1, count), np.float32)
    take = min(count, wave.shape[1])
    out[:, :take] = wave[:, :take]
    return out


def _only_sound(source: Demuxed, start: float, end: float | None, *, mono: bool) -> tuple[Wave, int, float]:
    """Sound of a file without pictures: t = 0 is its first sample."""
    first = next((p.pts for p in source.sounds if p.pts is not None), 0)
    claimed = sound_end(source) - float(first * source.audio.time_base)  # type: ignore[union-attr]
    check_seconds(source.path, claimed, source.limits)
    # Decoders drop priming and padding, so the real end is known only after decoding.
    wave, rate, reached = _sound(source, None, claimed + 1.0, mono=mono)
    if reached < 1:
        raise MediaError(f"{source.path}: no sound could be decoded (damaged?)")
    begin, stop = window(source.path, reached / rate, start, end)
    cut = round(begin * rate)
    wave = wave[:, cut : cut + round((stop - begin) * rate)]
    return wave, rate, stop - begin


def _sound(source: Demuxed, zero: float | None, seconds: float, *, mono: bool) -> tuple[Wave, int, int]:
    """Samples of [zero, zero + seconds) on the file's clock (zero None: from the first sample), rate, and the end.

    Anchored at the first decoded stamp, then run on; a stamp more than 30 ms off is a hole (zeros) or an overlap
    (dropped). Placing each packet by its own stamp would jitter by 22 samples in Matroska.
    """
    audio = source.audio
    rate: int = audio.codec_context.sample_rate  # type: ignore[union-attr]
    channels = 1 if mono else audio.codec_context.channels  # type: ignore[union-attr]
    count = round(seconds * rate)
    if count * channels * 4 > source.limits.array_bytes:
        raise MediaError(f"{source.path}: {seconds:.0f} s of sound take more than limits.array_bytes (crop it?)")
    out: Wave = np.zeros((channels, count), np.float32)
    at: int | None = None
    for frame in decode_sound(source):
        if frame.sample_rate != rate:
            raise MediaError(f"{source.path}: the sound changes from {rate} to {frame.sample_rate} Hz midway")
        check_sound(source.path, rate, frame.layout.nb_channels, source.limits)
        chunk = samples(frame)
        if mono:
            chunk = chunk.mean(axis=0, keepdims=True, dtype=np.float32)
        elif len(chunk) != channels:
            raise MediaError(f"{source.path}: the sound changes from {channels} to {len(chunk)} channels midway")
        due = None if frame.pts is None else float(frame.pts * frame.time_base)
        if at is None:
            if zero is None:
                zero = due or 0.0
            at = round(((due or 0.0) - zero) * rate)
        elif due is not None and zero is not None and abs((due - zero) * rate - at) > GAP * rate:
            target = round((due - zero) * rate)
            if target < at:
                chunk = chunk[:, at - target :]
            else:
                at = target
        _place(out, at, chunk)
        at += chunk.shape[1]
        if at >= count:
            break
    return out, rate, min(max(at or 0, 0), count)


def _place(out: Wave, at: int, chunk: Wave) -> None:
    """Copy the part of ``chunk`` that falls into ``out`` when it starts at sample ``at``."""
    begin, stop = max(at, 0), min(at + chunk.shape[1], out.shape[1])
    if stop > begin:
        out[:, begin:stop] = chunk[:, begin - at : stop - at]


def decode_sound(source: Demuxed) -> Generator[Any]:
    """Every decoded sound frame, in order."""
    with source.sound_decoder() as context:
        for index, packet in enumerate(source.sounds):
            try:
                yield from context.decode(packet)
            except av.error.InvalidDataError:
                # MP3 files often open with a frame that leans on bits before the cut; players skip it, so do we.
                if index == 0 and context.name.startswith("mp3"):
                    continue
                raise
        yield from context.decode(None)


def samples(frame: Any) -> Wave:
    """A PyAV sound frame as float32 [channels, samples] in [-1, 1] (integers divided by their full scale)."""
    data = frame.to_ndarray()
    if not frame.format.is_planar:
        data = data.reshape(-1, frame.layout.nb_channels).T
    full: Wave
    if data.dtype == np.uint8:
        full = (data.astype(np.float32) - 128.0) / 128.0
    elif np.issubdtype(data.dtype, np.integer):
        full = (data / -float(np.iinfo(data.dtype).min)).astype(np.float32)
    else:
        full = data.astype(np.float32, copy=False)
    return full
