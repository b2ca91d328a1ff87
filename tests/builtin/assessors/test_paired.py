"""The paired confirmation: its p-values are those of the textbook tests, and its verdicts follow from them."""

import numpy as np
import pytest
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st
from toys import ACCURACY, judge, right

import ev3x
from ev3x.builtin.assessors.mean_bounds import MeanBounds
from ev3x.builtin.assessors.paired import Paired
from ev3x.builtin.assessors.published import Published

B, N = 4, 512
quick = settings(deadline=None, max_examples=40)
RATE = {way: ev3x.Metric("rate", right, binary=True, maximize=way > 0) for way in (1.0, -1.0)}
PLAIN = {way: ev3x.Metric("plain", right, maximize=way > 0) for way in (1.0, -1.0)}
PAIR = (ev3x.Metric("a", right), ev3x.Metric("b", right))


def outcomes(seed, gain, copied, b=B, n=N):
    """0/1 scores of one contender and the reference, which agree on a part of the examples."""
    rng = np.random.default_rng(seed)
    reference = rng.random((b, 1, n)) < 0.7
    fresh = rng.random((b, 1, 1, n)) < 0.7 + gain / (1 - copied)
    return np.where(rng.random((b, 1, 1, n)) < copied, reference[:, None], fresh), reference


@quick
@given(
    seed=st.integers(0, 10**6),
    gain=st.sampled_from([-0.02, 0.0, 0.02]),
    copied=st.sampled_from([0.0, 0.8]),
    kept=st.integers(2, B * N),
    sign=st.sampled_from([1.0, -1.0]),
)
def test_binary_metrics_get_the_exact_p_value_of_wins_among_differences(seed, gain, copied, kept, sign):
    scores, reference = outcomes(seed, gain, copied)
    mask = (np.arange(B * N) < kept).reshape(B, 1, N).astype(np.float32)
    got = judge(Paired(), scores, reference, mask, metrics=(RATE[sign],))
    difference = sign * (scores[:, 0].astype(int) - reference.astype(int)) * mask
    wins, apart = int((difference > 0).sum()), int((difference != 0).sum())
    exact = scipy.stats.binomtest(wins, apart, alternative="greater").pvalue if apart else 1.0
    assert exact * (1 - 1e-5) <= float(got.p_value[0]) <= min(1.0, 1.035 * exact) + 1e-12
    assert int(got.examples) == kept


@pytest.mark.parametrize("gain", [-0.0004, 0.0, 0.0004])
def test_a_million_examples_are_counted_without_loss(gain):
    scores, reference = outcomes(3, gain, 0.8, b=4, n=250_000)
    got = judge(Paired(), scores, reference, metrics=(ACCURACY,))
    difference = scores[:, 0].astype(int) - reference.astype(int)
    exact = scipy.stats.binomtest(
        int((difference > 0).sum()), int((difference != 0).sum()), alternative="greater"
    ).pvalue
    assert float(got.p_value[0]) == pytest.approx(exact, rel=0.01)


@quick
@given(
    seed=st.integers(0, 10**6),
    where=st.sampled_from([(0.0, 1.0), (1e4, 1e-2)]),
    gain=st.sampled_from([-0.05, 0.0, 0.05]),
    sign=st.sampled_from([1.0, -1.0]),
)
def test_other_metrics_get_the_p_value_of_the_paired_t_test(seed, where, gain, sign):
    mean, sd = where
    rng = np.random.default_rng(seed)
    reference = rng.normal(mean, sd, (B, 1, N)).astype(np.float32)
    scores = (reference[:, None] + rng.normal(gain * sd, 0.5 * sd, (B, 1, 1, N))).astype(np.float32)
    got = judge(Paired(), scores, reference, metrics=(PLAIN[sign],))
    a, b = scores[:, 0].astype(np.float64).ravel(), reference.astype(np.float64).ravel()
    exact = scipy.stats.ttest_rel(sign * a, sign * b, alternative="greater").pvalue
    assert float(got.p_value[0]) == pytest.approx(exact, rel=0.01, abs=1e-9)


