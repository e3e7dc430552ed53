"""Encoder outputs, kept by content: a frame stack or a wave passes its tower once, however often it is asked about.

An intervention on the sound leaves the picture's features where they are, and the other way round: video and
audio features are kept apart. Keys are content hashes together with everything else the features depend on
(processor settings, weights, dtype), so a hit is exact. The store is bounded by bytes; the least recently used
entry goes first.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable
from dataclasses import dataclass
from typing import Generic, TypeVar

import torch


@dataclass(frozen=True, eq=False)
class Seen:
    """What the vision tower made of one frame stack, and the receipt of what went in."""

    features: torch.Tensor  # [tokens, hidden]
    deep: tuple[torch.Tensor, ...]  # deepstack levels (Qwen3), each [tokens, hidden]; empty for Qwen2.5
    grid: tuple[int, int, int]  # time, height, width in patches
    frames: int  # handed to the processor
    height: int  # pixels, after the processor
    width: int
    digest: str  # of the pixel values fed

    @property
    def nbytes(self) -> int:
        """Bytes of the tensors held."""
        return sum(t.numel() * t.element_size() for t in (self.features, *self.deep))


@dataclass(frozen=True, eq=False)
class Heard:
    """What the audio tower made of one wave, and the receipt of what went in."""

    features: torch.Tensor  # [tokens, hidden]
    mels: int  # mel frames fed
    seconds: float
    rms: float  # of the wave fed
    digest: str  # of the mel features fed

    @property
    def nbytes(self) -> int:
        """Bytes of the tensor held."""
        return self.features.numel() * self.features.element_size()


Entry = TypeVar("Entry", Seen, Heard)


class FeatureCache(Generic[Entry]):
    """Least-recently-used store of at most ``max_bytes`` bytes; counts its hits and misses."""

    def __init__(self, max_bytes: int) -> None:
        self.max_bytes = max_bytes
        self.hits = self.misses = self.nbytes = 0
        self._held: OrderedDict[Hashable, Entry] = OrderedDict()

    def __len__(self) -> int:
        return len(self._held)

    def get(self, key: Hashable) -> Entry | None:
        """The entry, marked as just used; None where there is none."""
        entry = self._held.get(key)
        if entry is None:
            self.misses += 1
            return None
        self.hits += 1
        self._held.move_to_end(key)
        return entry

    def put(self, key: Hashable, entry: Entry) -> None:
        """Keep the entry; one larger than the whole store is not kept."""
        if key in self._held:
            self.nbytes -= self._held.pop(key).nbytes
        if entry.nbytes > self.max_bytes:
            return
        self._held[key] = entry
        self.nbytes += entry.nbytes
        while self.nbytes > self.max_bytes:
            self.nbytes -= self._held.popitem(last=False)[1].nbytes

    def clear(self) -> None:
        """Forget everything: call it when the towers' weights have changed."""
        self._held.clear()
        self.nbytes = 0
