"""Statistics: edge cases, published figures, and scipy and statsmodels as oracles."""

from __future__ import annotations

import math

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats as scipy_stats
from statsmodels.regression.linear_model import OLS
from statsmodels.stats.inter_rater import cohens_kappa
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.proportion import proportion_confint

from earwitness import stats
from earwitness.records import Estimate


def clips(n: int, per_clip: int = 1) -> list[str]:
    return [f"clip{i // per_clip}" for i in range(n * per_clip)]


def have(estimate: Estimate | None) -> Estimate:
    assert estimate is not None
    return estimate


def clustered_answers(seed: int = 0, n: int = 40, per_clip: int = 5) -> tuple[np.ndarray, list[str]]:
    rng = np.random.default_rng(seed)
    answers = rng.random((n, per_clip)) < rng.beta(1.5, 1.0, (n, 1))
    return answers.ravel().astype(float), clips(n, per_clip)


# ---- one number


@pytest.mark.parametrize(("right", "low", "high"), [(6, 3.8, 16.8), (20, 18.5, 38.6)])
def test_the_published_6_and_20_of_73_have_their_wilson_intervals(right: int, low: float, high: float) -> None:
    estimate = have(stats.proportion([i < right for i in range(73)], clips(73)))
    assert (round(100 * estimate.low, 1), round(100 * estimate.high, 1)) == (low, high)
    assert estimate.method == "Wilson"
    assert (estimate.n, estimate.clusters) == (73, 73)


@given(
    st.integers(1, 200).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))), st.sampled_from([0.9, 0.95])
)
@settings(max_examples=60, deadline=None)
def test_wilson_is_statsmodels(part: tuple[int, int], level: float) -> None:
    ours = stats.wilson(*part, level=level)
    low, high = proportion_confint(*part, alpha=1 - level, method="wilson")
    assert (ours.low, ours.high) == (pytest.approx(low, abs=1e-12), pytest.approx(high, abs=1e-12))


def test_the_clustered_variance_is_statsmodels_cluster_robust_variance() -> None:
    values, labels = clustered_answers()
    ours = have(stats.mean(list(values), labels))
    fit = OLS(values, np.ones_like(values)).fit(
        cov_type="cluster", cov_kwds={"groups": np.unique(labels, return_inverse=True)[1]}, use_t=True
    )
    # statsmodels adds (N - 1) / (N - K) to CR1, which is 1 for a constant.
    low, high = fit.conf_int()[0]
    assert (ours.value, ours.low, ours.high) == pytest.approx((values.mean(), low, high), abs=1e-12)


def test_a_clustered_share_is_wider_than_an_unclustered_one_and_stays_inside() -> None:
    values, labels = clustered_answers()
    clustered, naive = have(stats.proportion(list(values), labels)), stats.wilson(int(values.sum()), values.size)
    assert clustered.high - clustered.low > 1.2 * (naive.high - naive.low)
    assert 0 <= clustered.low < clustered.value < clustered.high <= 1
    assert (clustered.n, clustered.clusters) == (200, 40)


@pytest.mark.parametrize("all_right", [True, False])
def test_when_all_clips_agree_the_interval_is_that_of_the_number_of_clips(all_right: bool) -> None:
    estimate = have(stats.proportion([all_right] * 80, clips(20, 4)))
    expected = stats.wilson(20 * all_right, 20)
    assert (estimate.low, estimate.high) == (expected.low, expected.high)
    assert estimate.high - estimate.low > 0.1


def test_every_clip_half_right_is_not_certainty() -> None:
    estimate = have(stats.proportion([True, False] * 20, clips(20, 2)))
    assert estimate.low < 0.35
    assert estimate.high > 0.65


def test_unscored_answers_are_left_out_and_bounded() -> None:
    correct = [True, None, False, True, None, None, True, True, True, True]
    estimate = have(stats.proportion(correct, clips(10)))
    assert (estimate.n, estimate.value) == (7, pytest.approx(6 / 7))
    assert stats.bounds(correct) == (0.6, 0.9)
    assert stats.bounds([]) == (0.0, 1.0)
    assert stats.bounds([True, False]) == (0.5, 0.5)