@pytest.mark.parametrize("margin", [0.0, 0.1])
@pytest.mark.parametrize("shift", [-0.5, -0.01, 0.0, 0.01, 0.5])
@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_the_verdict_follows_from_the_shift_and_the_margin(shift, margin, sign):
    noise = np.random.default_rng(0).normal(0, 1, (2, B, 1, N))
    reference, scores = noise[0], (noise[0] + shift + noise[1] - noise[1].mean())[:, None]
    metric = ev3x.Metric("m", right, margin=margin, maximize=sign > 0)
    got = judge(Paired(), scores, reference, metrics=(metric,))
    expected = ev3x.Outcome.EQUIVALENT if margin else ev3x.Outcome.UNDECIDED
    if abs(shift) == 0.5:
        expected = ev3x.Outcome.BETTER if shift * sign > 0 else ev3x.Outcome.WORSE
    assert int(got.outcome[0]) == expected


def test_identical_models_are_equivalent_within_any_margin_and_else_undecided():
    reference = np.random.default_rng(0).random((B, 1, N)) < 0.7
    for margin, expected in ((0.01, ev3x.Outcome.EQUIVALENT), (0.0, ev3x.Outcome.UNDECIDED)):
        metric = ev3x.Metric("accuracy", right, binary=True, margin=margin)
        got = judge(Paired(), reference[:, None], reference, metrics=(metric,))
        assert int(got.outcome[0]) == expected and float(got.p_value[0]) == 1.0


def test_several_claims_must_all_be_better_and_any_may_be_worse():
    rng = np.random.default_rng(0)
    reference = rng.normal(size=(B, 2, N))
    up = np.array([[1.0, 1.0], [1.0, 0.0], [1.0, -1.0]])
    noise = rng.normal(0, 0.5, (B, 3, 2, N))
    scores = reference[:, None] + up[None, :, :, None] + noise - noise.mean((0, 3), keepdims=True)
    got = judge(Paired(claims=("b", "a")), scores, reference, metrics=PAIR)
    assert np.asarray(got.outcome).tolist() == [ev3x.Outcome.BETTER, ev3x.Outcome.UNDECIDED, ev3x.Outcome.WORSE]
    np.testing.assert_array_equal(got.p_value, got.p_values.max(-1))
    alone = judge(Paired(), scores, reference, metrics=PAIR)
    assert np.asarray(alone.outcome).tolist() == [ev3x.Outcome.BETTER] * 3
    assert np.isnan(alone.p_values).tolist() == [[False, True]] * 3
    np.testing.assert_array_equal(alone.p_value, alone.p_values[:, 0])


@pytest.mark.parametrize("aims", [[0.0, 1.0], [2.0, -3.0]])
def test_weights_for_selection_change_nothing_here(aims):
    rng = np.random.default_rng(0)
    scores, reference = rng.normal(0.1, 1, (B, 1, 2, N)), rng.normal(size=(B, 2, N))
    got, other = (judge(Paired(), scores, reference, metrics=PAIR, aims=a) for a in ([1.0, 0.0], aims))
    np.testing.assert_array_equal(got.p_values, other.p_values)
    assert (got.outcome, got.value) == (other.outcome, other.value)


def test_the_offered_level_decides_on_better_and_the_stated_one_on_worse():
    rng = np.random.default_rng(1)
    reference = rng.normal(size=(B, 1, N))
    noise = rng.normal(size=reference.shape)
    noise = (noise - noise.mean()) / noise.std(ddof=1)
    at = scipy.stats.t.isf(0.01, B * N - 1) / np.sqrt(B * N)  # p = 0.01
    up, down = (reference + noise + at)[:, None], (reference + noise - at)[:, None]
    assert int(judge(Paired(), up, reference, alpha=0.011).outcome[0]) == ev3x.Outcome.BETTER
    assert int(judge(Paired(), up, reference, alpha=0.009).outcome[0]) == ev3x.Outcome.UNDECIDED
    assert int(judge(Paired(), down, reference, alpha=1e-6).outcome[0]) == ev3x.Outcome.WORSE


def test_a_contender_with_nan_scores_is_worse():
    reference = np.zeros((B, 1, N))
    got = judge(Paired(), np.full((B, 1, 1, N), np.nan), reference)
    assert int(got.outcome[0]) == ev3x.Outcome.WORSE and int(got.winner) == -1


