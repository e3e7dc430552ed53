"""Does attention move when the question moves? Effect sizes over clips, for every layer or head at once.

Every clip is measured under two prompts: ``first`` (asked about the picture) and ``second`` (about the sound).
The effect is Cohen's d of arXiv 2511.22826, eq. 1-2, with our unit: **one value per clip and prompt**. Above 0: the
value is higher under the first prompt. Beside it stand Hedges' g (d without its bias in small samples), the paired
d_z (the mean shift in units of its own spread) and the mean shift itself. All follow from six sums per clip, so
cells (layers, heads) are never looped over, and both prompts, all option orders, all cells and both sides of a
comparison leave a sample together.

Two intervals, both over whole clips: "jackknife" (leave one clip out, t of G - 1 degrees of freedom) and
"bootstrap" (percentiles of redrawn clips). Simulated coverage of a nominal 95 % for d, lowest to highest over d of
0 to 1.5 and normal and skewed values, one value a clip:

======  =========  =========
clips   jackknife  bootstrap
======  =========  =========
20      93 - 96    84 - 93
60      94 - 96    90 - 94
100     94 - 95    91 - 95
======  =========  =========

The paper does not state its unit. If it is the token, the tokens of a clip are taken as independent: a shift of d
= 0.7 over clips then reads 0.07, and plain intervals cover 21-55 %. It can be had, labelled, from counts, sums and
sums of squares (:func:`token_effect`), with intervals that leave out clips.

Functions: :func:`pair_sums`, then :func:`effect` and :func:`change`; :func:`token_effect`; :func:`curve`, means by
layer; :func:`redrawn_effects` and :func:`redrawn_means`, for whatever is read off a whole curve (its peak).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from earwitness.stats.intervals import Floats, clustered_share, quantile, ratio_variance
from earwitness.stats.paired import FEWEST, two_sided_p

How = Literal["jackknife", "bootstrap"]
REPS = 2000
FEWEST_CLIPS = 3  # with fewer, leaving one out leaves nothing to take a spread of
FLAT = 1e-12  # a spread below this share of the mean's size is rounding
_AT_ONCE = 8_000_000  # numbers of one block of redrawn sums: 64 MB


@dataclass(frozen=True, eq=False)
class Band:
    """A statistic of every cell with its interval, [*cells] each; nan where there is no spread to measure.

    ``p``: of no effect, nan below ten clips.
    """

    value: Floats
    low: Floats
    high: Floats
    p: Floats


@dataclass(frozen=True, eq=False)
class Sums:
    """Paired values of every cell, summed by clip: all that the effect sizes need.

    ``moments`` [6, clips, *cells]: n, sums of first, its square, second, its square, first x second, all taken from
    one centre per cell (which no effect size minds).
    """

    clusters: tuple[str, ...]
    moments: Floats

    @property
    def cells(self) -> tuple[int, ...]:
        """Shape of the cells."""
        return self.moments.shape[2:]

    @property
    def shifts(self) -> Floats:
        """[clips, *cells] sum over the clip's pairs of first - second."""
        return np.asarray(self.moments[1] - self.moments[3])


@dataclass(frozen=True, eq=False)
class Effect:
    """How far a value moves from second to first prompt, in every cell: ``n`` pairs in ``clusters`` clips."""

    d: Band
    g: Band
    dz: Band
    shift: Band
    n: int
    clusters: int
    how: str


def cohens_d(first: Floats, second: Floats) -> Floats:
    """Cohen's d of two samples along axis 0: ``(mean1 - mean2) / s_p`` (arXiv 2511.22826, eq. 1-2).

    ``s_p^2 = ((n1 - 1) s1^2 + (n2 - 1) s2^2) / (n1 + n2 - 2)``. nan where there is no spread.

    Raises ValueError where a sample has fewer than two values.
    """
    if min(len(first), len(second)) < 2:
        raise ValueError(f"cohens_d: got {len(first)} and {len(second)} values, wants two or more of each")
    centre = first.mean(0)
    sides = ((np.full(x.shape[1:], float(len(x))), (x - centre).sum(0), ((x - centre) ** 2).sum(0)) for x in
             (first, second))  # fmt: skip
    return _d(*(part for side in sides for part in side))


