"""A complete model family in 80 lines: sixteen frequency bands, a brightness, and random weights.

It hears and sees, but it has learnt nothing: a skeleton to replace piece by piece with your own model.

    earwitness doctor -m examples.toy_listener:load
    earwitness audit  -m examples.toy_listener:load --protocol mma --limit 4 --out runs/toy
"""

from __future__ import annotations

import time
from collections.abc import Sequence

import numpy as np

from earwitness.records import Answer, Fed, Item, Media, View, digest

BANDS = 16


class ToyListener:
    """What every model has: a name, a revision of its weights, a view, its abilities, and ``answer``."""

    abilities = frozenset({"logprobs"})  # fills Answer.logprobs; others: see earwitness.models.Model
    decoding = "the likeliest option"  # free words for the run's record

    def __init__(self, fps: float = 2.0, max_pixels: int = 112 * 112, seed: int = 0) -> None:
        self.name, self.revision = "toy listener", f"seed {seed}"
        self.view = View(fps=fps, max_pixels=max_pixels, rate=16_000)  # clips come sampled like this
        self._weights = np.random.default_rng(seed).normal(size=(BANDS + 1, 64)) / 8
        self._last: tuple[object, np.ndarray] | None = None

    def answer(self, items: Sequence[Item], media: Sequence[Media]) -> list[Answer]:
        """One answer an item, in order. Raising is allowed: the audit then asks again, in smaller parts."""
        return [self._one(item, m) for item, m in zip(items, media, strict=True)]

    def _one(self, item: Item, media: Media) -> Answer:
        start = time.perf_counter()
        features = self._encode(media)
        state = features @ self._weights
        if item.choices:
            scores = np.array([state @ _words(choice) for choice in item.choices])
            logprobs = scores - np.logaddexp.reduce(scores)
            text = item.choices[int(scores.argmax())]
        else:
            logprobs = None
            text = f"loudest in band {int(features[:BANDS].argmax())}, brightness {features[BANDS]:.2f}"
        return Answer(
            item=item.id,
            model=self.name,
            text=text,
            logprobs=None if logprobs is None else dict(zip(item.choices, logprobs.tolist(), strict=True)),
            fed=receipt(media, features),
            seconds=time.perf_counter() - start,
        )

    def _encode(self, media: Media) -> np.ndarray:
        """Questions on the same media come one after the other with the *same* object: encode it once."""
        key = (media.video_hash, media.audio_hash)  # by content, never by file name
        if self._last is None or self._last[0] != key:
            power = (
                np.zeros(8_000) if media.wave is None else np.abs(np.fft.rfft(media.wave[0], 16_000))[:8_000] ** 2
            )
            bands = np.log10([part.mean() + 1e-9 for part in np.array_split(power, BANDS)])
            bright = 0.0 if media.frames is None else float(media.frames.mean()) / 255
            self._last = key, np.array([*(bands - bands.mean()), bright])
        return self._last[1]


def receipt(media: Media, features: np.ndarray) -> Fed:
    """What the model really got, read off what went in, not off the file; None = there was no such track."""
    seen, heard = media.frames, media.wave
    return Fed(
        frames=None if seen is None else len(seen),
        audio_seconds=None if heard is None else heard.shape[1] / media.rate,
        video_hash=None if seen is None else digest(features[BANDS:]),
        audio_hash=None if heard is None else digest(features[:BANDS]),
    )


def _words(text: str) -> np.ndarray:
    return np.random.default_rng(int(digest(text.lower()), 16)).normal(size=64)


def load(fps: float = 2.0, max_pixels: int = 112 * 112) -> ToyListener:
    """The factory that ``-m examples.toy_listener:load`` calls; of ``--set`` it takes what is named here."""
    return ToyListener(fps, max_pixels)
