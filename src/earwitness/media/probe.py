"""What a media file holds, measured from its packets rather than believed from its header.

All times are told on the canonical clock (t = 0 is the first shown picture), so ``sound.start`` *is* the offset
that a player would give. ``flags`` are plain sentences about what would spoil a synchrony or sampling measurement.
"""

from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np

from earwitness.media.clock import Clock, clock, decode_pictures, sound_end
from earwitness.media.decode import decode_sound
from earwitness.media.opening import Demuxed, Limits, MediaError, Source, blaming, check_seconds, held
from earwitness.records import how_many

DRIFT = 0.1  # seconds between claimed and true picture times above which sampling by number misleads
LATE = 0.04  # seconds: about the offset of sound that people begin to notice (ITU-R BT.1359: 45 ms early)


class PictureTrack(msgspec.Struct, frozen=True, kw_only=True):
    """The picture track: sides as shown (upright), ``fps`` as counted, ``start`` on the file's own clock."""

    codec: str
    width: int
    height: int
    rotation: int  # degrees counter-clockwise that the stored pictures are turned by to stand upright
    pixel_format: str
    pixel_aspect: float
    frames: int
    fps: float
    claimed_fps: float | None
    drift: float  # largest distance in seconds between a picture's true time and number / claimed_fps
    variable: bool
    start: float
    duration: float
    hidden: int  # pictures that are decoded but never shown (the pre-roll of a cut without re-encoding)


class SoundTrack(msgspec.Struct, frozen=True, kw_only=True):
    """The sound track; ``start`` is seconds after the first shown picture (0 without pictures)."""

    codec: str
    rate: int
    channels: int
    layout: str
    start: float
    duration: float


class Probe(msgspec.Struct, frozen=True, kw_only=True):
    """A file's tracks and what is odd about them; ``duration`` is what ``load`` will give."""

    path: str
    container: str
    size: int  # bytes
    duration: float
    picture: PictureTrack | None
    sound: SoundTrack | None
    others: tuple[str, ...]
    flags: tuple[str, ...]


def probe(path: Source, *, limits: Limits | None = None) -> Probe:
    """Measure a file's tracks; decodes one picture and the first bit of sound. Raises MediaError."""
    limits = limits or Limits()
    with held(path, limits) as source, blaming(source.path, "probing"):
        ticking = clock(source)
        picture = None if ticking is None else _picture(source, ticking)
        sound = _sound(source, 0.0 if ticking is None else ticking.zero, alone=ticking is None)
        duration = ticking.duration if ticking is not None else sound.duration if sound is not None else 0.0
        check_seconds(source.path, duration, limits)
        return Probe(
            path=str(source.path),
            container=source.container.format.name,
            size=Path(source.path).stat().st_size,
            duration=duration,
            picture=picture,
            sound=sound,
            others=source.others,
            flags=tuple(_flags(picture, sound, source.others, duration)),
        )


def _picture(source: Demuxed, ticking: Clock) -> PictureTrack:
    stream = source.video
    assert stream is not None
    shown = decode_pictures(source)
    frame = next(shown, None)
    shown.close()
    if frame is None:
        raise MediaError(f"{source.path}: no picture could be decoded (damaged?)")
    turns = round(frame.rotation / 90) % 4
    sides = (frame.width, frame.height) if turns % 2 == 0 else (frame.height, frame.width)
    times = ticking.times
    gaps = np.diff(times)
    usual = float(np.median(gaps)) if len(gaps) else 0.0
    claimed = float(stream.average_rate) if stream.average_rate else None
    drift = float(np.abs(np.arange(len(times)) / claimed - times).max()) if claimed else 0.0
    aspect = stream.sample_aspect_ratio
    return PictureTrack(
        codec=stream.codec_context.name,
        width=sides[0],
        height=sides[1],
        rotation=turns * 90,
        pixel_format=frame.format.name,
        pixel_aspect=float(aspect) if aspect else 1.0,
        frames=len(times),
        fps=len(times) / ticking.duration,
        claimed_fps=claimed,
        drift=drift,
        # Stamps are rounded to a tick, so each gap may be one tick off.
        variable=bool(len(gaps) and np.abs(gaps - usual).max() > max(0.1 * usual, 1.5 * float(ticking.base))),
        start=ticking.zero,
        duration=ticking.duration,
        hidden=sum(bool(p.is_discard) for p in source.pictures),
    )


def _sound(source: Demuxed, zero: float, *, alone: bool) -> SoundTrack | None:
    if source.audio is None:
        return None
    context = source.audio.codec_context
    frames = decode_sound(source)
    first = next(frames, None)
    frames.close()
    # Decoders drop priming samples: the first decoded stamp is where sound really starts.
    start = 0.0 if first is None or first.pts is None else float(first.pts * first.time_base)
    end = sound_end(source)
    return SoundTrack(
        codec=context.name,
        rate=context.sample_rate,
        channels=context.channels,
        layout=context.layout.name,
        start=0.0 if alone else start - zero,
        duration=max(0.0, end - start),
    )


def _flags(
    picture: PictureTrack | None, sound: SoundTrack | None, others: tuple[str, ...], duration: float
) -> list[str]:
    flags = []
    if picture is None:
        flags.append("no picture track")
    else:
        if picture.drift > DRIFT:
            flags.append(
                f"claims {picture.claimed_fps:.3g} frames a second, but its times drift from that by "
                f"{picture.drift:.2f} s: sampling by frame number would misplace pictures"
            )
        elif picture.variable:
            flags.append("variable frame rate")
        if picture.rotation:
            flags.append(f"stored turned by {picture.rotation} degrees (shown upright here)")
        if abs(picture.pixel_aspect - 1) > 0.01:
            flags.append(f"pixels are {picture.pixel_aspect:.2f} times as wide as high (models see them as square)")
        if picture.hidden:
            flags.append(
                f"{how_many(picture.hidden, 'picture is', 'pictures are')} stored but not shown (cut without "
                "re-encoding)"
            )
        if picture.frames == 1:
            flags.append("one still picture")
    if sound is None:
        flags.append("no sound track")
    elif picture is not None:
        if abs(sound.start) > LATE:
            flags.append(
                f"sound starts {abs(sound.start):.2f} s {'after' if sound.start > 0 else 'before'} the picture"
            )
        missing = duration - (sound.start + sound.duration)
        if abs(missing) > 0.2:
            flags.append(f"sound ends {abs(missing):.2f} s {'before' if missing > 0 else 'after'} the picture")
    if others:
        flags.append(f"ignored tracks: {', '.join(others)}")
    return flags
