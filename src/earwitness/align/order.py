"""In which order are pairs learned from? At random, but with questions on the same media next to each other.

What stands behind one clip in a batch is read once (``packing``), so several questions on it should stand there.
Each epoch cuts every clip's pairs, in random order, into bundles of at most ``most`` and shuffles the bundles.
Which pairs share a bundle, and when a bundle comes, is random; that its pairs share a step is what differs from
plain shuffling: gradients of one batch are of fewer clips.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Sequence

import numpy as np
from torch.utils.data import Sampler


class Together(Sampler[int]):
    """Indices of rows, those with equal ``keys`` in bundles; the same seed and epoch give the same order.

    ``tell`` is told the whole order before the first of it comes.
    """

    def __init__(
        self, keys: Sequence[Hashable], most: int, seed: int = 0, tell: Callable[[list[int]], None] | None = None
    ) -> None:
        if most < 1:
            raise ValueError(f"bundles of {most} rows hold nothing: 1 or more")
        members: dict[Hashable, list[int]] = {}
        for n, key in enumerate(keys):
            members.setdefault(key, []).append(n)
        self._members, self._most, self._seed = list(members.values()), most, seed
        self._length, self._epoch, self._tell = len(keys), 0, tell

    def set_epoch(self, epoch: int) -> None:
        """Another order for each epoch."""
        self._epoch = epoch

    def __len__(self) -> int:
        return self._length

    def __iter__(self) -> Iterator[int]:
        rng = np.random.default_rng([self._seed, self._epoch])
        bundles = []
        for some in self._members:
            order = [some[int(i)] for i in rng.permutation(len(some))]
            bundles += [order[i : i + self._most] for i in range(0, len(order), self._most)]
        order = [n for i in rng.permutation(len(bundles)) for n in bundles[int(i)]]
        if self._tell:
            self._tell(order)
        yield from order
