"""The drawing of a clip: frames over waveform on one time axis, in ink that reads on a page and on a screen."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from earwitness.records import Frames, Wave

if TYPE_CHECKING:
    from earwitness.media.look import Look

PAPER, INK, FAINT, RULE, PANEL = "#fcfbf9", "#1f2430", "#767c8a", "#dedad2", "#f3f1ec"
BODY, CORE, MARK, PALE_MARK, NOTE_INK = "#a9cfcb", "#1f6f6b", "#d9572b", "#f3cdbd", "#7a5200"
DOTS = 2  # drawn at twice the size: sharp on dense screens
MARGIN, HEAD, STRIP, AXIS, WAVE = 28, 62, 112, 32, 112  # logical pixels


def cells(width: int, aspect: float) -> tuple[int, int, int]:
    """How many frames fit a strip, and each one's (height, width) in dots, for pictures of this width / height."""
    inner = width - 2 * MARGIN
    count = int(np.clip(round(inner / (STRIP * aspect)), 2, 24))
    wide = DOTS * inner // count - DOTS * 3
    return count, int(np.clip(round(wide / aspect), 16, DOTS * 240)), wide


class Sheet:
    """A canvas measured in logical pixels."""

    def __init__(self, width: int, height: int) -> None:
        """Blank paper."""
        self.image = Image.new("RGB", (width * DOTS, height * DOTS), PAPER)
        self.pen = ImageDraw.Draw(self.image)

    def text(self, x: float, y: float, words: str, size: int = 12, ink: str = INK, anchor: str = "ls") -> float:
        """Write; returns the width used."""
        font = ImageFont.load_default(size=size * DOTS)
        self.pen.text((x * DOTS, y * DOTS), words, fill=ink, font=font, anchor=anchor)
        return float(self.pen.textlength(words, font=font)) / DOTS

    def line(self, x0: float, y0: float, x1: float, y1: float, ink: str = RULE, wide: float = 1.0) -> None:
        """A straight line."""
        self.pen.line((x0 * DOTS, y0 * DOTS, x1 * DOTS, y1 * DOTS), fill=ink, width=max(1, round(wide * DOTS)))

    def box(self, x0: float, y0: float, x1: float, y1: float, fill: str, round_by: float = 6) -> None:
        """A filled box with round corners."""
        self.pen.rounded_rectangle((x0 * DOTS, y0 * DOTS, x1 * DOTS, y1 * DOTS), radius=round_by * DOTS, fill=fill)


def draw(seen: Look, frames: Frames | None, wave: Wave | None, width: int, loudness: str) -> Image.Image:
    """The whole picture of a clip, from what was measured, its frames at cell middles and its sound."""
    strip = STRIP if frames is None else frames.shape[1] / DOTS
    # What the drawing itself says in words needs no note.
    notes = [_fit(flag, width) for flag in seen.flags if not flag.startswith(("no ", "the sound track is silent"))]
    height = round(HEAD + strip + AXIS + WAVE + 22 + (len(notes) * 22 + 8 if notes else 0) + 14)
    sheet = Sheet(width, height)
    left, right = MARGIN, width - MARGIN
    _head(sheet, seen, left, right, loudness)
    top = float(HEAD)
    if frames is None:
        sheet.box(left, top, right, top + strip, PANEL)
        sheet.text((left + right) / 2, top + strip / 2, "no picture track", 14, FAINT, "mm")
    else:
        _strip(sheet, frames, left, right, top)
    top += strip
    _axis(sheet, seen.probe.duration, left, right, top, WAVE + AXIS)
    top += AXIS
    _wave(sheet, seen, wave, left, right, top)
    top += WAVE + 22
    for number, note in enumerate(notes):
        y = top + number * 22
        sheet.box(left, y, left + 5, y + 14, MARK, 2)
        sheet.text(left + 14, y + 11, note, 12, NOTE_INK)
    return sheet.image


def _fit(words: str, width: int) -> str:
    """Words cut to about one line of 12-pixel type."""
    room = (width - 2 * MARGIN) // 6
    return words if len(words) <= room else words[: room - 1] + "…"


def _head(sheet: Sheet, seen: Look, left: float, right: float, loudness: str) -> None:
    probed = seen.probe
    sheet.text(left, 28, _fit(Path(probed.path).name, round((right - left) * 0.7)), 16)
    facts = [f"{probed.duration:.2f} s"]
    if probed.picture is not None:
        p = probed.picture
        facts.append(f"{p.width} x {p.height} {p.codec}, {p.fps:.4g} frames/s")
    if probed.sound is not None:
        facts.append(f"{probed.sound.codec} {probed.sound.rate / 1000:g} kHz {probed.sound.layout}")
    sheet.text(left, 48, "   ·   ".join(facts), 12, FAINT)
    if probed.sound is not None:
        sheet.text(right, 28, loudness, 13, CORE, "rs")
        count = len(seen.onsets)
        sheet.text(
            right, 48, f"{count or 'no'} onset{'s' if count != 1 else ''}", 12, MARK if count else FAINT, "rs"
        )


