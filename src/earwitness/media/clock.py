"""The canonical clock: when each picture of a file is shown, and how long the clip lasts.

Files disagree about time: pictures may start at 0.5 s, at 1.47 s (transport streams) or before zero (cuts without
re-encoding, whose pre-roll is decoded but never shown), and the claimed frame rate may be wrong by a fifth. Here
t = 0 is the first *shown* picture; everything else, sound too, is told against it, by time stamps only.
"""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np

from earwitness.media.opening import Demuxed, MediaError, check_seconds
from earwitness.records import Times


@dataclass(frozen=True)
class Clock:
    """``pts``: the shown pictures' stamps in ticks of ``base`` seconds, ascending; ``duration`` is in seconds."""

    pts: tuple[int, ...]
    base: Fraction
    duration: float
    stamped: bool  # the packets' own stamps say it all; else the pictures had to be decoded to know

    @property
    def zero(self) -> float:
        """Seconds on the file's clock at which the first picture is shown."""
        return float(self.pts[0] * self.base)

    @property
    def times(self) -> Times:
        """Seconds at which each picture is shown, from 0."""
        return (np.array(self.pts, dtype=np.float64) - self.pts[0]) * float(self.base)

    def shown_at(self, seconds: Times) -> list[int]:
        """The stamps of the pictures that are on show at these times: the last one at or before each.

        Containers round stamps to their tick (1 ms in Matroska), so a picture due within a tick counts as shown.
        """
        ease = min(max(1e-4, 1.01 * float(self.base)), 2e-3)
        index = np.searchsorted(self.times, np.asarray(seconds) + ease, side="right") - 1
        return [self.pts[max(0, int(i))] for i in index]


def clock(source: Demuxed) -> Clock | None:
    """The clip's clock from its picture packets; None without a picture track."""
    if source.video is None:
        return None
    shown = [p for p in source.pictures if not p.is_discard]
    stamps = [p.pts for p in shown]
    if not shown:
        raise MediaError(f"{source.path}: every picture is marked as not to be shown (a broken cut?)")
    if None in stamps or len(set(stamps)) < len(stamps):
        return decoded_clock(source)
    return _clock(source, stamps, {p.pts: p.duration or 0 for p in shown}, stamped=True)


def decoded_clock(source: Demuxed) -> Clock:
    """The clock from decoding every picture: for files whose packets have no stamps, or packets no one sees."""
    assert source.video is not None
    stamps: list[int | None] = []
    lengths: list[int] = []
    for frame in decode_pictures(source):
        stamps.append(frame.pts)
        lengths.append(getattr(frame, "duration", 0) or 0)
    if not stamps:
        raise MediaError(f"{source.path}: no picture could be decoded (damaged?)")
    known = [s for s in stamps if s is not None]
    if len(known) < len(stamps) or len(set(known)) < len(known):
        raise MediaError(
            f"{source.path}: its pictures carry no usable time stamps (a raw stream? remux it into an mp4 first)"
        )
    return _clock(source, known, dict(zip(known, lengths, strict=True)), stamped=False)


def _clock(source: Demuxed, stamps: list[int], lengths: dict[int, int], stamped: bool) -> Clock:
    stamps = sorted(stamps)
    base = Fraction(source.video.time_base)  # type: ignore[union-attr]
    gaps = np.diff(stamps)
    usual = int(np.median(gaps)) if len(gaps) else 0
    if not usual and not lengths[stamps[-1]]:
        rate = source.video.average_rate  # type: ignore[union-attr]
        usual = round(1 / (Fraction(rate or 25) * base))
    end = stamps[-1] + (lengths[stamps[-1]] or usual)
    duration = float((end - stamps[0]) * base)
    if len(stamps) == 1 and source.audio is not None:
        # One picture with sound is a still with a sound track: it stays on show while the sound lasts.
        duration = max(duration, sound_end(source) - float(stamps[0] * base))
    check_seconds(source.path, duration, source.limits)
    return Clock(tuple(stamps), base, duration, stamped)


def sound_end(source: Demuxed) -> float:
    """Seconds on the file's clock at which the last sound packet ends (by its stamps); 0 without any."""
    known = [p.pts + (p.duration or 0) for p in source.sounds if p.pts is not None]
    return float(max(known) * source.audio.time_base) if known else 0.0  # type: ignore[union-attr]


def decode_pictures(source: Demuxed) -> Generator[Any]:
    """Every picture in the order shown, decoded in full (PyAV video frames)."""
    context = source.video.codec_context  # type: ignore[union-attr]
    context.skip_frame = "DEFAULT"
    context.flush_buffers()
    for packet in source.pictures:
        yield from packet.decode()
    yield from context.decode(None)
    context.flush_buffers()
