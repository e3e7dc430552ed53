"""A contact sheet: every class at three moments, large and as a small model sees it, with its sound."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from earwitness.foley import pictures, sounds
from earwitness.foley.scenes import CLASSES, Difficulty, scene
from earwitness.records import Frames, View

RATE = 16_000


def spectrogram(wave: np.ndarray, height: int, width: int) -> Frames:
    """A picture of a sound [height, width, 3]: 0 to 8 kHz upwards, 70 dB from black to white; waveform on top."""
    from scipy.signal import stft  # takes most of a second to import

    _, _, z = stft(wave, RATE, nperseg=512, noverlap=384)
    db = 20 * np.log10(np.abs(z) + 1e-6)
    x = np.clip((db - db.max() + 70) / 70, 0, 1)[::-1]
    low = height * 3 // 4
    rows = np.linspace(0, x.shape[0] - 1, low).round().astype(int)
    columns = np.linspace(0, x.shape[1] - 1, width).round().astype(int)
    x = x[rows][:, columns]
    out = np.full((height, width, 3), 24, np.uint8)
    out[height - low :] = (np.stack([x**0.8, x**1.6, 0.35 * x + 0.4 * x**4], -1) * 255).astype(np.uint8)
    top = height - low
    tops = np.array([np.abs(part).max(initial=0) for part in np.array_split(wave, width)])
    for i, peak in enumerate(tops):
        half = int(min(peak, 1) * (top // 2 - 1))
        out[top // 2 - half : top // 2 + half + 1, i] = (120, 220, 170)
    return out


def contact_sheet(path: Path, *, seed: int = 1, difficulty: Difficulty = "easy") -> Path:
    """Write a PNG with a row a class: before, at, after an event; at 56 pixels and 2 fps; its sound."""
    h, w, small = 180, 320, 56
    width = 3 * w + 4 * small * 2 + 420 + 90
    sheet = Image.new("RGB", (width, (h + 6) * len(CLASSES)), (18, 18, 22))
    pen = ImageDraw.Draw(sheet)
    for row, what in enumerate(CLASSES):
        s = scene(seed + row, classes=(what,), difficulty=difficulty)
        y = row * (h + 6)
        pen.text((8, y + h // 2), what, fill=(240, 240, 240))
        event = s.sources[0].times[1]
        for k, frame in enumerate(pictures.draw(s, (h, w), event + np.array([-0.09, 0.02, 0.20]))):
            sheet.paste(Image.fromarray(frame), (90 + k * w, y))
        tiny, _ = pictures.frames(s, View(fps=2, size=(small, small)))
        for k in range(4):
            image = Image.fromarray(tiny[k]).resize((small * 2 - 2, small * 2 - 2), Image.Resampling.NEAREST)
            sheet.paste(image, (90 + 3 * w + 4 + k * small * 2, y + 30))
        wave = sounds.mix(list(sounds.stems(s, RATE).values()))[0]
        sheet.paste(Image.fromarray(spectrogram(wave, h, 410)), (90 + 3 * w + 8 * small + 8, y))
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    sheet.save(path)
    return path
