"""Do two conditions, or two models, differ? Paired by question, clustered by clip.

The same question on the same clip is asked in both conditions, so differences are taken answer by answer; answers
about one clip move together, so the spread is taken between clips and compared with Student's t of G - 1 degrees
of freedom (G clips). McNemar's test and the paired z test treat every answer as a new clip and are wrong here:
docs/statistics.md has the simulated false positives. No p value is given below :data:`FEWEST` clips.

Functions: :func:`merge_clusters` (clips tied by a swap), :func:`difference`, :func:`diff_in_diff` (did training
change the effect of an intervention), :func:`equivalence` ("it ignores the sound" is a claim of no difference, and
a large p does not show it), :func:`holm` (several tests at once).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy import stats as distributions

from earwitness.records import Estimate
from earwitness.stats.intervals import Floats, Value, cluster_sums, effective_size, quantile, ratio_variance, scored

FEWEST = 10  # clusters: below, t on clustered data is too far from its nominal level to print a p value


def merge_clusters(source: Sequence[str], linked: Sequence[Sequence[str]]) -> list[str]:
    """One cluster label per item, with the sources that any item ties together (a swap and its donor) made one.

    Union-find over sources; a cluster is labelled by the smallest name in it. Call it on the items of one table
    row, not on a whole run, so that only the rows with a swap pay for it.

    It costs power: a donor chain through all clips makes ONE cluster, and no test is left. Choose donors in closed
    pairs (A takes B's sound and B takes A's): n clips then stay n / 2 clusters.

    Parameters
    ----------
    source
        One per item: ``Item.source``.
    linked
        One per item: ``Item.linked``, the other sources it leans on.

    Raises
    ------
    ValueError
        Where lengths differ.
    """
    if len(source) != len(linked):
        raise ValueError(f"merge_clusters: got {len(source)} sources but {len(linked)} links, wants one each")
    parent: dict[str, str] = {}

    def root(name: str) -> str:
        parent.setdefault(name, name)
        while parent[name] != name:
            parent[name] = parent[parent[name]]
            name = parent[name]
        return name

    for own, others in zip(source, linked, strict=True):
        for other in others:
            first, second = sorted((root(own), root(other)))
            parent[second] = first  # the smallest name stays the root, whatever the order of the items
    return [root(own) for own in source]


def difference(
    a: Sequence[Value], b: Sequence[Value], clusters: Sequence[str], level: float = 0.95
) -> Estimate | None:
    """Mean of ``a - b`` over pairs (by position), with a clip-clustered t(G - 1) interval and p value.

    For shares (all values 0 or 1) the interval is the set of differences D that the test does not reject when the
    variance is at least ``|D| (1 - |D|) / n_eff``, the least that a difference of D can have; p is the usual one,
    as that floor is 0 at D = 0. Two answerers that agree everywhere then get ``+- t^2 / (G + t^2)``, Tango's (1998)
    interval with t for z, in place of a zero width. Where all pairs differ the same way p is the sign test's.

    Parameters
    ----------
    a, b
        Paired by position. A pair with None in either is left out.
    clusters
        One label per pair, from :func:`merge_clusters` where there were swaps.

    Returns
    -------
    Estimate
        ``n`` pairs in ``clusters`` clips; p None below 10 clips. None where no pair, or (for values other than
        0 and 1) fewer than two clips are left.

    Raises
    ------
    ValueError
        Where lengths differ or a value is not finite.
    """
    if len(a) != len(b):
        raise ValueError(
            f"difference: got {len(a)} values in a and {len(b)} in b, wants pairs (same items, same order)"
        )
    pairs: list[Value] = [
        None if x is None or y is None else float(x) - float(y) for x, y in zip(a, b, strict=True)
    ]
    shares = all(v is None or v in (0, 1) for side in (a, b) for v in side)
    return _contrast("difference", pairs, clusters, level, 1.0 if shares else None)


def diff_in_diff(
    before_a: Sequence[Value],
    before_b: Sequence[Value],
    after_a: Sequence[Value],
    after_b: Sequence[Value],
    clusters: Sequence[str],
    level: float = 0.95,
) -> Estimate | None:
    """Mean of ``(after_a - after_b) - (before_a - before_b)``: how much training changed a gap between conditions.

    All four are paired by position: with a the intervened and b the original condition, above 0 means that the
    intervention costs less after than before. Interval and p as in :func:`difference`.

    Raises
    ------
    ValueError
        Where lengths differ or a value is not finite.
    """
    sides = (before_a, before_b, after_a, after_b)
    if len({len(side) for side in sides}) != 1:
        raise ValueError(
            f"diff_in_diff: got {', '.join(str(len(s)) for s in sides)} values, wants four of the same items"
        )
    values: list[Value] = [
        None if p is None or q is None or r is None or s is None else (float(r) - float(s)) - (float(p) - float(q))
        for p, q, r, s in zip(*sides, strict=True)
    ]
    shares = all(v is None or v in (0, 1) for side in sides for v in side)
    return _contrast("diff_in_diff", values, clusters, level, 2.0 if shares else None)


def _contrast(
    who: str, values: Sequence[Value], clusters: Sequence[str], level: float, span: float | None
) -> Estimate | None:
    """Mean of pair differences; ``span`` is the largest possible |difference|, None where there is no largest."""
    data, labels = scored(who, values, clusters)
    if not data.size:
        return None
    sums, counts = cluster_sums(data, labels)
    groups = counts.size
    if groups < 2:
        if span is None:
            return None
        return Estimate(float(data.mean()), -span, span, data.size, 1, "one clip: no interval")
    value, variance = ratio_variance(sums, counts)
    t = quantile(level, groups - 1)
    if span is None:
        half = t * np.sqrt(variance)
        low, high = value - half, value + half
    else:
        size = contrast_size(sums, cluster_sums(data**2, labels)[0], counts)
        low, high = difference_limits(value, variance, size, t, span)
    p = None if groups < FEWEST else float(two_sided_p(value, variance, groups))
    return Estimate(float(value), float(low), float(high), data.size, groups, "paired, clip-clustered t(G-1)", p)


def contrast_size(sums: Floats, squares: Floats, counts: Floats) -> Floats:
    """Effective number of pairs, from the sums of d and of d^2 in each cluster [..., clusters]."""
    value, variance = ratio_variance(sums, counts)
    spread = squares.sum(-1) / counts.sum(-1) - value**2
    return effective_size(variance, spread, counts, (squares > 0).sum(-1).astype(np.float64))


def two_sided_p(value: Floats, variance: Floats, groups: int) -> Floats:
    """p of no difference: t(G - 1); the exact sign test over clips where there is no spread at all."""
    flat = variance < 1e-15
    t = np.abs(value) / np.sqrt(np.where(flat, 1.0, variance))
    p = 2 * distributions.t.sf(t, groups - 1)
    return np.asarray(np.where(flat, np.where(np.abs(value) < 1e-12, 1.0, 2.0 ** (1 - groups)), p))


def difference_limits(
    value: Floats, variance: Floats, size: Floats, t: Floats, span: float = 1.0
) -> tuple[Floats, Floats]:
    """Limits of a bounded mean difference: D with ``(d - D)^2 <= t^2 max(V, |D| (span - |D|) / n_eff)``.

    ``|D| (span - |D|)`` is the least variance of a variable that takes the values -span, 0 and span and has mean D.
    """
    return -_upper(-value, variance, size, t, span), _upper(value, variance, size, t, span)


def _upper(value: Floats, variance: Floats, size: Floats, t: Floats, span: float) -> Floats:
    """Largest D that is not rejected: the further one of the plain t limit and the score limit."""
    plain = value + t * np.sqrt(variance)
    k = t**2 / size
    # Where d >= 0 the root lies above 0: (D - d)^2 = k D (span - D). Below, at D < 0, it is k (-D) (span + D), and
    # there the two limits of d = -e are minus those of e: the larger D is the smaller root.
    up = np.abs(value)
    sign = np.where(value >= 0, 1.0, -1.0)
    middle = 2 * up + k * span
    root = np.sqrt(np.maximum(middle**2 - 4 * (1 + k) * up**2, 0))
    score = sign * (middle + sign * root) / (2 * (1 + k))
    return np.asarray(np.minimum(np.maximum(plain, score), span))


def equivalence(
    a: Sequence[Value], b: Sequence[Value], clusters: Sequence[str], margin: float, alpha: float = 0.05
) -> Estimate | None:
    """Is the difference ``a - b`` smaller than ``margin`` either way? Two one-sided tests (TOST, Schuirmann 1987).

    What "the model ignores the sound" needs: a small p HERE says so (the gap between sound and no sound is inside
    the margin); a large p of :func:`difference` does not. Each test uses clip-clustered t(G - 1) with, for shares,
    the variance at its own margin, at least ``margin (1 - margin) / n_eff``: without that floor two answerers that
    agree on every one of ten clips would count as proof.

    Parameters
    ----------
    a, b, clusters
        As in :func:`difference`.
    margin
        Above 0, in the unit of the values (0.1 = ten points of accuracy).

    Returns
    -------
    Estimate
        The difference, its interval at level ``1 - 2 alpha`` (equivalent when inside +-margin), and p, the larger
        one of the two tests; p None below 10 clips.

    Raises
    ------
    ValueError
        Where the margin is not above 0 (nor below 1 for shares), or lengths differ.
    """
    estimate = difference(a, b, clusters, 1 - 2 * alpha)
    if estimate is None:
        return None
    shares = all(v is None or v in (0, 1) for side in (a, b) for v in side)
    if margin <= 0 or (shares and margin >= 1):
        raise ValueError(
            f"equivalence: got a margin of {margin:g}, wants one above 0{' and below 1' if shares else ''} "
            "(did you pass points of per cent?)"
        )
    groups = estimate.clusters
    p = None
    if groups >= FEWEST:
        pairs: list[Value] = [
            None if x is None or y is None else float(x) - float(y) for x, y in zip(a, b, strict=True)
        ]
        data, labels = scored("equivalence", pairs, clusters)
        sums, counts = cluster_sums(data, labels)
        value, variance = ratio_variance(sums, counts)
        least = margin * (1 - margin) / contrast_size(sums, cluster_sums(data**2, labels)[0], counts)
        p = float(tost_p(value, np.maximum(variance, least) if shares else variance, groups, margin))
    return Estimate(
        estimate.value,
        estimate.low,
        estimate.high,
        estimate.n,
        groups,
        f"TOST, margin {margin:g}, paired, clip-clustered t(G-1), level {1 - 2 * alpha:g}",
        p,
    )


def tost_p(value: Floats, variance: Floats, groups: int, margin: float) -> Floats:
    """The larger p of the tests against +margin and -margin."""
    deviation = np.sqrt(np.maximum(variance, 1e-30))
    return np.asarray(distributions.t.sf((margin - np.abs(value)) / deviation, groups - 1))


def holm(ps: Sequence[float | None]) -> list[float | None]:
    """p values adjusted for testing all of them (Holm 1979): compare each with the level as it stands.

    ``p~_(i) = max_{j <= i} min(1, (m - j + 1) p_(j))`` over the m values that are not None; None stays None and
    does not count as a test.

    Raises
    ------
    ValueError
        Where a p lies outside [0, 1].
    """
    tested = sorted((p, i) for i, p in enumerate(ps) if p is not None)
    out: list[float | None] = [None] * len(ps)
    worst = 0.0
    for rank, (p, i) in enumerate(tested):
        if not 0 <= p <= 1:
            raise ValueError(f"holm: got p = {p}, wants p values in [0, 1]")
        worst = max(worst, min(1.0, (len(tested) - rank) * p))
        out[i] = worst
    return out