def _strip(sheet: Sheet, frames: Frames, left: float, right: float, top: float) -> None:
    count, high, wide = frames.shape[:3]
    mask = Image.new("L", (wide, high), 0)
    ImageDraw.Draw(mask).rounded_rectangle((0, 0, wide - 1, high - 1), radius=4 * DOTS, fill=255)
    step = (right - left) * DOTS / count
    for index, pixels in enumerate(frames):
        x = round(left * DOTS + index * step + (step - wide) / 2)
        sheet.image.paste(Image.fromarray(pixels), (x, round(top * DOTS)), mask)


def _axis(sheet: Sheet, duration: float, left: float, right: float, top: float, below: float) -> None:
    """Ticks at round seconds, with faint lines down through the waveform."""
    step = next((s for s in (0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30, 60, 120, 300, 600) if duration / s <= 14), 900)
    for number in range(int(duration / step + 1e-6) + 1):
        at = number * step
        x = left + (right - left) * at / duration
        sheet.line(x, top + 22, x, top + below, RULE, 0.5)
        anchor = "ls" if number == 0 else "rs" if x > right - 12 else "ms"
        sheet.text(x, top + 18, f"{at:g} s" if number == 0 else f"{at:g}", 11, FAINT, anchor)


def _wave(sheet: Sheet, seen: Look, wave: Wave | None, left: float, right: float, top: float) -> None:
    middle = top + WAVE / 2
    words = None
    if wave is None:
        words = "no sound track"
    elif seen.silent:
        words = "sound track present, and silent: every sample is 0"
    if wave is None:
        dash = np.arange(left, right - 4, 10)
        for x in dash:
            sheet.line(x, middle, x + 5, middle, FAINT, 1)
    else:
        for at in seen.onsets:  # under the sound, so that many marks do not hide it
            x = left + (right - left) * at / seen.probe.duration
            sheet.line(x, top, x, top + WAVE, PALE_MARK, 1)
        sheet.line(left, middle, right, middle, CORE if words else BODY, 1)
        if not words:
            _envelope(sheet, wave, seen.peak or 1.0, left, right, middle)
    if words:
        room = 7 * len(words) / 2 + 18
        x = (left + right) / 2
        sheet.box(x - room, middle - 14, x + room, middle + 14, PANEL, 14)
        sheet.text(x, middle, words, 13, FAINT, "mm")
    for at in seen.onsets:
        x = left + (right - left) * at / seen.probe.duration
        sheet.pen.polygon(
            [((x + dx) * DOTS, (top + dy) * DOTS) for dx, dy in ((-4, -5), (4, -5), (0, 2))], fill=MARK
        )
    _stamp(sheet, seen, left, right, top + WAVE + 13)


def _stamp(sheet: Sheet, seen: Look, left: float, right: float, y: float) -> None:
    """The onsets' times under their marks, as many as fit without touching."""
    free = left - 40.0
    for at in seen.onsets:
        x = float(np.clip(left + (right - left) * at / seen.probe.duration, left + 14, right - 14))
        if x - 17 > free:
            sheet.text(x, y, f"{at:.2f}", 10, MARK, "ms")
            free = x + 17


def _envelope(sheet: Sheet, wave: Wave, peak: float, left: float, right: float, middle: float) -> None:
    """The waveform, scaled to its peak: pale from lowest to highest sample, dark to its RMS, a column a dot.

    Heights go with amplitude to the power 0.6: claps do not hide the talk between them.
    """
    columns = round((right - left) * DOTS)
    mono: NDArray[np.float32] = wave.mean(axis=0)
    edges = np.linspace(0, len(mono), columns + 1).astype(int)
    starts = np.minimum(edges[:-1], max(len(mono) - 1, 0))
    high, low = np.maximum.reduceat(mono, starts), np.minimum.reduceat(mono, starts)
    power = np.sqrt(np.add.reduceat(mono**2, starts) / np.maximum(np.diff(edges), 1))
    # Channels that cancel in the mix must not be blown up to full height.
    full = max(float(np.abs(mono).max()), 0.02 * peak, 1e-9)
    up, down, core = ((WAVE / 2 - 6) * DOTS * (np.maximum(v, 0) / full) ** 0.6 for v in (high, -low, power))
    base = middle * DOTS
    for index in range(columns):
        x = left * DOTS + index
        sheet.pen.line((x, base - up[index], x, base + down[index]), fill=BODY)
        half = min(core[index], max(up[index], down[index]))
        sheet.pen.line((x, base - half, x, base + half), fill=CORE)
