"""Effect sizes against scipy, statsmodels and plain formulas; do their intervals cover; many tests at once."""

from __future__ import annotations

import itertools
import time

import numpy as np
import pytest
from scipy import stats as scipy_stats
from statsmodels.regression.linear_model import OLS
from statsmodels.stats.meta_analysis import effectsize_smd
from statsmodels.stats.multitest import multipletests

from earwitness.stats import effects, many

Array = np.ndarray


def two(clips: int, cells: tuple[int, ...] = (), d: float = 0.5, seed: int = 0) -> tuple[Array, Array, list[str]]:
    rng = np.random.default_rng(seed)
    own = rng.normal(size=(clips, *cells))
    first, second = (own + rng.normal(size=own.shape) for _ in range(2))
    return first + d, second, [f"clip{n}" for n in range(clips)]


def test_d_and_g_are_those_of_scipy_and_statsmodels() -> None:
    a, b, clips = two(30, (5,))
    found = effects.effect(effects.pair_sums(a, b, clips))
    assert found is not None
    t = scipy_stats.ttest_ind(a, b, axis=0).statistic
    np.testing.assert_allclose(found.d.value, t * np.sqrt(2 / 30), rtol=1e-10)
    np.testing.assert_allclose(effects.cohens_d(a, b), t * np.sqrt(2 / 30), rtol=1e-10)
    for n in range(5):
        g, _ = effectsize_smd(a[:, n].mean(), a[:, n].std(ddof=1), 30, b[:, n].mean(), b[:, n].std(ddof=1), 30)
        assert found.g.value[n] == pytest.approx(g, rel=1e-10)
    assert effects.cohens_d(a[:7, 0], b[:, 0]) == pytest.approx(
        float(scipy_stats.ttest_ind(a[:7, 0], b[:, 0]).statistic) * np.sqrt(1 / 7 + 1 / 30)
    )


def test_paired_shift_is_the_paired_t_test() -> None:
    a, b, clips = two(25, (3, 2))
    found = effects.effect(effects.pair_sums(a, b, clips))
    assert found is not None
    t = scipy_stats.ttest_rel(a, b, axis=0)
    np.testing.assert_allclose(found.dz.value, t.statistic / np.sqrt(25), rtol=1e-10)
    np.testing.assert_allclose(found.shift.value, (a - b).mean(0), rtol=1e-10)
    np.testing.assert_allclose(found.shift.p, t.pvalue, rtol=1e-8)
    interval = t.confidence_interval(0.95)
    np.testing.assert_allclose(
        found.shift.low, interval.low, rtol=1e-8
    )  # of a mean the jackknife is the t interval
    np.testing.assert_allclose(found.shift.high, interval.high, rtol=1e-8)
    assert (found.n, found.clusters) == (25, 25)


def test_several_values_a_clip_count_as_values_and_leave_together() -> None:
    a, b, _ = two(24)
    clips = [f"clip{n // 3}" for n in range(24)]
    found = effects.effect(effects.pair_sums(a, b, clips))
    assert found is not None
    assert found.d.value == pytest.approx(effects.cohens_d(a, b))
    assert (found.n, found.clusters) == (24, 8)
    without = [effects.cohens_d(np.delete(a, s), np.delete(b, s)) for s in np.split(np.arange(24), 8)]
    spread = np.sqrt(7 / 8 * ((np.array(without) - np.mean(without)) ** 2).sum())
    assert found.d.high - found.d.value == pytest.approx(scipy_stats.t.ppf(0.975, 7) * spread)
    assert np.isnan(found.d.p), "no p below ten clips"


def test_the_bootstrap_is_that_of_scipy() -> None:
    a, b, clips = two(40)
    found = effects.effect(effects.pair_sums(a, b, clips), how="bootstrap", reps=8000)
    assert found is not None
    theirs = scipy_stats.bootstrap(
        (a, b), lambda x, y: float(effects.cohens_d(x, y)), paired=True, vectorized=False, n_resamples=3000,
        method="percentile", rng=np.random.default_rng(1),
    ).confidence_interval  # fmt: skip
    assert found.d.low == pytest.approx(theirs.low, abs=0.03)
    assert found.d.high == pytest.approx(theirs.high, abs=0.03)


