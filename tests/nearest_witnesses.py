"""A tiny ear and eye that know the committed photos and recordings by nearest neighbour: stand-ins without weights.

They are fitted on the very sources that the clips are made of, so what they score says nothing of a witness; it is
enough to turn a cascade's dial on real pixels and waves.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from earwitness import media
from earwitness.curate.starter import rendering, sounding
from earwitness.curate.starter.table import Source
from earwitness.records import Frames, View, Wave

Features = NDArray[np.float64]
BANDS = 24


def spectrum(wave: Wave, rate: int) -> Features:
    """Mean log power in 24 bands over the loud moments, without its level."""
    size = rate // 20
    pieces = wave[0][: wave.shape[1] // size * size].reshape(-1, size) * np.hanning(size)
    power = np.abs(np.fft.rfft(pieces, axis=1)) ** 2
    loud = power[power.sum(axis=1) > 0.02 * power.sum(axis=1).max()]
    edges = np.geomspace(150, 7000, BANDS + 1) / (rate / size)
    bands = np.stack([loud[:, int(a) : int(b) + 1].mean(axis=1) for a, b in pairwise(edges)], 1)
    curve = np.log(bands.mean(axis=0) + 1e-9)
    return np.asarray(curve - curve.mean())


def colours(frames: Frames) -> Features:
    """A histogram of colours, 4 x 4 x 4, free of brightness."""
    pixels = frames.reshape(-1, 3)[::7].astype(np.float64)
    pixels = np.minimum(255, pixels * (110 / max(1.0, pixels.mean())))
    found = np.histogramdd(pixels, bins=(4, 4, 4), range=((0, 256),) * 3)[0].ravel()
    return np.asarray(np.sqrt(found / found.sum()) * 8)


@dataclass(eq=False)
class Nearest:
    """Scores by distance to the sources: exp(-distance), normalised over the classes."""

    id: str
    labels: tuple[str, ...]
    known: list[tuple[str, Features]] = field(default_factory=list)

    def _scores(self, found: Features) -> NDArray[np.float32]:
        near = dict.fromkeys(self.labels, -1e9)
        for what, features in self.known:
            near[what] = max(near[what], -float(np.linalg.norm(found - features)))
        raised = np.exp([1.5 * (n - max(near.values())) for n in near.values()])
        return np.asarray(raised / raised.sum(), dtype=np.float32)

    def hear(self, wave: Wave, rate: int) -> NDArray[np.float32]:
        return self._scores(spectrum(wave, rate))

    def see(self, frames: Frames) -> NDArray[np.float32]:
        return self._scores(colours(frames))


def fitted(sources: Sequence[Source]) -> tuple[Nearest, Nearest]:
    """Ear and eye that know these (committed) sources."""
    labels = tuple(sorted({s.what for s in sources}))
    ear, eye = Nearest("nearest-ear", labels), Nearest("nearest-eye", labels)
    for source in sources:
        wave = media.load(source.committed("sound"), View(rate=16_000)).wave
        assert wave is not None
        begin, end = source.part or (0.0, 60.0)
        native = media.load(source.committed("sound"), View(rate=sounding.RATE)).wave
        assert native is not None
        part = native[:, round(begin * sounding.RATE) : round(end * sounding.RATE)]
        ear.known.append((source.what, spectrum(wave[:, round(begin * 16_000) : round(end * 16_000)], 16_000)))
        ear.known += [(source.what, spectrum(sounding._phrase(part, 1.5, n), sounding.RATE)) for n in range(2)]
        photo = rendering.opened(Path(source.committed("photo")).read_bytes(), source.crop)
        eye.known.append((source.what, colours(np.asarray(photo.resize((168, 168), Image.Resampling.BOX))[None])))
    return ear, eye