def hedges(df: Floats | float) -> Floats:
    """What d is multiplied by to lose its bias: ``1 - 3 / (4 df - 1)`` (Hedges 1981, his approximation)."""
    return np.asarray(1 - 3 / (4 * np.asarray(df, dtype=np.float64) - 1))


def pair_sums(first: Floats, second: Floats, clusters: Sequence[str]) -> Sums:
    """Sums by clip of paired values.

    Parameters
    ----------
    first, second
        [pairs, *cells], the same pairs in the same order, all finite.
    clusters
        One label per pair, the clip it is about.

    Raises
    ------
    ValueError
        Where shapes or lengths differ, there are no pairs, or a value is not finite.
    """
    if first.shape != second.shape or len(first) != len(clusters) or not len(first):
        raise ValueError(
            f"pair_sums: got {first.shape} and {second.shape} values and {len(clusters)} labels, wants pairs"
        )
    a, b = np.asarray(first, dtype=np.float64), np.asarray(second, dtype=np.float64)
    if not (np.isfinite(a).all() and np.isfinite(b).all()):
        raise ValueError("pair_sums: got a value that is not finite (log of no mass at all?): leave such pairs out")
    centre = (a.mean(0) + b.mean(0)) / 2  # sums of squares keep their digits
    a, b = a - centre, b - centre
    names, codes = _coded(clusters)
    moments = np.stack([_by_cluster(x, codes, len(names)) for x in (np.ones_like(a), a, a**2, b, b**2, a * b)])
    return Sums(names, moments)


def effect(
    sums: Sums, *, how: How = "jackknife", level: float = 0.95, reps: int = REPS, seed: int = 0
) -> Effect | None:
    """Effect sizes of every cell with intervals over clips; None below three clips.

    p, the same for all four: paired t over clips of no shift, G - 1 degrees of freedom.

    Parameters
    ----------
    how
        The kind of interval; ``reps`` and ``seed`` are those of the bootstrap.

    Raises
    ------
    ValueError
        Where ``level`` is not a share between 0 and 1.
    """
    clips = len(sums.clusters)
    if clips < FEWEST_CLIPS:
        return None
    value, low, high, _ = _intervals(_four, sums.moments, how, level, reps, seed)
    p = np.full(sums.cells, np.nan)
    if clips >= FEWEST:
        mean, variance = ratio_variance(np.moveaxis(sums.shifts, 0, -1), np.moveaxis(sums.moments[0], 0, -1))
        p = two_sided_p(mean, variance, clips)
    return _effect(value, low, high, np.stack([p] * 4), sums.moments, clips, how)


def change(
    before: Sums, after: Sums, *, how: How = "jackknife", level: float = 0.95, reps: int = REPS, seed: int = 0
) -> Effect | None:
    """Effect sizes of ``after`` minus those of ``before`` on the same clips, which leave the sample together.

    Aligned and misaligned twins, or one model before and after training. Clips that only one side has are left
    out; None below three common clips. p: t of G - 1 degrees of freedom with the jackknife's spread, each
    statistic its own.

    Raises
    ------
    ValueError
        Where the two have other cells (another model's layers), or no clip in common.
    """
    if before.cells != after.cells:
        raise ValueError(
            f"change: got cells {before.cells} and {after.cells}: layers of different models cannot be compared"
        )
    both = _common((before, after))
    clips = both.shape[1]
    if clips < FEWEST_CLIPS:
        return None

    def gap(m: Floats) -> Floats:
        return _four(m[6:]) - _four(m[:6])

    value, low, high, spread = _intervals(gap, both, how, level, reps, seed)
    p = np.full(value.shape, np.nan)
    if clips >= FEWEST:
        p = two_sided_p(value, spread**2, clips)
    return _effect(value, low, high, p, both, clips, how)