def test_a_change_is_the_difference_and_both_sides_leave_together() -> None:
    a, b, clips = two(30, (4,))
    c, d, _ = two(30, (4,), 1.2, seed=1)
    before, after = effects.pair_sums(a, b, clips), effects.pair_sums(c, d, clips)
    both = [effects.effect(s) for s in (before, after)]
    for how in ("jackknife", "bootstrap"):
        found = effects.change(before, after, how=how)  # type: ignore[arg-type]
        assert found is not None
        assert both[0] is not None
        assert both[1] is not None
        np.testing.assert_allclose(found.d.value, both[1].d.value - both[0].d.value)
        np.testing.assert_allclose(found.shift.value, (c - d - a + b).mean(0))
        same = effects.change(before, before, how=how)  # type: ignore[arg-type]
        assert same is not None
        assert not same.d.low.any()
        assert not same.d.high.any()
        np.testing.assert_array_equal(same.d.p, 1)
    # A clip that one side lacks is left out of both, whatever the order.
    turned = effects.pair_sums(c[:0:-1], d[:0:-1], clips[:0:-1])
    found, wanted = effects.change(before, turned), effects.pair_sums(a[1:], b[1:], clips[1:])
    assert found is not None
    assert found.clusters == 29
    np.testing.assert_allclose(
        found.d.value, effects.cohens_d(c[1:], d[1:]) - effects.cohens_d(a[1:], b[1:]), rtol=1e-9
    )
    assert wanted.clusters == turned.clusters[::-1]


def test_token_mode_is_d_over_the_very_tokens() -> None:
    rng = np.random.default_rng(0)
    tokens = [[rng.exponential(size=rng.integers(3, 9)) + side * 0.1 for _ in range(12)] for side in (0, 1)]
    moments = np.array([[[len(t), t.sum(), (t**2).sum()] for t in side] for side in tokens])
    found = effects.token_effect(*np.moveaxis(moments, 2, 1))
    assert found is not None
    assert found.value == pytest.approx(effects.cohens_d(*(np.concatenate(side) for side in tokens)))
    assert found.low < found.value < found.high


def test_the_unit_decides_how_large_d_is() -> None:
    """One effect, two units: spec's d of 0.07 over tokens against 0.7 over clips."""
    rng = np.random.default_rng(0)
    base = rng.normal(size=(100, 1)) * 0.7
    token = rng.lognormal(0, 1.5, (2, 100, 64)) * np.exp(base + np.array([0.5, 0.0])[:, None, None])
    moments = np.stack([np.full((2, 100), 64.0), token.sum(-1), (token**2).sum(-1)], 1)
    by_token = effects.token_effect(moments[0], moments[1])
    by_clip = effects.effect(effects.pair_sums(*np.log(token.mean(-1)), [str(n) for n in range(100)]))
    assert by_token is not None
    assert by_clip is not None
    assert by_token.value < 0.3 < 0.5 < by_clip.d.value


def test_a_curve_is_cluster_robust_least_squares() -> None:
    rng = np.random.default_rng(0)
    sizes = rng.integers(1, 5, 15)
    clips = np.repeat(np.arange(15), sizes)
    y = rng.normal(size=15)[clips] + rng.normal(size=len(clips))
    found = effects.curve(y[:, None], [str(c) for c in clips])
    assert found is not None
    fit = OLS(y, np.ones(len(y))).fit(
        cov_type="cluster", cov_kwds={"groups": clips, "use_correction": False}, use_t=True
    )
    half = scipy_stats.t.ppf(0.975, 14) * fit.bse[0] * np.sqrt(15 / 14)
    assert found.value[0] == pytest.approx(y.mean())
    assert found.high[0] - found.value[0] == pytest.approx(half)
    whole = effects.curve(np.abs(y[:, None]) % 1, [str(c) for c in clips], share=True)
    near = effects.curve(np.where(y < 2, 0.0, 1.0)[:, None], [str(c) for c in clips], share=True)
    assert whole is not None
    assert near is not None
    assert 0 < whole.low[0] < whole.value[0] < whole.high[0] < 1
    assert 0 <= near.low[0] < near.high[0] < 0.5, "stays inside"


def test_benjamini_hochberg_is_that_of_statsmodels() -> None:
    p = np.random.default_rng(0).uniform(size=(6, 5)) ** 3
    wanted = multipletests(p.ravel(), method="fdr_bh")[1].reshape(6, 5)
    np.testing.assert_allclose(many.benjamini_hochberg(p), wanted)
    holes = np.append(p.ravel(), [np.nan, np.nan])
    np.testing.assert_allclose(many.benjamini_hochberg(holes)[:-2], wanted.ravel())
    assert np.isnan(many.benjamini_hochberg(holes)[-2:]).all()
    with pytest.raises(ValueError, match="outside"):
        many.benjamini_hochberg(np.array([0.1, 1.2]))


def test_max_t_is_the_exact_test_where_there_is_one_cell() -> None:
    x = np.random.default_rng(3).normal(0.4, 1, 11)
    exact = scipy_stats.permutation_test(
        (x,), lambda v, axis: np.abs(v.mean(axis)), permutation_type="samples", n_resamples=np.inf, vectorized=True,
        alternative="greater",
    ).pvalue  # fmt: skip
    assert many.max_t(x, reps=20_000) == pytest.approx(exact, abs=0.01)
    # Six clips all alike: two of the 64 flips give back what was seen, so no p can be smaller.
    assert many.max_t(np.array([1, 1.1, 0.9, 1, 1.2, 1.0]), reps=20_000) == pytest.approx(2 / 64, abs=0.005)


