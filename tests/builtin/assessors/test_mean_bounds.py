"""The ranking by lower bounds, and the published rule, against float64 numpy."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from toys import judge, right

import ev3x
from ev3x.builtin.assessors.mean_bounds import MeanBounds
from ev3x.builtin.assessors.published import Published

B, K, N = 2, 5, 128
quick = settings(deadline=None, max_examples=60)


def draw(seed, mean, sd, m=1, shift=0.15):
    rng = np.random.default_rng(seed)
    reference = rng.normal(mean, sd, (B, m, N)).astype(np.float32)
    centres = mean + sd * rng.normal(0, shift, (K, m, 1))
    return rng, (centres + sd * rng.normal(0, 1, (B, K, m, N))).astype(np.float32), reference


def moments(x):
    """Mean and standard error over blocks and examples, [..., K, M], in float64."""
    x = np.concatenate(list(np.asarray(x, np.float64)), axis=-1)
    return x.mean(-1), x.std(-1, ddof=1) / np.sqrt(x.shape[-1])


@quick
@given(
    seed=st.integers(0, 10**6),
    where=st.sampled_from([(0.0, 1.0), (1e4, 1e-2), (-1e4, 1e-2)]),
    z=st.sampled_from([0.0, 1.0, 1.96]),
    aims=st.sampled_from([(1.0, 0.0), (-1.0, 0.0), (0.5, 0.5), (1.0, -2.0)]),
    out=st.sets(st.integers(0, K - 1), max_size=K),
)
def test_the_winner_has_the_best_lower_bound_among_the_eligible(seed, where, z, aims, out):
    _, scores, reference = draw(seed, *where, m=2)
    eligible = np.array([i not in out for i in range(K)])
    got = judge(MeanBounds(block=N, z=z), scores, reference, aims=aims, eligible=eligible)
    mean, error = moments(scores)
    a = np.array(aims)
    bound = (a * (mean - moments(reference)[0]) - abs(a) * z * error).sum(-1)
    best = np.where(eligible, bound, -np.inf)
    if not eligible.any():
        assert int(got.winner) == -1 and np.isneginf(got.value).all()
        return
    # Bounds nearer than float32 can tell apart may go either way.
    assert best[int(got.winner)] >= best.max() - 2e-5 * where[1] * abs(a).sum()
    assert np.isneginf(np.asarray(got.value)[~eligible]).all()


def test_ties_go_to_the_first_of_the_eligible():
    reference = np.zeros((1, 1, N))
    scores = np.ones((1, K, 1, N))
    assert int(judge(MeanBounds(), scores, reference).winner) == 0
    assert int(judge(MeanBounds(), scores, reference, eligible=[False, False, True, True, False]).winner) == 2


def test_a_candidate_with_a_nan_score_cannot_win_and_the_record_says_so():
    _, scores, reference = draw(0, 0.0, 1.0)
    scores[0, 3] += 10
    scores[1, 3, 0, 7] = np.nan
    got = judge(MeanBounds(), scores, reference)
    assert int(got.winner) != 3 and np.isneginf(got.value[3]) and int(got.outcome[3]) == ev3x.Outcome.WORSE


def test_nobody_wins_when_all_scores_are_nan():
    got = judge(MeanBounds(), np.full((1, K, 1, N), np.nan), np.zeros((1, 1, N)))
    assert int(got.winner) == -1 and np.isneginf(got.value).all()


@pytest.mark.parametrize("z", [0.0, 1.5])
def test_bounds_lie_around_the_mean_and_within_the_range_of_the_metric(z):
    accuracy = ev3x.Metric("accuracy", right, binary=True)
    rng = np.random.default_rng(0)
    reference = rng.random((B, 1, N)) < 0.5
    scores = rng.random((B, K, 1, N)) < np.array([0.0, 1.0, 0.01, 0.99, 0.5])[:, None, None]
    got = judge(MeanBounds(z=z), scores, reference, metrics=(accuracy,))
    mean, error = moments(scores)
    np.testing.assert_allclose(got.mean, mean, rtol=1e-6)
    np.testing.assert_allclose(got.lower, (mean - z * error).clip(0, 1), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(got.upper, (mean + z * error).clip(0, 1), rtol=1e-5, atol=1e-6)
    assert int(got.examples) == B * N


@quick
@given(
    seed=st.integers(0, 10**6),
    where=st.sampled_from([(0.0, 1.0), (1e4, 1e-2)]),
    z=st.sampled_from([1.0, 1.96]),
    sign=st.sampled_from([1.0, -1.0]),
)
def test_the_published_rule_says_better_exactly_when_the_intervals_are_apart(seed, where, z, sign):
    _, scores, reference = draw(seed, *where)
    got = judge(Published(z=z), scores, reference, aims=[sign])
    (mean, error), (own, own_error) = moments(scores), moments(reference)
    gap = sign * (mean - own) - z * (error + own_error)
    other = -sign * (mean - own) - z * (error + own_error)
    expected = np.select([gap > 0, other > 0], [ev3x.Outcome.BETTER, ev3x.Outcome.WORSE], ev3x.Outcome.UNDECIDED)
    clear = np.minimum(abs(gap), abs(other)) > 1e-4 * where[1]
    assert (np.asarray(got.outcome)[clear[:, 0]] == expected[clear][:]).all()
    assert clear.sum() >= K - 1


def test_the_published_rule_with_two_aims_needs_both_to_be_better():
    reference = np.random.default_rng(0).normal(size=(B, 2, N))
    up = np.array([[1.0, 1.0], [1.0, 0.0], [1.0, -1.0]])
    got = judge(Published(), reference[:, None] + up[None, :, :, None], reference)
    assert np.asarray(got.outcome).tolist() == [ev3x.Outcome.BETTER, ev3x.Outcome.UNDECIDED, ev3x.Outcome.WORSE]