def token_effect(
    first: Floats, second: Floats, *, how: How = "jackknife", level: float = 0.95, reps: int = REPS, seed: int = 0
) -> Band | None:
    """Cohen's d with the token as unit, as the paper may have meant it; intervals still leave out whole clips.

    Exact from sums, no token is stored. The more the tokens of one modality differ among themselves, the smaller:
    it measures how sparse attention is as much as how it moves. p is nan: none is known to hold. None below three
    clips.

    Parameters
    ----------
    first, second
        [3, clips, *cells]: number of tokens, sum and sum of squares of their values, under the two prompts.

    Raises
    ------
    ValueError
        Where shapes differ.
    """
    if first.shape != second.shape or first.shape[0] != 3:
        raise ValueError(f"token_effect: got {first.shape} and {second.shape}, wants [3, clips, *cells] twice")
    if first.shape[1] < FEWEST_CLIPS:
        return None
    both = np.concatenate([first, second]).astype(np.float64)
    value, low, high, _ = _intervals(lambda m: _d(*m)[None], both, how, level, reps, seed)
    return Band(value[0], low[0], high[0], np.full(value[0].shape, np.nan))


def curve(values: Floats, clusters: Sequence[str], level: float = 0.95, *, share: bool = False) -> Band | None:
    """Mean of every cell with a clip-clustered t(G - 1) interval and p of a mean of 0; None below two clips.

    ``values`` [answers, *cells], finite; a paired difference where two conditions are compared. ``share``: they lie
    in [0, 1], and so does the interval then (:func:`.intervals.clustered_share`).

    Raises ValueError where lengths differ or a value is not finite.
    """
    sums, counts = _clustered("curve", values, clusters)
    clips = sums.shape[-1]
    if clips < 2:
        return None
    value, variance = ratio_variance(sums, np.broadcast_to(counts, sums.shape))
    half = quantile(level, clips - 1) * np.sqrt(variance)
    p = two_sided_p(value, variance, clips) if clips >= FEWEST else np.full(value.shape, np.nan)
    if share:
        _, low, high = clustered_share(sums, np.broadcast_to(counts, sums.shape), level)
        return Band(value, low, high, p)
    return Band(value, value - half, value + half, p)


def redrawn_effects(sums: Sums, reps: int = REPS, seed: int = 0) -> Floats:
    """d of every cell in ``reps`` samples of redrawn clips: [reps, *cells]."""
    drawn: Floats = _redrawn(lambda m: _four(m)[:1], sums.moments, reps, seed)[0]
    return drawn


def redrawn_means(values: Floats, clusters: Sequence[str], reps: int = REPS, seed: int = 0) -> Floats:
    """Mean of every cell in ``reps`` samples of redrawn clips: [reps, *cells].

    Raises ValueError where lengths differ or a value is not finite.
    """
    sums, counts = _clustered("redrawn_means", values, clusters)
    both = np.stack([np.moveaxis(sums, -1, 0), np.moveaxis(np.broadcast_to(counts, sums.shape), -1, 0)])
    drawn: Floats = _redrawn(lambda m: (m[0] / m[1])[None], both, reps, seed)[0]
    return drawn


def _d(n1: Floats, a: Floats, aa: Floats, n2: Floats, b: Floats, bb: Floats) -> Floats:
    """d from number, sum and sum of squares of both sides; nan where there is no spread."""
    with np.errstate(divide="ignore", invalid="ignore"):
        inner = np.maximum(aa - a**2 / n1, 0.0) + np.maximum(bb - b**2 / n2, 0.0)
        spread = np.sqrt(inner / (n1 + n2 - 2))
        flat = spread <= FLAT * np.sqrt(aa / n1 + bb / n2)
        return np.where(flat, np.nan, (a / n1 - b / n2) / spread)


def _four(m: Floats) -> Floats:
    """d, g, d_z and mean shift from the six sums: [6, ...] -> [4, ...]."""
    n, a, aa, b, bb, ab = m
    d = _d(n, a, aa, n, b, bb)
    with np.errstate(divide="ignore", invalid="ignore"):
        shift = (a - b) / n
        square = aa + bb - 2 * ab
        spread = np.sqrt(np.maximum(square - n * shift**2, 0.0) / (n - 1))
        dz = np.where(spread <= FLAT * np.sqrt(aa / n + bb / n), np.nan, shift / spread)
        return np.stack([d, d * hedges(2 * n - 2), dz, shift])


