"""Yes/no questions and agreement: sensitivity apart from the habit of saying yes.

Accuracy on yes/no questions rewards a habit: always "no" scores 100 % where every truth is "no". Signal detection
takes the two apart (Green and Swets 1966): d' is how well sounding and silent clips are told apart, c the leaning
(c < 0: towards "yes"). Rates get the log-linear correction (Hautus 1995: add 0.5 to counts and 1 to totals, always,
not only where a rate is 0 or 1), so that d' stays finite.

Functions: :func:`dprime` and :func:`bias` from four counts; :func:`detection` from answers with their clips, with
clustered intervals for all of it; :func:`balanced_accuracy`; :func:`kappa` for two annotators.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray
from scipy import stats as distributions

from earwitness.records import Estimate
from earwitness.stats.intervals import Floats, Value, cluster_sums, proportion, quantile, scored


class Detection(msgspec.Struct, frozen=True):
    """Signal detection of one yes/no question. A field is None where no answer of its kind was scored."""

    dprime: Estimate | None
    bias: Estimate | None
    balanced_accuracy: Estimate | None
    hit_rate: Estimate | None  # P(says yes | truth is yes): accuracy on yes
    false_alarm_rate: Estimate | None  # P(says yes | truth is no)
    yes_rate: Estimate | None  # P(says yes), whatever is true


def _rates(who: str, hits: int, n_yes: int, false_alarms: int, n_no: int) -> tuple[float, float, float, float]:
    """z-scores of the corrected hit and false-alarm rates, and the variance of each (delta method)."""
    for name, part, whole in (("hits", hits, n_yes), ("false alarms", false_alarms, n_no)):
        if not 0 <= part <= whole or whole == 0:
            raise ValueError(
                f"{who}: got {part} {name} of {whole}, wants 0 <= {name} <= total and a total above 0 "
                "(is one kind of question missing? d' needs questions with truth yes and with truth no)"
            )
    out = []
    for part, whole in ((hits, n_yes), (false_alarms, n_no)):
        rate = (part + 0.5) / (whole + 1)
        z = float(distributions.norm.ppf(rate))
        out += [z, rate * (1 - rate) / (whole * float(distributions.norm.pdf(z)) ** 2)]
    return out[0], out[2], out[1], out[3]


def dprime(hits: int, n_yes: int, false_alarms: int, n_no: int, level: float = 0.95) -> Estimate:
    """Sensitivity ``d' = z(H) - z(F)`` of independent answers, log-linear rates, delta-method interval.

    ``H = (hits + 0.5) / (n_yes + 1)``, F likewise (Hautus 1995); variance
    ``H (1 - H) / (n_yes phi(z(H))^2) + F (1 - F) / (n_no phi(z(F))^2)`` (Gourevitch and Galanter 1967).
    Answers that share clips are not independent: use :func:`detection` there.

    Raises ValueError on impossible counts or where there are no questions of one kind.
    """
    z_hit, z_false, v_hit, v_false = _rates("dprime", hits, n_yes, false_alarms, n_no)
    value, half = z_hit - z_false, float(quantile(level)) * (v_hit + v_false) ** 0.5
    return Estimate(value, value - half, value + half, n_yes + n_no, n_yes + n_no, "log-linear, delta method")


def bias(hits: int, n_yes: int, false_alarms: int, n_no: int, level: float = 0.95) -> Estimate:
    """Criterion ``c = -(z(H) + z(F)) / 2`` of independent answers: below 0 leans to "yes" (rates as in d').

    Raises ValueError on impossible counts or where there are no questions of one kind.
    """
    z_hit, z_false, v_hit, v_false = _rates("bias", hits, n_yes, false_alarms, n_no)
    value, half = -(z_hit + z_false) / 2, float(quantile(level)) * (v_hit + v_false) ** 0.5 / 2
    return Estimate(value, value - half, value + half, n_yes + n_no, n_yes + n_no, "log-linear, delta method")


def detection(
    said_yes: Sequence[Value], truth: Sequence[bool], clusters: Sequence[str], level: float = 0.95
) -> Detection:
    """d', bias, balanced accuracy and rates of a yes/no question, all with clip-clustered intervals.

    d' and c: the delta method on cluster totals, ``V = G / (G - 1) sum_g u_g^2`` with
    ``u_g = sum_{i in g} (x_i - rate_i) / (n_kind(i) phi(z_kind(i)))`` (signed by kind), t(G - 1). A kind
    whose answers are all the same shows no spread; it gets the variance of one answer a clip at its corrected rate
    instead, so that a habit ("yes" to all) does not get an interval of no width.

    Parameters
    ----------
    said_yes
        One per answer: did it say yes? None = unscored, left out.
    truth
        One per answer: is yes right?
    clusters
        One label per answer, the clip it is about.

    Raises
    ------
    ValueError
        Where lengths differ.
    """
    if len(truth) != len(said_yes):
        raise ValueError(f"detection: got {len(said_yes)} answers but {len(truth)} truths, wants one each")
    said, labels = scored("detection", said_yes, clusters, (0.0, 1.0))
    yes = np.array([bool(t) for s, t in zip(said_yes, truth, strict=True) if s is not None], dtype=bool)
    kept: list[Value] = [float(s) for s in said]
    on = [i for i in range(len(kept)) if yes[i]]
    off = [i for i in range(len(kept)) if not yes[i]]
    hit = proportion([kept[i] for i in on], [labels[i] for i in on], level)
    false = proportion([kept[i] for i in off], [labels[i] for i in off], level)
    correct: list[Value] = [float(s == t) for s, t in zip(said, yes, strict=True)]
    sensitivity, leaning = _signal(said, yes, labels, level) if on and off else (None, None)
    return Detection(
        sensitivity,
        leaning,
        balanced_accuracy(correct, ["yes" if t else "no" for t in yes], labels, level),
        hit,
        false,
        proportion(kept, labels, level),
    )


class _Influence(NamedTuple):
    """What each answer does to z(H) + z(F) ([answers]), both z, and the variance of kinds that show no spread."""

    z_hit: float
    z_false: float
    u: Floats
    flat: float
    alone: float  # variance where there is one clip only


def _influence(said: Floats, yes: NDArray[np.bool_], labels: Sequence[str]) -> _Influence:
    counts = (int(said[yes].sum()), int(yes.sum()), int(said[~yes].sum()), int((~yes).sum()))
    z_hit, z_false, v_hit, v_false = _rates("detection", *counts)
    slope = np.where(yes, distributions.norm.pdf(z_hit), distributions.norm.pdf(z_false))
    raw = np.where(yes, counts[0] / counts[1], counts[2] / counts[3])
    u = (said - raw) / (np.where(yes, counts[1], counts[3]) * slope)
    flat = 0.0
    for mask, variance in ((yes, v_hit), (~yes, v_false)):
        if np.ptp(said[mask]) == 0:
            flat += variance * mask.sum() / len({c for c, m in zip(labels, mask, strict=True) if m})
    return _Influence(z_hit, z_false, u, flat, v_hit + v_false)


def _spread(value: float, u: Floats, flat: float, alone: float, labels: Sequence[str], level: float) -> Estimate:
    sums, _ = cluster_sums(u, labels)
    groups = sums.size
    if groups > 1:
        spread, df = float(groups / (groups - 1) * (sums**2).sum() + flat), groups - 1
        method = "log-linear, clip-clustered delta method, t(G-1)"
    else:
        spread, df, method = alone, None, "log-linear, delta method (one clip)"
    half = float(quantile(level, df)) * spread**0.5
    return Estimate(value, value - half, value + half, u.size, groups, method)


def _signal(said: Floats, yes: NDArray[np.bool_], labels: Sequence[str], level: float) -> tuple[Estimate, Estimate]:
    """d' and c, clustered. ``said`` and ``yes`` [answers]; both kinds of truth are there."""
    i = _influence(said, yes, labels)
    sensitivity = _spread(i.z_hit - i.z_false, np.where(yes, i.u, -i.u), i.flat, i.alone, labels, level)
    leaning = _spread(-(i.z_hit + i.z_false) / 2, i.u / 2, i.flat / 4, i.alone / 4, labels, level)
    return sensitivity, leaning


def dprime_difference(
    first: Sequence[Value], second: Sequence[Value], truth: Sequence[bool], clusters: Sequence[str],
    level: float = 0.95,
) -> Estimate | None:  # fmt: skip
    """d' of the second answers minus d' of the first, to the same questions: paired, clip-clustered delta method.

    Each answer's influence is that on the second d' minus that on the first (:func:`detection`), so that clips that
    are hard for both cancel out. Only questions that both answered count; None where one kind of truth is missing.

    Raises ValueError where lengths differ.
    """
    if not len(first) == len(second) == len(truth) == len(clusters):
        raise ValueError("dprime_difference: wants one truth and one cluster for each pair of answers")
    both = [k for k in range(len(truth)) if first[k] is not None and second[k] is not None]
    yes = np.array([bool(truth[k]) for k in both], dtype=bool)
    if not yes.any() or yes.all():
        return None
    labels = [clusters[k] for k in both]
    a, b = (
        _influence(np.array([float(side[k]) for k in both]), yes, labels)  # type: ignore[arg-type]
        for side in (first, second)
    )
    value = (b.z_hit - b.z_false) - (a.z_hit - a.z_false)
    u = np.where(yes, b.u - a.u, a.u - b.u)
    return _spread(value, u, a.flat + b.flat, a.alone + b.alone, labels, level)


def balanced_accuracy(
    correct: Sequence[Value], classes: Sequence[str], clusters: Sequence[str], level: float = 0.95
) -> Estimate | None:
    """Mean over classes of the accuracy within each: 1/K for any fixed answer, however unequal the classes are.

    The interval joins the classes' own (:func:`proportion`) by their distances to the limits, with the correlation
    of the cluster totals between classes (MOVER, Zou and Donner 2008, equation 3):
    ``low = m - sqrt(sum_jk r_jk a_j a_k) / K`` with ``a_j = m_j - low_j``. None where a class was never scored.

    Parameters
    ----------
    correct
        One per answer: right or wrong; None = unscored, left out.
    classes
        One per answer: the class of its truth ("yes" / "no"; "in sync" / "late" / "early").
    clusters
        One label per answer, the clip it is about.
    """
    if len(classes) != len(correct):
        raise ValueError(
            f"balanced_accuracy: got {len(correct)} answers but {len(classes)} classes, wants one each"
        )
    values, labels = scored("balanced_accuracy", correct, clusters, (0.0, 1.0))
    kinds = np.array([k for v, k in zip(correct, classes, strict=True) if v is not None])
    names = sorted(set(classes))
    if len(names) < 2 or set(kinds) != set(names):
        return None
    parts: list[Estimate] = []
    totals = []
    for name in names:
        mask = kinds == name
        part = proportion(list(values[mask]), [c for c, m in zip(labels, mask, strict=True) if m], level)
        assert part is not None
        parts.append(part)
        totals.append(cluster_sums(np.where(mask, values - part.value, 0.0), labels)[0])
    length = np.sqrt((np.array(totals) ** 2).sum(1))
    length[length == 0] = 1.0  # a class without spread: correlation 0 with the others
    unit = np.array(totals) / length[:, None]
    together = unit @ unit.T
    np.fill_diagonal(together, 1.0)
    below = np.array([p.value - p.low for p in parts])
    above = np.array([p.high - p.value for p in parts])
    value, count = float(np.mean([p.value for p in parts])), len(names)
    return Estimate(
        value,
        max(0.0, value - float(np.sqrt(max(below @ together @ below, 0))) / count),
        min(1.0, value + float(np.sqrt(max(above @ together @ above, 0))) / count),
        values.size,
        len(set(labels)),
        "clip-clustered intervals of the classes joined (MOVER)",
    )


def kappa(
    first: Sequence[str | None],
    second: Sequence[str | None],
    clusters: Sequence[str] | None = None,
    level: float = 0.95,
) -> Estimate | None:
    """Cohen's kappa of two annotators: ``(p_o - p_e) / (1 - p_e)`` (Cohen 1960).

    Interval: delta method (Fleiss, Cohen and Everitt 1969), summed within clusters, t(G - 1). Where the two agree
    on everything, the lower limit comes from Wilson's for p_o on the number of clusters. None where fewer than two
    cases have both labels, or where both always give one and the same label (p_e = 1: chance explains all).

    Parameters
    ----------
    first, second
        The two annotators' labels of the same cases; a case with None in either is left out.
    clusters
        One label per case; by default each case stands alone.

    Raises
    ------
    ValueError
        Where lengths differ.
    """
    groups = clusters if clusters is not None else [str(i) for i in range(len(first))]
    if not len(first) == len(second) == len(groups):
        raise ValueError(
            f"kappa: got {len(first)}, {len(second)} and {len(groups)} entries, wants the two annotators' labels "
            "(and clusters) of the same cases"
        )
    cases = [(a, b, g) for a, b, g in zip(first, second, groups, strict=True) if a is not None and b is not None]
    n = len(cases)
    names = {name: i for i, name in enumerate(sorted({x for a, b, _ in cases for x in (a, b)}))}
    if n < 2 or len(names) < 2:
        return None
    a = np.array([names[x] for x, _, _ in cases])
    b = np.array([names[x] for _, x, _ in cases])
    share_a = np.bincount(a, minlength=len(names)) / n
    share_b = np.bincount(b, minlength=len(names)) / n
    agree = (a == b).astype(np.float64)
    seen, chance = float(agree.mean()), float(share_a @ share_b)
    value = (seen - chance) / (1 - chance)
    influence = (agree - seen) / (1 - chance) - (1 - seen) * (share_b[a] + share_a[b] - 2 * chance) / (
        1 - chance
    ) ** 2
    sums, _ = cluster_sums(influence, [g for _, _, g in cases])
    size = sums.size
    if size < 2:
        return None
    if seen == 1:
        lowest = proportion([True] * size, [str(i) for i in range(size)], level)
        assert lowest is not None
        return Estimate(value, (lowest.low - chance) / (1 - chance), 1.0, n, size, "Wilson on clusters (all agree)")
    half = float(quantile(level, size - 1)) * (size / (size - 1) * float((sums**2).sum())) ** 0.5 / n
    return Estimate(
        value, max(-1.0, value - half), min(1.0, value + half), n, size, "clustered delta method, t(G-1)"
    )
