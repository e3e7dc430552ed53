"""How sure is one number? Shares and means with intervals that count clips, not answers.

A share gets a score interval (Wilson 1927: the variance is taken at the share that is tested, not at the one that
was seen), which stays inside [0, 1] and keeps a width when every answer agrees. With several answers a clip it is
widened by the design effect of the clips (Kish 1965) and by the t quantile of G - 1 degrees of freedom, G being the
number of clips. Where all clips agree there is no spread to measure, and the interval is that of G single answers.

Functions: :func:`proportion`, :func:`mean`, :func:`bounds`, :func:`wilson`; :func:`clustered_share` is the plain
formula over arrays, which the simulations of coverage call.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence

import numpy as np
from numpy.typing import NDArray
from scipy import stats as distributions

from earwitness.records import Estimate

Floats = NDArray[np.float64]
Value = bool | float | None

# Of 0, 0.1, 0.15, 0.2, 0.25, 0.5, 1 and 2 clips tried in simulation: without it coverage falls to 90 % where few
# clips hold the rarer answer; above 0.1 it passes 97 % there (docs/statistics.md).
PRIOR = 0.1


def quantile(level: float, df: Floats | float | None = None) -> Floats:
    """Two-sided quantile: of the normal distribution, or of Student's t with ``df`` degrees of freedom.

    Raises ValueError where ``level`` is not a share between 0 and 1.
    """
    if not 0 < level < 1:
        raise ValueError(f"level: got {level}, wants a share between 0 and 1 such as 0.95 (did you pass per cent?)")
    tail = (1 + level) / 2
    return np.asarray(distributions.norm.ppf(tail) if df is None else distributions.t.ppf(tail, df))


def scored(
    who: str, values: Sequence[Value], clusters: Sequence[str], span: tuple[float, float] | None = None
) -> tuple[Floats, list[str]]:
    """Values without the unscored ones, and their cluster labels.

    Raises
    ------
    ValueError
        Where lengths differ, a value is not finite, or it lies outside ``span``.
    """
    if len(values) != len(clusters):
        raise ValueError(
            f"{who}: got {len(values)} values but {len(clusters)} cluster labels, wants one label per value "
            "(were unscored answers dropped from only one of the two? pass None for them)"
        )
    kept = [(float(v), c) for v, c in zip(values, clusters, strict=True) if v is not None]
    data = np.array([v for v, _ in kept], dtype=np.float64)
    if not np.all(np.isfinite(data)):
        raise ValueError(f"{who}: got a value that is not finite; an unscored answer is None, not nan")
    if span is not None and data.size and (data.min() < span[0] or data.max() > span[1]):
        raise ValueError(
            f"{who}: got values from {data.min():g} to {data.max():g}, wants them in [{span[0]:g}, {span[1]:g}] "
            "(did you pass per cent?)"
        )
    return data, [c for _, c in kept]


def cluster_sums(values: Floats, clusters: Sequence[Hashable]) -> tuple[Floats, Floats]:
    """Sum and number of values in each cluster, both [clusters], in the order of first appearance."""
    index: dict[Hashable, int] = {}
    codes = np.array([index.setdefault(c, len(index)) for c in clusters], dtype=np.intp)
    size = len(index)
    sums: Floats = np.bincount(codes, weights=values, minlength=size).astype(np.float64)
    return sums, np.bincount(codes, minlength=size).astype(np.float64)


def ratio_variance(sums: Floats, counts: Floats) -> tuple[Floats, Floats]:
    """Overall mean and its between-cluster variance, over the last axis.

    ``m = sum_g s_g / N`` and ``V = G / (G - 1) * sum_g (s_g - m n_g)^2 / N^2``: the linearised ratio estimator
    (Cochran 1977, section 6.3), the same as CR1 cluster-robust least squares on a constant.

    Parameters
    ----------
    sums, counts
        [..., clusters], sum and number of values in each cluster; at least two clusters.
    """
    total = counts.sum(-1)
    value = sums.sum(-1) / total
    groups = counts.shape[-1]
    residual = sums - value[..., None] * counts
    return value, groups / (groups - 1) * (residual**2).sum(-1) / total**2


def score_limits(value: Floats, size: Floats, z: Floats) -> tuple[Floats, Floats]:
    """Wilson's limits of a share ``value`` seen in ``size`` (effective) answers at quantile ``z``.

    The roots of ``(p - pi)^2 = z^2 pi (1 - pi) / n`` (Wilson 1927).
    """
    centre = value + z**2 / (2 * size)
    half = z * np.sqrt(np.maximum(value * (1 - value) / size + z**2 / (4 * size**2), 0))
    scale = 1 + z**2 / size
    low, high = (centre - half) / scale, (centre + half) / scale
    # The two limits are exactly 0 and 1 on paper; rounding must not leave -1e-17 there.
    return np.where(value <= 0, 0.0, np.clip(low, 0, 1)), np.where(value >= 1, 1.0, np.clip(high, 0, 1))


def effective_size(variance: Floats, spread: Floats, counts: Floats, telling: Floats) -> Floats:
    """How many independent answers the clustered ones are worth, over the last axis: ``N / deff``.

    The design effect ``deff = V N / spread`` (Kish 1965) is a guess where few clips hold the rarer answer (one such
    answer always looks unclustered), so it is drawn towards ``N / G``, its value when every clip speaks with one
    voice, with the weight of :data:`PRIOR` clips: ``(k deff + PRIOR N / G) / (k + PRIOR)``.

    Parameters
    ----------
    variance
        [...], the between-cluster variance V of the mean.
    spread
        [...], the variance of one answer.
    counts
        [..., clusters], answers per cluster.
    telling
        [...], k, the clusters that hold the rarer answer. Where k or V is 0 the result is G.
    """
    total, groups = counts.sum(-1), counts.shape[-1]
    flat = (variance < 1e-15) | (spread < 1e-15)
    seen = variance * total / np.where(flat, 1.0, spread)
    drawn = (telling * seen + PRIOR * total / groups) / (telling + PRIOR)
    return np.where(flat, float(groups), total / np.where(flat, 1.0, drawn))


def clustered_share(sums: Floats, counts: Floats, level: float = 0.95) -> tuple[Floats, Floats, Floats]:
    """Share with its interval, clustered: Wilson's limits at the effective number of answers and t(G - 1).

    Parameters
    ----------
    sums, counts
        [..., clusters], sum and number of the 0-to-1 values in each cluster; at least two clusters.
    """
    value, variance = ratio_variance(sums, counts)
    telling = np.minimum((sums > 0).sum(-1), (sums < counts).sum(-1))
    size = effective_size(variance, value * (1 - value), counts, telling)
    low, high = score_limits(value, size, quantile(level, counts.shape[-1] - 1))
    return value, low, high


def wilson(successes: int, n: int, level: float = 0.95) -> Estimate:
    """Share of independent answers with Wilson's score interval (Wilson 1927).

    Raises ValueError unless 0 <= successes <= n and n > 0.
    """
    if not 0 <= successes <= n or n == 0:
        raise ValueError(
            f"wilson: got {successes} of {n}, wants 0 <= successes <= n and n > 0 (arguments swapped?)"
        )
    return _wilson(successes / n, n, n, n, level, "Wilson")


def _wilson(value: float, size: int, n: int, groups: int, level: float, method: str) -> Estimate:
    low, high = score_limits(np.asarray(value), np.asarray(float(size)), quantile(level))
    return Estimate(value, float(low), float(high), n, groups, method)


def proportion(correct: Sequence[Value], clusters: Sequence[str], level: float = 0.95) -> Estimate | None:
    """Share of right answers with its interval; None where nothing was scored.

    One answer a clip: Wilson. Several: :func:`clustered_share`. All clips agree: Wilson on the number of clips.
    One clip only: its value, and the whole of [0, 1] as interval unless it holds a single answer.

    Parameters
    ----------
    correct
        One per answer: right or wrong, or a score in [0, 1]; None = unscored, left out (see :func:`bounds`).
    clusters
        One label per answer, the clip it is about.

    Raises
    ------
    ValueError
        Where lengths differ or a value lies outside [0, 1].
    """
    values, labels = scored("proportion", correct, clusters, (0.0, 1.0))
    return _share(values, labels, level) if values.size else None


def _share(values: Floats, labels: Sequence[str], level: float) -> Estimate:
    sums, counts = cluster_sums(values, labels)
    n, groups, value = values.size, counts.size, float(values.mean())
    binary = bool(np.all((values == 0) | (values == 1)))
    if groups == n and binary:
        return _wilson(value, n, n, groups, level, "Wilson")
    if groups == 1:
        return Estimate(value, 0.0, 1.0, n, 1, "one clip: no interval")
    if value in (0.0, 1.0):
        return _wilson(value, groups, n, groups, level, "Wilson on clips (all agree)")
    _, low, high = clustered_share(sums, counts, level)
    return Estimate(value, float(low), float(high), n, groups, "clip-clustered score interval, t(G-1)")


def mean(
    values: Sequence[float | None],
    clusters: Sequence[str],
    level: float = 0.95,
    *,
    span: tuple[float, float] | None = None,
) -> Estimate | None:
    """Mean of seconds or scores with a clip-clustered t(G - 1) interval; None where no interval can be had.

    Parameters
    ----------
    values
        One per answer, any unit; None = unscored, left out.
    clusters
        One label per answer, the clip it is about.
    span
        Lowest and highest possible value, where there are such (0 and 5 for a judge's marks). The interval then
        is that of :func:`proportion` on the rescaled values: it stays inside and keeps a width when all agree.

    Raises
    ------
    ValueError
        Where lengths differ, a value is not finite or lies outside ``span``.
    """
    if span is not None and not span[0] < span[1]:
        raise ValueError(f"mean: got a span of {span}, wants (lowest, highest)")
    data, labels = scored("mean", values, clusters, span)
    if not data.size:
        return None
    if span is not None:
        low, width = span[0], span[1] - span[0]
        share = _share((data - low) / width, labels, level)
        return Estimate(
            low + width * share.value,
            low + width * share.low,
            low + width * share.high,
            share.n,
            share.clusters,
            share.method,
        )
    sums, counts = cluster_sums(data, labels)
    if counts.size < 2:
        return None  # one clip says nothing about the spread between clips
    value, variance = ratio_variance(sums, counts)
    half = quantile(level, counts.size - 1) * np.sqrt(variance)
    return Estimate(
        float(value), float(value - half), float(value + half), data.size, counts.size, "clip-clustered t(G-1)"
    )


def bounds(correct: Sequence[Value]) -> tuple[float, float]:
    """Share of right answers if every unscored one (None) were wrong, and if every one were right.

    Manski's (1989) worst-case bounds: what failures and unparsed answers could hide. (0, 1) for no answers.
    """
    if not len(correct):
        return 0.0, 1.0
    known = sum(float(v) for v in correct if v is not None)
    missing = sum(v is None for v in correct)
    return known / len(correct), (known + missing) / len(correct)
