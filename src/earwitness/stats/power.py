"""How many clips does a gap need? By formula, and checked by simulating the very test that will be run.

A gap is a difference of shares between two conditions (or two models) on the same questions. What the number of
clips depends on, besides the gap: how often the paired answers differ at all (``discordant``), how many questions
each clip carries (``per_clip``), and how much the differences of one clip resemble each other (``icc``, the
intra-clip correlation): eight questions on a clip are worth ``8 / (1 + 7 icc)`` clips with one, not eight.

Functions: :func:`clips_needed`, its inverse :func:`detectable_gap`, :func:`simulated_power`, :func:`discordance`,
:func:`table` (what ``earwitness power`` prints); :func:`paired_counts` draws the answers for it and for the tests.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy import stats as distributions

from earwitness.records import Estimate, Row, Table
from earwitness.stats.intervals import Floats, quantile, ratio_variance, wilson
from earwitness.stats.paired import FEWEST, two_sided_p

MOST = 1_000_000  # clips: beyond, the answer is "not with this method"


def _checked(gap: float, per_clip: int, discordant: float | None, icc: float, power: float) -> float:
    """The share of discordant pairs, after checking that the question makes sense."""
    if not 0 < abs(gap) <= 1:
        raise ValueError(
            f"power: got a gap of {gap:g}, wants a share above 0, at most 1 (did you pass points of 100?)"
        )
    if per_clip < 1 or not 0 <= icc <= 1 or not 0 < power < 1:
        raise ValueError(
            f"power: got {per_clip} answers a clip, icc {icc:g}, power {power:g}; wants at least 1 answer, an icc "
            "in [0, 1], and a power between 0 and 1"
        )
    share = (1 + gap**2) / 2 if discordant is None else discordant
    if not abs(gap) <= share <= 1:
        raise ValueError(
            f"power: got {share:g} discordant pairs for a gap of {gap:g}; wants between the gap itself and 1 "
            "(a gap is the difference of the two kinds of discordant pairs)"
        )
    return share


def discordance(gap: float, base: float = 0.5) -> float:
    """Share of pairs that differ between two answerers that know nothing of each other.

    ``p (1 - q) + q (1 - p)`` with ``p = base`` and ``q = base - gap``. Conditions of one model are usually tied
    more closely and then need fewer clips: take the share from a pilot run where there is one.

    Raises ValueError where ``base`` or ``base - gap`` is not a share.
    """
    other = base - gap
    if not 0 <= base <= 1 or not -1e-12 <= other <= 1:
        raise ValueError(
            f"discordance: got a base of {base:g} and a gap of {gap:g}, which leaves {other:g} in the other "
            "condition; wants shares in [0, 1] (is the gap larger than the base?)"
        )
    return base * (1 - other) + other * (1 - base)


def _power_at(clips: int, gap: float, per_clip: int, share: float, icc: float, level: float) -> float:
    variance = (share - gap**2) * (1 + (per_clip - 1) * icc) / (per_clip * clips)
    if variance < 1e-12:
        return 1.0
    critical = float(quantile(level, clips - 1))
    shift = abs(gap) / variance**0.5
    if shift > 30:  # the non-central t is certain here, and its evaluation slow
        return 1.0
    return float(distributions.nct.sf(critical, clips - 1, shift))


def clips_needed(
    gap: float,
    *,
    per_clip: int = 1,
    discordant: float | None = None,
    icc: float = 0.2,
    power: float = 0.8,
    level: float = 0.95,
) -> int:
    """Smallest number of clips at which a paired, clip-clustered test finds ``gap`` with probability ``power``.

    The variance of a clip's mean difference is ``(psi - gap^2) (1 + (m - 1) icc) / m`` (psi discordant pairs, m
    answers a clip; the design effect of Kish 1965); the test is t(G - 1), so its power is that of the non-central
    t. Never below 10, where no p value is given.

    Parameters
    ----------
    gap
        Difference of shares to be found, 0.1 = ten points.
    per_clip
        Paired answers a clip.
    discordant
        Share of pairs whose two answers are not both right or both wrong, from a pilot run. By default that of two
        answerers near 50 % that know nothing of each other, ``(1 + gap^2) / 2``: the careful choice.
    icc
        Correlation between differences of one clip.

    Raises
    ------
    ValueError
        On a gap of 0, shares outside [0, 1], or a gap that a million clips would not show.
    """
    share = _checked(gap, per_clip, discordant, icc, power)
    low, high = FEWEST, FEWEST
    while _power_at(high, gap, per_clip, share, icc, level) < power:
        low, high = high + 1, high * 2
        if high > MOST:
            raise ValueError(f"clips_needed: a gap of {gap:g} needs more than {MOST:,} clips")
    while low < high:
        middle = (low + high) // 2
        if _power_at(middle, gap, per_clip, share, icc, level) < power:
            low = middle + 1
        else:
            high = middle
    return high


def detectable_gap(
    clips: int,
    *,
    per_clip: int = 1,
    discordant: float | None = None,
    icc: float = 0.2,
    power: float = 0.8,
    level: float = 0.95,
) -> float | None:
    """Smallest gap that ``clips`` clips show with probability ``power``, to 0.001; None where not even 1 is.

    Parameters as in :func:`clips_needed`. None below 10 clips too.
    """
    low = 1
    high = 1000 if discordant is None else int(1000 * discordant)
    if clips < FEWEST:
        return None

    def enough(gap: float) -> bool:
        share = _checked(gap, per_clip, discordant, icc, power)
        return _power_at(clips, gap, per_clip, share, icc, level) >= power

    if high < 1 or not enough(high / 1000):
        return None
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if enough(middle / 1000) else (middle + 1, high)
    return high / 1000


def paired_counts(
    rng: np.random.Generator, sims: int, clips: int, per_clip: int, gap: float, discordant: float, icc: float
) -> tuple[Floats, Floats]:
    """Simulated numbers of pairs that only a, and that only b has right, both [sims, clips].

    Each clip draws its own probabilities of (only a, only b, same) from a Dirichlet distribution around
    ``((psi + gap) / 2, (psi - gap) / 2, 1 - psi)``, which gives its differences exactly the correlation ``icc``
    (Mosimann 1962), then ``per_clip`` pairs.
    """
    centre = np.array([(discordant + gap) / 2, (discordant - gap) / 2, 1 - discordant])
    if icc >= 1:
        kinds = rng.choice(3, (sims, clips), p=centre)
        return (kinds == 0) * float(per_clip), (kinds == 1) * float(per_clip)
    shares = np.broadcast_to(centre, (sims, clips, 3))
    if icc > 0:
        drawn = rng.standard_gamma(centre * (1 - icc) / icc, (sims, clips, 3))
        total = drawn.sum(-1, keepdims=True)
        # With tiny parameters all three can underflow to 0: such a clip is wholly of one kind.
        lost = total[..., 0] <= 0
        if lost.any():
            drawn[lost] = np.eye(3)[rng.choice(3, int(lost.sum()), p=centre)]
            total = drawn.sum(-1, keepdims=True)
        shares = drawn / total
    counts = rng.multinomial(per_clip, shares).astype(np.float64)
    return counts[..., 0], counts[..., 1]


def simulated_power(
    clips: int,
    gap: float,
    *,
    per_clip: int = 1,
    discordant: float | None = None,
    icc: float = 0.2,
    level: float = 0.95,
    sims: int = 2000,
    seed: int = 0,
) -> Estimate:
    """Share of simulated experiments in which the test of :func:`.paired.difference` finds the gap.

    Parameters as in :func:`clips_needed`; ``n`` of the estimate is the number of experiments.
    """
    share = _checked(gap, per_clip, discordant, icc, 0.5)
    if clips < FEWEST:
        raise ValueError(f"simulated_power: got {clips} clips, wants at least {FEWEST}: below, no p value is given")
    only_a, only_b = paired_counts(np.random.default_rng(seed), sims, clips, per_clip, gap, share, icc)
    value, variance = ratio_variance(only_a - only_b, np.full_like(only_a, per_clip))
    return wilson(int((two_sided_p(value, variance, clips) < 1 - level).sum()), sims)


def table(
    gap: float | Sequence[float],
    *,
    base: float | None = None,
    per_clip: Sequence[int] = (1, 2, 4, 8),
    discordant: float | None = None,
    icc: float = 0.2,
    power: float = 0.8,
    level: float = 0.95,
    sims: int = 2000,
    seed: int = 0,
) -> Table:
    """Clips needed for each gap and number of answers a clip, with the power that a simulation finds there.

    Parameters as in :func:`clips_needed`, several gaps and answers a clip at once, and ``base``, the share in the
    untouched condition, from which the pairs that differ are reckoned (:func:`discordance`) unless ``discordant``
    gives them. ``sims`` 0 leaves the check out.
    """
    gaps = [gap] if isinstance(gap, int | float) else list(gap)
    rows = []
    for wanted in gaps:
        assumed = discordance(wanted, base) if discordant is None and base is not None else discordant
        for m in per_clip:
            clips = clips_needed(wanted, per_clip=m, discordant=assumed, icc=icc, power=power, level=level)
            share = _checked(wanted, m, assumed, icc, power)
            deviation = ((share - wanted**2) * (1 + (m - 1) * icc) / (m * clips)) ** 0.5
            check = None
            # A simulation draws sims x clips x 3 numbers: fewer experiments where a tiny gap needs very many clips.
            runs = min(sims, 20_000_000 // clips)
            if runs >= 100:
                check = simulated_power(
                    clips, wanted, per_clip=m, discordant=assumed, icc=icc, level=level, sims=runs, seed=seed
                )
            half = float(quantile(level, clips - 1)) * deviation
            rows.append(Row(f"gap {wanted:.3g}, {m} a clip", (clips, clips * m, half, check)))
    if discordant is not None:
        given = f"{discordant:.3g}"
    else:
        near = "near 0.5" if base is None else f"from a share of {base:.3g} in the untouched condition"
        given = f"as of independent answers, {near}"
    return Table(
        id="power",
        title="How many clips a gap needs",
        caption=(
            f"Paired, clip-clustered t test, power {power:.3g} at level {level:.3g}. Pairs that differ: {given}; "
            f"correlation within a clip {icc:.3g}. Never fewer than {FEWEST} clips. Answers are those in each "
            "condition; found is the share of simulated experiments in which the test found the gap."
        ),
        columns=("clips", "answers", "interval +-", "found"),
        rows=tuple(rows),
        unit="mixed",
    )
