"""Many tests at once: which of 28 layers, or 784 heads, are more than chance?

Two answers to two questions. :func:`benjamini_hochberg`: of those called found, at most a share q are false.
:func:`max_t`: the chance that even one of them is false; stricter, and what a picture's marks should stand for.
"""

from __future__ import annotations

import numpy as np

from earwitness.stats.effects import FEWEST_CLIPS, FLAT, REPS
from earwitness.stats.intervals import Floats

_AT_ONCE = 8_000_000  # numbers of one block of flipped sums: 64 MB


def benjamini_hochberg(p: Floats) -> Floats:
    """p values adjusted so that at most a share q of those below q are false finds (Benjamini and Hochberg 1995).

    Any shape; nan stays nan and does not count as a test. Valid for tests that move together the same way, as
    those of layers do.

    Raises ValueError where a p lies outside [0, 1].
    """
    flat = np.asarray(p, dtype=np.float64).ravel()
    tested = np.flatnonzero(~np.isnan(flat))
    if tested.size and (flat[tested].min() < 0 or flat[tested].max() > 1):
        raise ValueError("benjamini_hochberg: got a p outside [0, 1]")
    order = tested[np.argsort(flat[tested], kind="stable")]
    scaled = flat[order] * tested.size / np.arange(1, tested.size + 1)
    out = np.full(flat.shape, np.nan)
    out[order] = np.minimum(np.minimum.accumulate(scaled[::-1])[::-1], 1.0)
    return out.reshape(np.shape(p))


def max_t(shifts: Floats, reps: int = REPS, seed: int = 0) -> Floats:
    """p values adjusted for the chance of *any* false find among all cells: the largest |t| of each redrawn sample.

    Sign flips of whole clips (Westfall and Young 1993, their single step): if the prompt does not matter, the two
    prompts of a clip may change places. All cells of a clip flip together, so cells that move together are not
    paid for twice. Exact then, whatever the values' shape; at least ``1 / (reps + 1)``.

    Parameters
    ----------
    shifts
        [clips, *cells]: ``Sums.shifts``, or the difference of two of them for a change.

    Raises
    ------
    ValueError
        Where there are fewer than three clips.
    """
    clips, cells = len(shifts), shifts.shape[1:]
    if clips < FEWEST_CLIPS:
        raise ValueError(f"max_t: got {clips} clips, wants {FEWEST_CLIPS} or more")
    flat = np.asarray(shifts, dtype=np.float64).reshape(clips, -1)
    square = (flat**2).sum(0)

    def t(total: Floats) -> Floats:
        inner = np.maximum(square - total**2 / clips, FLAT * np.maximum(square, 1e-300))
        return np.asarray(np.abs(total) / np.sqrt(clips / (clips - 1) * inner))

    seen = t(flat.sum(0))
    rng = np.random.default_rng(seed)
    step = max(1, _AT_ONCE // max(flat.shape[1], 1))
    largest = []
    for start in range(0, reps, step):
        signs = rng.integers(0, 2, (min(step, reps - start), clips)) * 2.0 - 1
        largest.append(t(signs @ flat).max(1, initial=0.0))
    drawn = np.sort(np.concatenate(largest))
    # A flip of all signs gives back the very t that was seen, but for rounding.
    above = reps - np.searchsorted(drawn, seen * (1 - 1e-9), side="left")
    return np.asarray((1 + above) / (reps + 1)).reshape(cells)
