"""What is in this clip? One measured record for a person, and one picture of it.

``look`` measures: tracks, lengths, offsets, loudness, onsets, and everything odd. ``describe`` says it in lines of
text; ``strip_png`` draws a strip of frames over the waveform, on one time axis.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import msgspec
import numpy as np

from earwitness.media.decode import load_native, pictures_at
from earwitness.media.draw import cells, draw
from earwitness.media.opening import Limits, Source, held
from earwitness.media.probe import Probe, probe
from earwitness.media.signal import loudness_lufs, onsets
from earwitness.records import View, Wave


class Look(msgspec.Struct, frozen=True, kw_only=True):
    """A clip measured. Sound measures are None without a sound track; ``silent`` means every sample is 0."""

    probe: Probe
    loudness: float | None  # LUFS, -inf for silence
    peak: float | None  # largest |sample|, 1 = full scale
    rms: float | None
    silent: bool
    onsets: tuple[float, ...]  # seconds
    flags: tuple[str, ...]


def look(path: Source, *, limits: Limits | None = None) -> Look:
    """Measure a file from one opening: decodes all of its sound and one picture. Raises MediaError."""
    limits = limits or Limits()
    with held(path, limits) as source:
        probed = probe(source, limits=limits)
        heard = load_native(source, limits=limits)
        return measured(probed, heard.wave, heard.rate)


def strip_png(path: Source, out: str | Path, *, width: int = 1180, limits: Limits | None = None) -> Look:
    """Draw a clip as a PNG, ``width`` logical pixels wide (twice that in dots), and return what was measured.

    Each frame of the strip is the one on show at the middle of its cell, so a mark in the waveform stands under the
    moment that it belongs to. Raises MediaError for the file, ValueError for a width under 400 and an ``out``
    that is no .png.
    """
    if Path(out).suffix.lower() != ".png":
        raise ValueError(f"{out}: what is drawn is a PNG: end it in .png")
    if width < 400:
        raise ValueError(f"a strip needs a width of at least 400, got {width}")
    limits = limits or Limits()
    with held(path, limits) as source:
        probed = probe(source, limits=limits)
        heard = load_native(source, limits=limits)
        seen = measured(probed, heard.wave, heard.rate)
        frames = None
        if probed.picture is not None:
            count, high, wide = cells(width, probed.picture.width / probed.picture.height)
            times = (np.arange(count) + 0.5) * probed.duration / count
            frames = pictures_at(source, times, View(size=(high, wide)))
    draw(seen, frames, heard.wave, width, loudness_text(seen)).save(Path(out), "PNG", compress_level=3)
    return seen


def measured(probed: Probe, wave: Wave | None, rate: int) -> Look:
    """The record from a probe and the sound on the clip's clock."""
    if wave is None:
        return Look(probe=probed, loudness=None, peak=None, rms=None, silent=False, onsets=(), flags=probed.flags)
    peak = float(np.abs(wave).max(initial=0.0))
    flags = list(probed.flags)
    if peak == 0:
        flags.append("the sound track is silent: every sample is 0")
    elif peak >= 0.999:
        clipped = float(np.mean(np.abs(wave) >= 0.999))
        if clipped > 1e-4:
            flags.append(f"clipped: {100 * clipped:.2f} % of the samples are at full scale")
    return Look(
        probe=probed,
        loudness=loudness_lufs(wave, rate) if rate >= 4000 else None,
        peak=peak,
        rms=float(np.sqrt(np.mean(wave.astype(np.float64) ** 2))) if wave.size else 0.0,
        silent=peak == 0,
        onsets=tuple(float(t) for t in onsets(wave, rate)),
        flags=tuple(flags),
    )


def describe(seen: Look) -> str:
    """The record as lines of text for a terminal."""
    return "\n".join(_lines(seen))


def _lines(seen: Look) -> Iterator[str]:
    probed = seen.probe
    kind = probed.container.split(",")[0]
    yield f"file      {probed.path}  ({kind}, {probed.size / 1e6:.2f} MB, {probed.duration:.3f} s)"
    picture, sound = probed.picture, probed.sound
    if picture is None:
        yield "picture   none"
    else:
        yield (
            f"picture   {picture.codec} {picture.width} x {picture.height}, {picture.frames} frames, "
            f"{picture.fps:.3f} a second{', variable' if picture.variable else ''}, starts at {picture.start:.3f} s"
        )
    if sound is None:
        yield "sound     none"
    else:
        yield (
            f"sound     {sound.codec} {sound.rate} Hz {sound.layout}, {sound.duration:.3f} s, "
            f"starts {sound.start:+.3f} s from the picture"
        )
        yield f"loudness  {loudness_text(seen)}"
        yield f"onsets    {', '.join(f'{t:.3f}' for t in seen.onsets) + ' s' if seen.onsets else 'none'}"
    for flag in seen.flags:
        yield f"note      {flag}"


def loudness_text(seen: Look) -> str:
    """Loudness and peak in words, e.g. ``-23.1 LUFS, peak -4.2 dB``."""
    if seen.silent:
        return "silent"
    peak = 20 * np.log10(seen.peak) if seen.peak else -np.inf
    loud = "below the gate" if seen.loudness is None or np.isinf(seen.loudness) else f"{seen.loudness:.1f} LUFS"
    return f"{loud}, peak {peak:.1f} dB"