def test_max_t_keeps_any_false_find_at_its_level_and_finds_a_true_one() -> None:
    rng = np.random.default_rng(0)
    shared = rng.exponential(size=(200, 40, 1)) - rng.exponential(size=(200, 40, 1))
    cells = shared + rng.exponential(size=(200, 40, 60)) - rng.exponential(size=(200, 40, 60))
    false = np.mean([many.max_t(x, reps=200, seed=n).min() <= 0.05 for n, x in enumerate(cells)])
    assert false <= 0.09  # 5 % and three standard errors of 200 runs
    plain = np.mean([(scipy_stats.ttest_1samp(x, 0).pvalue <= 0.05).any() for x in cells])
    assert plain > 0.4, "what it is there for"
    cells[0, :, 7] += 3
    assert np.flatnonzero(many.max_t(cells[0]) <= 0.05).tolist() == [7]


def test_degenerate_input_gives_nan_or_none_not_nonsense() -> None:
    a, b, clips = two(12, (2,))
    a[:, 1], b[:, 1] = 0.25, 0.25  # a head that never moves
    found = effects.effect(effects.pair_sums(a, b, clips))
    assert found is not None
    assert np.isnan(found.d.value).tolist() == [False, True]
    assert found.shift.value[1] == 0
    assert found.shift.p[1] == 1
    assert effects.effect(effects.pair_sums(a[:2], b[:2], clips[:2])) is None
    assert effects.curve(a[:1], clips[:1]) is None
    assert many.max_t(a - b)[1] == 1


@pytest.mark.parametrize(
    ("call", "why"),
    [
        (lambda a, b, c: effects.pair_sums(a, b[1:], c), "wants pairs"),
        (lambda a, b, c: effects.pair_sums(a, b, c[1:]), "wants pairs"),
        (lambda a, b, c: effects.pair_sums(a * np.nan, b, c), "not finite"),
        (lambda a, b, c: effects.cohens_d(a[:1], b), "two or more"),
        (lambda a, b, c: effects.effect(effects.pair_sums(a, b, c), level=95), "share between 0 and 1"),
        (lambda a, b, c: effects.token_effect(a, b), r"wants \[3, clips"),
        (lambda a, b, c: effects.curve(a, c[1:]), "wants one each"),
        (lambda a, b, c: many.max_t(a[:2]), "3 or more"),
        (
            lambda a, b, c: effects.change(effects.pair_sums(a, b, c), effects.pair_sums(a[:, :1], b[:, :1], c)),
            "layers of different models",
        ),
        (
            lambda a, b, c: effects.change(effects.pair_sums(a, b, c), effects.pair_sums(b, a, [*"abcdefghijkl"])),
            "share no clip",
        ),
    ],
)  # fmt: skip
def test_bad_input_is_refused_with_a_reason(call: object, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        call(*two(12, (2,)))  # type: ignore[operator]


def coverage(clips: int, d: float, skewed: bool, how: str, sims: int) -> float:
    """Share of simulations whose interval for d holds the truth, in per cent; they are the cells of one call."""
    rng = np.random.default_rng([clips, int(10 * d), skewed])

    def draw() -> Array:
        return rng.exponential(size=(clips, sims)) - 1 if skewed else rng.normal(size=(clips, sims))

    own = draw() * np.sqrt(0.5)
    sums = effects.pair_sums(
        own + draw() * np.sqrt(0.5) + d, own + draw() * np.sqrt(0.5), [str(n) for n in range(clips)]
    )
    found = effects.effect(sums, how=how, reps=600)  # type: ignore[arg-type]
    assert found is not None
    return 100 * float(np.mean((found.d.low <= d) & (d <= found.d.high)))


def test_intervals_of_d_cover() -> None:
    for clips, d, skewed in itertools.product((20, 100), (0.0, 0.7), (False, True)):
        assert 92.5 <= coverage(clips, d, skewed, "jackknife", 1500) <= 97.5
    assert 92.5 <= coverage(100, 0.7, False, "bootstrap", 500) <= 97.5


@pytest.mark.slow
def test_intervals_of_d_cover_at_length() -> None:
    for clips, d, skewed in itertools.product((20, 60, 100), (0.0, 0.7, 1.5), (False, True)):
        assert 92.5 <= coverage(clips, d, skewed, "jackknife", 10_000) <= 97
        least = {20: 82, 60: 88, 100: 89}[clips]  # the bootstrap's known want at few clips
        assert least <= coverage(clips, d, skewed, "bootstrap", 3000) <= 97


def test_two_thousand_redrawn_samples_of_28_layers_take_less_than_a_second() -> None:
    sums = effects.pair_sums(*two(100, (28,)))
    start = time.process_time()
    effects.effect(sums, how="bootstrap", reps=2000)
    assert time.process_time() - start < 1
