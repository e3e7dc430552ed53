"""New sound beside untouched pictures: how a sound intervention becomes a file.

``write_sound`` copies the picture packets bit for bit and writes one new sound track, so that two files made from
one source differ in their sound only. Write the *original* with it too (a sham): otherwise it differs from its
variants by a codec generation, a length and an offset. Default is FLAC in MP4: exact to 16 bit in every loader
tried, and browsers play it. Time is rebased to the first shown picture, and sound starts with it.

What it refuses, since each was seen to fail silently: ALAC (browsers show the pictures and play nothing), AAC in
Matroska (some loaders hear it 1024 samples late), Matroska for cuts with a pre-roll (it shows pictures that the
cut had removed).
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import Any

import av
import numpy as np
from numpy.typing import NDArray

from earwitness.media.clock import clock
from earwitness.media.opening import Demuxed, Limits, MediaError, Source, blaming, held
from earwitness.records import Wave

LAYOUTS = {1: "mono", 2: "stereo", 3: "3.0", 4: "quad", 5: "5.0", 6: "5.1", 7: "6.1", 8: "7.1"}
SAMPLE_FORMATS = {"flac": "s16", "aac": "fltp"}
# FLAC is exact at any setting. These take a quarter less time than FFmpeg's defaults for files 0.1 % larger.
ENCODING = {
    "flac": {"lpc_type": "levinson", "lpc_passes": "1", "max_prediction_order": "4", "max_partition_order": "2"},
    "aac": {},
}
CONTAINERS = {".mp4": "mp4", ".m4v": "mp4", ".mov": "mov", ".mkv": "matroska"}
AAC_RATES = frozenset({7350, 8000, 11025, 12000, 16000, 22050, 24000, 32000, 44100, 48000, 64000, 88200, 96000})
BLOCK = 65536  # samples handed to the encoder at once
SLACK = 0.05  # seconds by which a wave may miss the clip's length: more is a wrong rate or a wrong clip


def write_sound(source: Source, wave: Wave, rate: int, out: str | Path, codec: str = "flac") -> None:
    """Write the source's picture packets, bit-identical, with ``wave`` as the only sound track.

    Parameters
    ----------
    source : a file, or what ``demux`` gave (for many variants of one source; it stays usable).
    wave : float32 [channels, samples]; as long as the clip, t = 0 at its first shown picture. Values outside of
        [-1, 1] are clipped, as any sound card does. Written as 16 bit: round(32768 x).
    out : .mp4 (what browsers play), .mov or .mkv; written beside and moved into place when complete.
    codec : "flac" (exact) or "aac" (small, 128 kbit/s; not exact).

    Raises ValueError for a wave or an ``out`` that cannot be right, MediaError for a source that cannot be copied.
    """
    with held(source, Limits()) as demuxed:
        ticking = clock(demuxed)
        if ticking is None:
            raise MediaError(f"{demuxed.path}: has no picture track to keep (a sound file?)")
        kind = container_of(Path(out), demuxed.path)
        check_wave(wave, rate, codec, kind, ticking.duration)
        if kind == "matroska" and any(p.is_discard for p in demuxed.pictures):
            raise ValueError(
                f"{out}: Matroska would show the pictures that the cut of {demuxed.path} hides (write an .mp4)"
            )
        with (
            replacing(Path(out)) as partial,
            blaming(demuxed.path, f"writing {out}"),
            _borrowed(demuxed) as stamps,
            av.open(str(partial), "w", format=kind) as target,
        ):
            track = _copied_track(target, demuxed.video)
            sound = encoded_sound(target, wave, rate, codec)
            mux(target, track, demuxed.pictures, stamps, ticking.base, sound)


def container_of(out: Path, source: Path | None = None) -> str:
    """FFmpeg's name of the container that the suffix of ``out`` asks for; refuses overwriting the source."""
    kind = CONTAINERS.get(out.suffix.lower())
    if kind is None:
        raise ValueError(f"{out}: write clips as {', '.join(CONTAINERS)}, got {out.suffix or 'no suffix'!r}")
    if source is not None and out.exists() and out.samefile(source):
        raise ValueError(f"{out}: is the source itself (write the new clip beside it)")
    return kind


def check_wave(wave: Wave, rate: int, codec: str, kind: str, duration: float) -> None:
    """Refuse sound that cannot be right for a clip of ``duration`` seconds."""
    if codec == "alac":
        raise ValueError("codec 'alac' is refused: browsers play its pictures and stay silent (use 'flac')")
    if codec not in SAMPLE_FORMATS:
        raise ValueError(f"codec must be 'flac' (exact) or 'aac' (small), got {codec!r}")
    if codec == "aac" and kind == "matroska":
        raise ValueError("codec 'aac' in Matroska is heard 1024 samples late by some loaders (use 'flac', or .mp4)")
    if wave.ndim != 2 or wave.shape[0] not in LAYOUTS or not np.issubdtype(wave.dtype, np.floating):
        raise ValueError(
            f"wave must be float [1 to 8 channels, samples], got {wave.dtype} {list(wave.shape)} (transposed?)"
        )
    if codec == "aac" and rate not in AAC_RATES:
        raise ValueError(f"AAC knows no {rate} Hz (use codec 'flac', or one of {sorted(AAC_RATES)})")
    if not np.isfinite(wave).all():
        raise ValueError("wave holds values that are not finite (a division by a silent clip's loudness?)")
    if abs(wave.shape[1] / rate - duration) > SLACK:
        raise ValueError(
            f"wave lasts {wave.shape[1] / rate:.3f} s at {rate} Hz, the clip {duration:.3f} s "
            "(another rate than said, or another clip's sound?)"
        )