def test_nothing_scored_is_no_estimate() -> None:
    assert stats.proportion([None, None], ["a", "b"]) is None
    assert stats.mean([], []) is None
    assert stats.difference([None], [True], ["a"]) is None
    assert stats.balanced_accuracy([True], ["yes"], ["a"]) is None


def test_one_clip_has_no_interval() -> None:
    estimate = have(stats.proportion([True, False, True, True], ["a"] * 4))
    assert (estimate.value, estimate.low, estimate.high) == (0.75, 0.0, 1.0)
    assert stats.mean([1.5, 2.5], ["a", "a"]) is None
    paired = have(stats.difference([True, False], [False, False], ["a", "a"]))
    assert (paired.low, paired.high, paired.p) == (-1.0, 1.0, None)


def test_a_mean_with_a_span_stays_inside_and_keeps_a_width() -> None:
    judge = have(stats.mean([5.0] * 12, clips(12), span=(0, 5)))
    assert judge.value == judge.high == 5
    assert judge.low < 4.2
    marks = have(stats.mean([4.8, 5.0, 4.9, 3.0, 5.0, 5.0], clips(6), span=(0, 5)))
    assert 2.5 < marks.low < marks.value < marks.high <= 5


def test_the_order_of_answers_does_not_matter() -> None:
    values, labels = clustered_answers()
    order = np.random.default_rng(1).permutation(values.size)
    one = have(stats.proportion(list(values), labels))
    two = have(stats.proportion(list(values[order]), [labels[i] for i in order]))
    assert (one.value, one.low, one.high) == pytest.approx((two.value, two.low, two.high), abs=1e-12)


@given(st.lists(st.tuples(st.sampled_from([True, False, None]), st.integers(0, 6)), min_size=1, max_size=60))
@settings(max_examples=100, deadline=None)
def test_any_answers_give_ordered_limits_that_survive_json(answers: list[tuple[bool | None, int]]) -> None:
    correct, labels = [c for c, _ in answers], [str(k) for _, k in answers]
    for estimate in (
        stats.proportion(correct, labels),
        stats.difference(correct, [True] * len(correct), labels),
        stats.detection(correct, [k % 2 == 0 for _, k in answers], labels).dprime,
        stats.balanced_accuracy(correct, ["a" if k < 3 else "b" for _, k in answers], labels),
    ):
        if estimate is not None:
            assert estimate.low <= estimate.value <= estimate.high
            assert msgspec.json.decode(msgspec.json.encode(estimate), type=Estimate) == estimate


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda: stats.proportion([True], []), "one label per value"),
        (lambda: stats.proportion([87.5], ["a"]), "per cent"),
        (lambda: stats.proportion([math.nan], ["a"]), "None, not nan"),
        (lambda: stats.proportion([True] * 4, clips(2, 2), level=95), "per cent"),
        (lambda: stats.wilson(5, 3), "swapped"),
        (lambda: stats.mean([1.0], ["a"], span=(1, 0)), "lowest, highest"),
        (lambda: stats.difference([1], [1, 0], ["a"]), "pairs"),
        (lambda: stats.diff_in_diff([1], [1], [1], [], ["a"]), "four of the same items"),
        (lambda: stats.equivalence([1, 0], [1, 0], ["a", "b"], 10), "points of per cent"),
        (lambda: stats.holm([0.5, 1.5]), "wants p values"),
        (lambda: stats.merge_clusters(["a"], []), "one each"),
        (lambda: stats.dprime(3, 5, 0, 0), "missing"),
        (lambda: stats.dprime(6, 5, 0, 5), "wants 0 <= hits"),
        (lambda: stats.kappa(["a"], [], None), "same cases"),
        (lambda: stats.detection([True], [], ["a"]), "one each"),
        (lambda: stats.clips_needed(10), "points of 100"),
        (lambda: stats.clips_needed(0.3, discordant=0.1), "discordant"),
        (lambda: stats.clips_needed(0.0001), "more than"),
        (lambda: stats.discordance(0.5, 0.3), "larger than the base"),
        (lambda: stats.simulated_power(5, 0.3), "at least 10"),
    ],
)
def test_errors_name_the_slip(call, says: str) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(ValueError, match=says):
        call()


# ---- differences