def test_bounds_are_the_confidence_intervals_of_the_mean_and_of_the_difference():
    rng = np.random.default_rng(2)
    reference = rng.normal(size=(B, 1, N))
    scores = reference + rng.normal(0.1, 1, reference.shape)
    got = judge(Paired(level=0.05), scores[:, None], reference)
    own = scipy.stats.ttest_1samp(scores.ravel(), 0).confidence_interval(0.9)
    apart = scipy.stats.ttest_rel(scores.ravel(), reference.ravel()).confidence_interval(0.9)
    np.testing.assert_allclose([got.lower[0, 0], got.upper[0, 0]], own, rtol=1e-3)
    np.testing.assert_allclose([got.difference_lower[0, 0], got.difference_upper[0, 0]], apart, rtol=1e-3)


@pytest.mark.parametrize("rate", [0.0, 0.01, 0.7, 1.0])
@pytest.mark.parametrize("kept", [1, 37, B * N])
def test_own_bounds_of_metrics_of_0_and_1_are_wilsons(rate, kept):
    scores = np.random.default_rng(3).random((B, 1, 1, N)) < rate
    mask = (np.arange(B * N) < kept).reshape(B, 1, N).astype(np.float32)
    got = judge(Paired(level=0.05), scores, scores[:, 0], mask, metrics=(ACCURACY,))
    hits = int((scores[:, 0] * mask).sum())
    want = scipy.stats.binomtest(hits, kept).proportion_ci(0.9, "wilson")
    np.testing.assert_allclose([got.lower[0, 0], got.upper[0, 0]], want, rtol=1e-4, atol=1e-7)


def test_own_bounds_stay_in_the_range_where_wilsons_do_not_apply():
    scores = np.ones((B, 1, 1, N))
    scores[0, 0, 0, :3] = 0
    weights = np.full((B, 1, N), 0.5, np.float32)
    weighted = judge(Paired(), scores, scores[:, 0], weights, metrics=(ACCURACY,))
    error = scores.std(ddof=1) / np.sqrt(B * N)
    off = scipy.stats.t.isf(0.05, B * N - 1) * error
    assert float(weighted.lower[0, 0]) == pytest.approx(scores.mean() - off, abs=1e-5)
    ranged = judge(Paired(), scores, scores[:, 0], metrics=(ev3x.Metric("m", right, low=0.0, high=0.999),))
    assert float(ranged.upper[0, 0]) == pytest.approx(0.999)


def test_what_is_assumed_is_said_for_each_metric_that_is_tested():
    metrics = (
        ACCURACY,
        ev3x.Metric("loss", right),
        ev3x.Metric("rate", right, binary=True),
        ev3x.Metric("idle", right),
    )
    said = Paired(claims=("accuracy", "loss"), guards={"rate": 0.01}).assumes(metrics)
    assert [s.split(":")[0] for s in said if ":" in s] == ["the sample is fixed", "accuracy", "loss", "rate"]
    text = "; ".join(said)
    for words in (
        "accuracy: McNemar's exact",
        "loss: Student's t",
        "rate: Tango's score test: approximate",
        "independent",
    ):
        assert words in text
    assert "accuracy: Student's t" in "; ".join(Paired(test="t").assumes(metrics))
    size = ev3x.Metric("size", right, constant=True)
    assert "size: is the same on every example: compared, not tested" in Paired().assumes((size,))


def test_the_published_rule_says_that_it_promises_nothing():
    text = "; ".join(Published().assumes((ACCURACY,)))
    for words in ("no error level", "not paired", "normal"):
        assert words in text


def test_a_reference_with_nan_scores_neither_wins_nor_loses():
    """Else a model that failed once would be restored for ever."""
    rng = np.random.default_rng(0)
    scores, reference = rng.normal(size=(B, 2, 1, N)), np.full((B, 1, N), np.nan)
    scores[:, 1] += 1
    got = judge(Paired(), scores, reference)
    assert np.asarray(got.outcome).tolist() == [ev3x.Outcome.UNDECIDED] * 2
    assert int(judge(MeanBounds(), scores, reference).winner) == 1