@contextmanager
def replacing(out: Path) -> Iterator[Path]:
    """A path beside ``out`` to write to; moved into place when all went well, removed when not."""
    if not out.parent.is_dir():
        raise ValueError(f"{out}: there is no folder {out.parent} (make it first?)")
    partial = out.with_name(f".{out.name}.{os.getpid()}.partial")
    try:
        yield partial
        os.replace(partial, out)
    finally:
        partial.unlink(missing_ok=True)


@contextmanager
def _borrowed(demuxed: Demuxed) -> Iterator[list[tuple[int, int, int]]]:
    """The picture packets' (pts, dts, duration), first shown picture at 0; the packets are put back after.

    Muxing rewrites packets in place: without putting them back, a second file from the same packets comes out up
    to half a millisecond off.
    """
    video, packets = demuxed.video, demuxed.pictures
    kept = [(p.pts, p.dts, p.duration, p.time_base) for p in packets]
    try:
        yield _rebased(demuxed)
    finally:
        for packet, (pts, dts, duration, base) in zip(packets, kept, strict=True):
            packet.stream = video
            packet.time_base, packet.pts, packet.dts, packet.duration = base, pts, dts, duration


def _rebased(demuxed: Demuxed) -> list[tuple[int, int, int]]:
    packets = demuxed.pictures
    pts = [p.pts for p in packets]
    if None in pts:
        raise MediaError(
            f"{demuxed.path}: its picture packets carry no time stamps, so they cannot be copied (remux it to mp4?)"
        )
    dts = [p.dts for p in packets]
    if None in dts or any(b <= a for a, b in pairwise(dts)):
        dts = rebuilt_dts(pts)
    zero = min(p.pts for p in packets if not p.is_discard)
    return [(a - zero, b - zero, p.duration or 0) for a, b, p in zip(pts, dts, packets, strict=True)]


def rebuilt_dts(pts: list[int]) -> list[int]:
    """Decode stamps for packets in decode order: the sorted presentation stamps, late by the reorder depth.

    Matroska stores none where pictures are reordered. The depth is the smallest that keeps every dts <= pts.
    """
    ordered = sorted(pts)
    step = max(1, min((b - a for a, b in pairwise(ordered)), default=1))
    for depth in range(len(pts)):
        dts = [ordered[0] - step * (depth - i) for i in range(depth)] + ordered[: len(pts) - depth]
        if all(d <= p for d, p in zip(dts, pts, strict=True)):
            return dts
    return [ordered[0] - step * (len(pts) - i) for i in range(len(pts))]


def _copied_track(target: Any, video: Any) -> Any:
    """A track in ``target`` for the packets of ``video``, its rotation and aspect with it."""
    try:
        return target.add_stream_from_template(video)
    except av.codec.codec.UnknownCodecError:
        # The decoder has no encoder of its name (AV1's dav1d): copy the parameters without looking for one.
        return target.add_stream_from_template(video, opaque=True)


def sixteen_bit(wave: Wave) -> NDArray[np.int16]:
    """The wave as a lossless file holds it: round(32768 x), clipped; [channels, samples]."""
    scaled = np.multiply(wave, np.float32(32768))  # in place from here: the arrays are as large as the file
    np.clip(np.rint(scaled, out=scaled), -32768, 32767, out=scaled)
    return scaled.astype(np.int16)


def encoded_sound(target: Any, wave: Wave, rate: int, codec: str) -> list[Any]:
    """A new sound track in ``target`` and its packets.

    Every frame carries its stamp: without one, AAC in mp4 would come back 1024 samples late.
    """
    track = target.add_stream(codec, rate=rate, options=ENCODING[codec])
    context = track.codec_context
    context.layout, context.format = LAYOUTS[wave.shape[0]], SAMPLE_FORMATS[codec]
    context.time_base = Fraction(1, rate)
    if codec == "flac":
        data = sixteen_bit(wave)
    else:
        context.bit_rate = 128_000
        data = np.clip(wave, -1.0, 1.0).astype(np.float32)
    packets: list[Any] = []
    for begin in range(0, data.shape[1], BLOCK):
        block = data[:, begin : begin + BLOCK]
        if codec == "flac":  # interleaved
            block = block.T.reshape(1, -1)
        frame = av.AudioFrame.from_ndarray(
            np.ascontiguousarray(block), format=SAMPLE_FORMATS[codec], layout=LAYOUTS[wave.shape[0]]
        )
        frame.sample_rate, frame.pts, frame.time_base = rate, begin, Fraction(1, rate)
        packets += track.encode(frame)
    return packets + list(track.encode(None))


def mux(
    target: Any,
    track: Any,
    pictures: list[Any],
    stamps: list[tuple[int, int, int]],
    base: Fraction,
    sound: list[Any],
) -> None:
    """Interleave picture packets, stamped (pts, dts, duration) in ticks of ``base``, with sound packets."""
    # Plain floats: they only order packets, and fractions would cost as much as the muxing.
    tick, due, sent = float(base), [p.dts * float(p.time_base) for p in sound], 0
    for packet, (pts, dts, duration) in zip(pictures, stamps, strict=True):
        while sent < len(sound) and due[sent] <= dts * tick:
            target.mux(sound[sent])
            sent += 1
        packet.stream = track
        packet.time_base, packet.pts, packet.dts, packet.duration = base, pts, dts, duration
        target.mux(packet)
    for packet in sound[sent:]:
        target.mux(packet)