def test_one_answer_a_clip_is_scipys_paired_t_test() -> None:
    rng = np.random.default_rng(3)
    a, b = rng.random(30), rng.random(30)
    ours = have(stats.difference(list(a), list(b), clips(30)))
    theirs = scipy_stats.ttest_rel(a, b)
    interval = theirs.confidence_interval()
    assert ours.p == pytest.approx(theirs.pvalue, abs=1e-12)
    assert (ours.low, ours.high) == pytest.approx((interval.low, interval.high), abs=1e-12)


def test_equal_clusters_are_the_t_test_on_clip_means() -> None:
    a, labels = clustered_answers(4)
    b, _ = clustered_answers(5)
    ours = have(stats.difference(list(a), list(b), labels))
    means = (a - b).reshape(40, 5).mean(1)
    theirs = scipy_stats.ttest_1samp(means, 0)
    assert ours.p == pytest.approx(theirs.pvalue, abs=1e-12)
    assert ours.value == pytest.approx(means.mean())
    assert ours.n == 200
    assert ours.clusters == 40


def test_interval_and_p_of_a_difference_agree() -> None:
    rng = np.random.default_rng(6)
    for _ in range(200):
        shape = int(rng.integers(10, 25)), int(rng.integers(1, 5))
        a = rng.random(shape) < rng.random()
        b = rng.random(shape) < rng.random()
        e = have(stats.difference(list(a.ravel()), list(b.ravel()), clips(*shape)))
        assert e.p is not None
        assert (e.p < 0.05) == (not e.low <= 0 <= e.high)
        mirrored = have(stats.difference(list(b.ravel()), list(a.ravel()), clips(*shape)))
        assert (mirrored.low, mirrored.high) == pytest.approx((-e.high, -e.low), abs=1e-12)


def test_two_answerers_that_agree_everywhere_are_not_proven_equal() -> None:
    e = have(stats.difference([True] * 40, [True] * 40, clips(40)))
    t2 = scipy_stats.t.ppf(0.975, 39) ** 2
    assert (e.value, e.high, e.p) == (0, pytest.approx(t2 / (40 + t2)), 1)
    assert e.low == -e.high
    few = have(stats.equivalence([True] * 12, [True] * 12, clips(12), 0.1))
    assert few.p is not None
    assert few.p > 0.1
    many = have(stats.equivalence([True] * 60, [True] * 60, clips(60), 0.1))
    assert many.p is not None
    assert many.p < 0.05


def test_all_pairs_different_the_same_way_is_a_sign_test() -> None:
    e = have(stats.difference([True] * 12, [False] * 12, clips(12)))
    assert e.p == pytest.approx(scipy_stats.binomtest(12, 12).pvalue)
    assert 0.6 < e.low < e.value == e.high == 1


def test_no_p_below_ten_clips() -> None:
    a, b = [True, True, False] * 9, [False, True, False] * 9
    assert have(stats.difference(a, b, clips(9, 3))).p is None
    assert have(stats.equivalence(a, b, clips(9, 3), 0.1)).p is None
    assert have(stats.difference([*a, True], [*b, True], [*clips(9, 3), "z"])).p is not None


def test_pairs_with_an_unscored_side_are_left_out() -> None:
    e = have(stats.difference([True, None, False, True], [False, True, None, False], clips(4)))
    assert (e.n, e.value) == (2, 1)


def test_difference_in_differences_is_the_difference_of_the_gaps() -> None:
    rng = np.random.default_rng(7)
    w, x, y, z = (list(rng.random(60) < p) for p in (0.3, 0.8, 0.7, 0.9))
    labels = clips(20, 3)
    e = have(stats.diff_in_diff(w, x, y, z, labels))
    before, after = have(stats.difference(w, x, labels)), have(stats.difference(y, z, labels))
    assert e.value == pytest.approx(after.value - before.value)
    combined = [float(c) - float(d) - float(a) + float(b) for a, b, c, d in zip(w, x, y, z, strict=True)]
    assert e.p == pytest.approx(have(stats.difference(combined, [0.0] * 60, labels)).p)