def _intervals(
    statistic: Callable[[Floats], Floats], moments: Floats, how: How, level: float, reps: int, seed: int
) -> tuple[Floats, Floats, Floats, Floats]:
    """Value, limits and jackknife spread of statistics of sums: moments [k, clips, ...] -> [s, ...] each."""
    clips = moments.shape[1]
    total = moments.sum(1)
    value = statistic(total)
    without = statistic(total[:, None] - moments)  # [s, clips, ...]
    spread = np.sqrt((clips - 1) / clips * ((without - without.mean(1, keepdims=True)) ** 2).sum(1))
    if how == "jackknife":
        half = quantile(level, clips - 1) * spread
        return value, value - half, value + half, spread
    quantile(level)  # complains of a level that is none
    drawn = _redrawn(statistic, moments, reps, seed)
    tails = [(1 - level) / 2, (1 + level) / 2]
    # A sample of one clip alone has no spread: rare, and only then is the slow way taken.
    low, high = (np.nanquantile if np.isnan(drawn).any() else np.quantile)(drawn, tails, axis=1)
    return value, low, high, spread


def _redrawn(statistic: Callable[[Floats], Floats], moments: Floats, reps: int, seed: int) -> Floats:
    """Statistics in samples of clips drawn anew: [k, clips, *cells] -> [s, reps, *cells]."""
    parts, clips, cells = moments.shape[0], moments.shape[1], moments.shape[2:]
    rng = np.random.default_rng(seed)
    times = rng.multinomial(clips, np.full(clips, 1 / clips), size=reps).astype(np.float64)
    flat = moments.reshape(parts, clips, -1)
    step = max(1, _AT_ONCE // (parts * reps))
    blocks = (flat[..., start : start + step] for start in range(0, flat.shape[2], step))
    drawn = np.concatenate([statistic(times @ block) for block in blocks], axis=-1)
    return drawn.reshape(-1, reps, *cells)


def _effect(value: Floats, low: Floats, high: Floats, p: Floats, moments: Floats, clips: int, how: How) -> Effect:
    d, g, dz, shift = (Band(*four) for four in zip(value, low, high, p, strict=True))
    first = moments[0].reshape(clips, -1)
    method = "leave one clip out, t(G-1)" if how == "jackknife" else "clip bootstrap, percentiles"
    return Effect(d, g, dz, shift, int(first[:, 0].sum()), clips, method)


def _common(sides: Sequence[Sums]) -> Floats:
    """Moments of all sides over the clips that all have: [6 x sides, clips, *cells]."""
    shared = set.intersection(*(set(side.clusters) for side in sides))
    names = [name for name in sides[0].clusters if name in shared]
    if not names:
        raise ValueError("change: the two sides share no clip: nothing can be compared clip by clip")
    picked = []
    for side in sides:
        index = {name: i for i, name in enumerate(side.clusters)}
        picked.append(side.moments[:, [index[name] for name in names]])
    return np.concatenate(picked)


def _coded(clusters: Sequence[str]) -> tuple[tuple[str, ...], list[int]]:
    index = {name: i for i, name in enumerate(dict.fromkeys(clusters))}
    return tuple(index), [index[c] for c in clusters]


def _by_cluster(values: Floats, codes: Sequence[int], clusters: int) -> Floats:
    out = np.zeros((clusters, *values.shape[1:]))
    np.add.at(out, np.asarray(codes, dtype=np.intp), values)
    return out


def _clustered(who: str, values: Floats, clusters: Sequence[str]) -> tuple[Floats, Floats]:
    """Sums [*cells, clips] and numbers [clips] of values by clip."""
    data = np.asarray(values, dtype=np.float64)
    if len(data) != len(clusters) or not len(data):
        raise ValueError(f"{who}: got {len(data)} values and {len(clusters)} cluster labels, wants one each")
    if not np.isfinite(data).all():
        raise ValueError(f"{who}: got a value that is not finite: leave such answers out")
    names, codes = _coded(clusters)
    counts = np.bincount(codes, minlength=len(names)).astype(np.float64)
    return np.moveaxis(_by_cluster(data, codes, len(names)), 0, -1), counts