def test_tost_on_seconds_is_two_one_sided_t_tests() -> None:
    rng = np.random.default_rng(8)
    a, b = rng.normal(0, 1, 25), rng.normal(0.1, 1, 25)
    ours = have(stats.equivalence(list(a), list(b), clips(25), 0.8))
    upper = scipy_stats.ttest_1samp(a - b, 0.8, alternative="less").pvalue
    lower = scipy_stats.ttest_1samp(a - b, -0.8, alternative="greater").pvalue
    assert ours.p == pytest.approx(max(upper, lower), abs=1e-12)
    assert (ours.p < 0.05) == (ours.low > -0.8 and ours.high < 0.8)


def test_holm_is_statsmodels() -> None:
    rng = np.random.default_rng(11)
    for n in range(1, 15):
        ps = list(rng.random(n) ** 3)
        assert stats.holm(ps) == pytest.approx(list(multipletests(ps, method="holm")[1]), abs=1e-12)


def test_holm_leaves_untested_rows_out() -> None:
    assert stats.holm([0.01, None, 0.04, None]) == [0.02, None, 0.04, None]
    assert stats.holm([]) == []


def test_clips_that_a_swap_ties_are_one_cluster() -> None:
    source = ["a", "b", "c", "d", "e", "a"]
    linked: list[tuple[str, ...]] = [("b",), ("a",), ("d",), (), (), ()]
    assert stats.merge_clusters(source, linked) == ["a", "a", "c", "c", "e", "a"]
    chain = [f"s{i:02}" for i in range(30)]
    assert set(stats.merge_clusters(chain, [(chain[(i + 1) % 30],) for i in range(30)])) == {"s00"}
    pairs = stats.merge_clusters(chain, [(chain[i ^ 1],) for i in range(30)])
    assert len(set(pairs)) == 15
    assert stats.merge_clusters(list("cba"), [("x",), ("x",), ()]) == ["b", "b", "a"]


def test_a_donor_that_is_no_source_still_ties() -> None:
    assert stats.merge_clusters(["p", "q"], [("donor",), ("donor",)]) == ["donor", "donor"]


# ---- yes and no


def test_dprime_by_hand() -> None:
    # H = 20.5 / 26, F = 10.5 / 26 (Hautus 1995).
    z = scipy_stats.norm.ppf
    e = stats.dprime(20, 25, 10, 25)
    assert e.value == pytest.approx(z(20.5 / 26) - z(10.5 / 26))
    assert stats.bias(20, 25, 10, 25).value == pytest.approx(-(z(20.5 / 26) + z(10.5 / 26)) / 2)
    assert e.low < e.value < e.high


def test_difference_of_two_dprimes_is_paired_by_question() -> None:
    truth = [i % 2 == 0 for i in range(80)]
    rng = np.random.default_rng(2)
    first = [bool(t) if rng.random() < 0.8 else not t for t in truth]
    second = [bool(t) if rng.random() < 0.95 else not t for t in truth]
    e = have(stats.dprime_difference(first, second, truth, clips(20, 4)))
    a, b = (have(stats.detection(s, truth, clips(20, 4)).dprime) for s in (first, second))
    assert e.value == pytest.approx(b.value - a.value)
    back = have(stats.dprime_difference(second, first, truth, clips(20, 4)))
    assert (back.value, back.low, back.high) == pytest.approx((-e.value, -e.high, -e.low))
    same = have(stats.dprime_difference(first, first, truth, clips(20, 4)))
    assert same.value == same.low == same.high == 0.0  # what is hard for both cancels out
    partly = [None, *first[1:]]
    assert have(stats.dprime_difference(partly, second, truth, clips(20, 4))).n == 79
    assert stats.dprime_difference([True], [True], [True], ["a"]) is None
    with pytest.raises(ValueError, match="one truth and one cluster"):
        stats.dprime_difference([True], [True], [], ["a"])


def test_difference_of_two_dprimes_covers_the_truth() -> None:
    """40 clips of four questions; each clip has a bent of its own that both answerers share."""
    rng = np.random.default_rng(5)
    truth = [True, True, False, False] * 40
    labels = [str(i // 4) for i in range(160)]
    z, held = scipy_stats.norm, []
    want = (z.ppf(0.9) - z.ppf(0.2)) - (z.ppf(0.7) - z.ppf(0.4))
    for _ in range(300):
        bent = np.repeat(rng.standard_normal(40) * 0.6, 4)

        def says(hit: float, false: float, bent: np.ndarray = bent) -> list[bool]:
            scale = np.sqrt(1 + 0.6**2)  # so that the rates over all clips are those asked for
            level = np.where(truth, z.ppf(hit), z.ppf(false)) * scale
            return list(level + bent + rng.standard_normal(160) > 0)

        e = have(stats.dprime_difference(says(0.7, 0.4), says(0.9, 0.2), truth, labels))
        held.append(e.low <= want <= e.high)
    assert 0.91 <= np.mean(held) <= 0.99


def test_dprime_of_an_always_yes_answerer_is_zero_and_its_bias_is_to_yes() -> None:
    truth = [i % 2 == 0 for i in range(80)]
    d = stats.detection([True] * 80, truth, clips(20, 4))
    assert d.dprime is not None
    assert (d.dprime.value, have(d.yes_rate).value) == (0, 1)
    assert d.dprime.low < -0.5 < 0.5 < d.dprime.high
    assert have(d.bias).high < 0
    assert have(d.balanced_accuracy).value == 0.5
    assert have(d.balanced_accuracy).high - have(d.balanced_accuracy).low > 0.05


def test_a_perfect_listener_has_finite_dprime_and_no_bias() -> None:
    truth = [i % 2 == 0 for i in range(80)]
    d = stats.detection(list(truth), truth, clips(20, 4))
    assert 3 < have(d.dprime).value < 5
    assert have(d.bias).value == pytest.approx(0)
    assert have(d.dprime).low > 1
    assert have(d.balanced_accuracy).high == 1


def test_detection_of_independent_answers_is_near_the_plain_formula() -> None:
    rng = np.random.default_rng(9)
    truth = list(rng.random(2000) < 0.5)
    said = [bool(rng.random() < (0.8 if t else 0.3)) for t in truth]
    d = have(stats.detection(said, truth, clips(2000)).dprime)
    hits = sum(s and t for s, t in zip(said, truth, strict=True))
    false = sum(s and not t for s, t in zip(said, truth, strict=True))
    plain = stats.dprime(hits, sum(truth), false, 2000 - sum(truth))
    assert d.value == plain.value
    assert d.high - d.low == pytest.approx(plain.high - plain.low, rel=0.02)


def test_detection_without_one_kind_of_truth_gives_no_dprime() -> None:
    d = stats.detection([True, None, False], [False, True, False], ["a", "b", "c"])
    assert d.dprime is d.bias is d.balanced_accuracy is d.hit_rate is None
    assert have(d.false_alarm_rate).value == 0.5


def test_balanced_accuracy_of_a_fixed_answer_is_one_over_k() -> None:
    classes = ["sync", "late", "early", "late", "early", "late"] * 12
    e = have(stats.balanced_accuracy([c == "late" for c in classes], classes, clips(24, 3)))
    assert e.value == pytest.approx(1 / 3)
    assert 0.2 < e.low < e.high < 0.5


def test_kappa_is_statsmodels() -> None:
    rng = np.random.default_rng(10)
    first = rng.integers(0, 3, 400)
    second = np.where(rng.random(400) < 0.7, first, rng.integers(0, 3, 400))
    table = np.histogram2d(first, second, bins=3)[0]
    theirs = cohens_kappa(table)
    ours = have(stats.kappa([str(x) for x in first], [str(x) for x in second]))
    assert ours.value == pytest.approx(theirs.kappa)
    se = (ours.high - ours.low) / 2 / scipy_stats.t.ppf(0.975, 399)
    assert se == pytest.approx(theirs.std_kappa * math.sqrt(400 / 399), rel=1e-9)


def test_kappa_at_its_ends() -> None:
    agree = have(stats.kappa(["y", "n"] * 20, ["y", "n"] * 20))
    assert agree.value == agree.high == 1
    assert 0.7 < agree.low < 0.95
    assert stats.kappa(["y"] * 9, ["y"] * 9) is None
    assert stats.kappa(["y", None], ["y", "n"]) is None
    assert have(stats.kappa(["y", "n"] * 20, ["n", "y"] * 20)).value == pytest.approx(-1)
