"""Bets on gains: the wealth of numpy's bettor, who looks at one example after another, and bounds that cover."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st
from toys import right

import ev3x
from ev3x.stats import betting

quick = settings(deadline=None, max_examples=25)
METRICS = (
    ev3x.Metric("binary", right, binary=True),
    ev3x.Metric("fewer errors", right, binary=True, maximize=False),
    ev3x.Metric("bounded", right, low=-1.0, high=3.0),
    ev3x.Metric("cost", right, low=0.0, high=0.5, maximize=False),
    ev3x.Metric("free", right),
)
WIDTH, SIGN = np.array([1.0, 1.0, 4.0, 0.5, 1.0]), np.array([1.0, -1.0, 1.0, -1.0, 1.0])
B, K, M, N = 4, 2, len(METRICS), 33
RANGES = {order: betting.MetricRanges.of(METRICS, exact=order == 4, order=order) for order in (2, 4)}


def observed(scores, reference, weights=None, ranges=RANGES[4]):
    """The power sums of scores [B, K, M, n] and a reference [B, M, n], block by block."""
    sums = betting.begin(*scores.shape[:3])
    for i in range(len(scores)):
        w = None if weights is None else weights[i]
        sums = betting.observe(sums, ev3x.Block(scores[i], reference[i], w, None, jnp.int32(i)), ranges)
    return sums


@functools.partial(jax.jit, static_argnames="order")
def wealth(scores, reference, weights, theta, side, distances, order=4):
    """The log-wealth f32[K, M] after all blocks, and what each adds, f32[J, B, K, M]."""
    sums = observed(scores, reference, weights, RANGES[order])
    at, way = jnp.full((1, M), theta), jnp.full((1, M), side)
    each = jnp.broadcast_to(distances[:, None], (len(distances), M))
    bets = RANGES[order], at, way, each
    return betting.log_wealth(sums, *bets), betting.growth(sums, *bets)


def drawn(seed, gain=0.0, n=N, copied=0.5):
    """Scores f32[B, K, M, n] and a reference, in the ranges of the metrics, 0 and 1 for binary ones."""
    rng = np.random.default_rng(seed)
    reference = rng.beta(1.5, 1.0, (B, M, n))
    scores = np.clip(reference[:, None] + SIGN[:, None] * rng.normal(gain, 0.2, (B, K, M, n)), 0, 1)
    scores = np.where(rng.random(scores.shape) < copied, reference[:, None], scores)
    for x in (scores, reference):
        x[..., :2, :] = x[..., :2, :] > 0.4
        x[..., 2, :] = 4 * x[..., 2, :] - 1
        x[..., 3, :] = x[..., 3, :] / 2
    return np.float32(scores), np.float32(reference)


def gambled(gains, weights, theta, side, distances, most):
    """The log of the mean wealth of bettors who see one example after another: gains [B, n], in float64."""
    total = np.zeros(len(distances))
    weight, square = betting.PRIOR_EXAMPLES, betting.PRIOR * betting.PRIOR_EXAMPLES
    for block, w in zip(gains, weights, strict=True):
        bets = np.minimum(np.asarray(distances, float) / (square / weight), most / (1 + abs(theta)))
        for y, share in zip(block, w, strict=True):
            total += share * np.log1p(side * bets * (y - theta))
        weight, square = weight + w.sum(), square + (w * block**2).sum()
    return scipy.special.logsumexp(total) - np.log(len(distances))


def weighted(seed, kind):
    """Weights f32[B, M, N]: masks that leave so many examples, fractions, or nothing but zeros."""
    rng = np.random.default_rng(seed)
    if kind == "fractions":
        return np.float32(rng.random((B, M, N)))
    left = rng.choice([0, 1, 2, 17, N], B) if kind == "masks" else np.zeros(B)
    return np.float32(np.broadcast_to(np.arange(N) < left[:, None, None], (B, M, N)))


@quick
@given(
    seed=st.integers(0, 10**6),
    kind=st.sampled_from(["masks", "fractions", "nothing"]),
    theta=st.sampled_from([0.0, 0.01, -0.02, 0.3, -0.6]),
    side=st.sampled_from([1.0, -1.0]),
    scale=st.sampled_from([0.001, 0.02, 0.3]),
    order=st.sampled_from([2, 4]),
)
def test_wealth_is_that_of_a_bettor_who_sees_one_example_after_another(seed, kind, theta, side, scale, order):
    scores, reference = drawn(seed, gain=0.1)
    weights, distances = weighted(seed, kind), np.float32([0.75 * scale, 1.5 * scale])
    got = np.asarray(wealth(scores, reference, weights, theta, side, distances, order=order)[0])
    gains = SIGN[:, None] * (np.float64(scores) - reference[:, None]) / WIDTH[:, None]
    assert (got[:, -1] == -np.inf).all()  # without a range nobody bets
    for k, m in np.ndindex(K, M - 1):
        exact = METRICS[m].binary and order == 4
        most = betting.MOST_EXACT if exact else betting.MOST
        expected = gambled(gains[:, k, m], np.float64(weights[:, m]), theta, side, distances, most)
        if exact:
            assert got[k, m] == pytest.approx(expected, rel=2e-5, abs=2e-4)
        else:
            assert got[k, m] <= expected + 2e-4, "a bound from below"
            bet = min(1.5 * scale / betting.PRIOR, 0.5 / (1 + abs(theta))) * (1 + abs(theta))
            if bet < 0.02:  # what the series leaves out, even where every gain is as large as can be
                assert got[k, m] >= expected - B * N * bet ** (order + 1) - 2e-4


def test_small_bets_on_bounded_gains_lose_little():
    """At the gains that bets are made for, four powers cost less than a hundredth; two cost a fifth."""
    scores, reference = drawn(0, gain=0.05, n=2001)
    ones, distances = np.ones((B, M, 2001), np.float32), np.float32([0.01])
    gains = (np.float64(scores[:, 0, 2]) - reference[:, 2]) / 4
    expected = gambled(gains, ones[:, 2], 0.0, 1.0, distances, betting.MOST)
    four, two = (float(wealth(scores, reference, ones, 0.0, 1.0, distances, order=o)[0][0, 2]) for o in (4, 2))
    assert expected > 5 and expected * 0.99 < four <= expected + 1e-3
    assert expected * 0.7 < two < four


def test_no_weights_are_weights_of_one():
    scores, reference = drawn(1)
    sums = [observed(scores, reference, w) for w in (None, np.ones((B, M, N), np.float32))]
    for x, y in zip(*map(jax.tree.leaves, sums), strict=True):
        np.testing.assert_allclose(x, y, rtol=1e-6)


def test_a_minimised_metric_is_a_maximised_one_the_other_way_round():
    scores, reference = drawn(2, gain=0.1)
    scores[:, :, 1], reference[:, 1] = 1 - scores[:, :, 0], 1 - reference[:, 0]
    got = np.asarray(wealth(scores, reference, weighted(0, "fractions")[:, :1].repeat(M, 1), 0.0, 1.0, jnp.ones(2))[0])
    np.testing.assert_allclose(got[:, 0], got[:, 1], rtol=1e-5)


@pytest.mark.parametrize(
    ("metric", "value"), [(0, 1.1), (0, 0.5), (2, 3.01), (2, -1.01), (3, np.nan), (3, np.inf), (2, -np.inf)]
)
@pytest.mark.parametrize("where", ["contender", "reference"])
def test_scores_out_of_their_range_lose_everything(metric, value, where):
    scores, reference = drawn(3, gain=0.2)
    sound = np.asarray(wealth(scores, reference, np.ones((B, M, N)), 0.0, 1.0, jnp.ones(2))[0])
    (scores[:, 0] if where == "contender" else reference)[1, metric, 5] = value
    got = np.asarray(wealth(scores, reference, np.ones((B, M, N)), 0.0, 1.0, jnp.ones(2))[0])
    lost = np.zeros((K, M), bool)
    lost[slice(1) if where == "contender" else slice(None), metric] = True
    np.testing.assert_array_equal(np.isneginf(got[:, :-1]), lost[:, :-1])
    np.testing.assert_array_equal(got[~lost], sound[~lost])


@pytest.mark.parametrize("weight", [1.01, -0.1, np.nan])
def test_weights_out_of_their_range_lose_everything(weight):
    scores, reference = drawn(4)
    weights = np.ones((B, M, N), np.float32)
    weights[2, 0, 7] = weight
    got = np.asarray(wealth(scores, reference, weights, 0.0, 1.0, jnp.ones(2))[0])
    assert np.isneginf(got[:, 0]).all() and np.isfinite(got[:, 1:-1]).all()


def test_what_does_not_count_may_be_anything():
    scores, reference = drawn(5)
    weights = weighted(1, "masks")
    expected = wealth(scores, reference, weights, 0.0, 1.0, jnp.ones(2))[0]
    for x, value in ((scores, np.nan), (reference, np.inf)):
        hidden = np.broadcast_to((weights == 0)[:, None] if x is scores else weights == 0, x.shape)
        x[hidden] = value
    np.testing.assert_array_equal(wealth(scores, reference, weights, 0.0, 1.0, jnp.ones(2))[0], expected)


def test_bets_on_a_block_depend_on_earlier_ones_alone():
    (scores, reference), (others, _) = drawn(6), drawn(7, gain=0.3)
    ones, bets = np.ones((B, M, N), np.float32), (0.0, 1.0, jnp.array([0.01, 0.04]))
    before = np.asarray(wealth(scores, reference, ones, *bets)[1])
    scores[2:] = others[2:]
    after = np.asarray(wealth(scores, reference, ones, *bets)[1])
    np.testing.assert_array_equal(before[:, :2], after[:, :2])
    assert (before[:, 2:, :, :-1] != after[:, 2:, :, :-1]).all()


def test_evidence_is_added_slot_by_slot_in_any_order():
    scores, reference = drawn(8)
    one = observed(scores, reference)
    parts = []
    for order in ((3, 1), (2, 0)):
        part = betting.begin(B, K, M)
        for i in order:
            part = betting.observe(part, ev3x.Block(scores[i], reference[i], None, None, jnp.int32(i)), RANGES[4])
        parts.append(part)
    for x, y in zip(jax.tree.leaves(one), jax.tree.leaves(jax.tree.map(jnp.add, *parts)), strict=True):
        np.testing.assert_array_equal(x, y)


# Bounds: RUNS contenders at once, on their own examples, looked at after each of LOOKS blocks.
RUNS, LOOKS, BLOCK, LEVEL = 400, 16, 64, 0.1
BETS = jnp.array([0.02, 0.05, 0.12])[:, None]


@functools.cache
def looks(binary, gain):
    """Bounds of gain and score at every look, f32[LOOKS, 2, RUNS] each; the true mean score; and sums and ranges."""
    rng = np.random.default_rng(int(100 * gain) + binary)
    metric = ev3x.Metric("m", right, binary=binary, low=0.0, high=1.0)
    ranges = betting.MetricRanges.of((metric,))
    size = LOOKS, RUNS, 1, BLOCK
    if binary:
        reference, fresh = rng.random(size) < 0.6, rng.random(size) < 0.6 + gain / 0.4
        scores, mean = np.where(rng.random(size) < 0.6, reference, fresh), 0.6 + gain
    else:
        reference = rng.beta(2, 6, size)
        scores, mean = reference + rng.beta(1, 3, size) * (1 - reference) * gain / 0.1875, 0.25 + gain
    # Each contender has a reference of its own: gains are what counts, so let them meet one, and shift the scores.
    powers = [np.float64(scores) - reference, np.float64(scores)]
    sums = betting.PowerSums(
        gains=jnp.float32(np.stack([(powers[0] ** p).sum(-1) for p in range(1, 5)], -1)),
        scores=jnp.float32(np.stack([(powers[1] ** p).sum(-1) for p in (1, 2)], -1)),
        reference=jnp.zeros((LOOKS, 1, 2)),
        weight=jnp.full((LOOKS, 1), float(BLOCK)),
        faults=jnp.zeros((LOOKS, RUNS, 1)),
    )

    @jax.jit
    @jax.vmap
    def look(last):
        so_far = jax.tree.map(
            lambda x: jnp.where((jnp.arange(LOOKS) <= last).reshape(-1, *(1,) * (x.ndim - 1)), x, 0.0), sums
        )
        found = betting.gain_bounds(so_far, ranges, BETS, LEVEL), betting.score_bounds(so_far, LEVEL)
        return jax.tree.map(lambda x: x[:, 0], found)

    (low, high), (below, above) = look(jnp.arange(LOOKS))
    return np.stack([low, high], 1), np.stack([below, above], 1), mean, sums, ranges


WORLDS = pytest.mark.parametrize(("binary", "gain"), [(True, 0.0), (True, 0.1), (False, 0.05)])


@WORLDS
@pytest.mark.parametrize("what", ["gain", "score"])
def test_each_bound_holds_at_all_looks_with_the_stated_chance(binary, gain, what):
    gains, scores, mean, _, _ = looks(binary, gain)
    (low, high), truth = np.moveaxis(gains if what == "gain" else scores, 1, 0), gain if what == "gain" else mean
    for name, missed in (("lower", (low > truth).any(0)), ("upper", (high < truth).any(0))):
        found = scipy.stats.binomtest(int(missed.sum()), RUNS).proportion_ci(0.95, "exact")
        assert found.low <= LEVEL, f"{name}: missed {missed.mean():.3f} [{found.low:.3f}, {found.high:.3f}]"


@WORLDS
def test_bounds_lie_in_the_range_and_close_in(binary, gain):
    gains, scores, mean, _, _ = looks(binary, gain)
    for bounds, least in ((gains, -1), (scores, 0)):
        assert (bounds >= least).all() and (bounds <= 1).all() and (bounds[:, 0] <= bounds[:, 1]).all()
        width = (bounds[:, 1] - bounds[:, 0]).mean(-1)
        assert (np.diff(width) < 0).all() and width[-1] < 0.25, width
    assert np.abs(gains[-1].mean() - gain) < 0.03 and np.abs(scores[-1].mean() - mean) < 0.03


@WORLDS
def test_bounds_of_the_gain_are_where_wealth_reaches_what_is_needed(binary, gain):
    gains, _, _, sums, ranges = looks(binary, gain)
    sides = jnp.array([1.0, -1.0])[:, None, None] * jnp.ones((2, RUNS, 1))
    refuted = [
        betting.log_wealth(sums, ranges, jnp.asarray(gains[-1][..., None]) - off * sides, sides, BETS) >= -np.log(LEVEL)
        for off in (1e-4, -1e-4)
    ]
    inside = np.abs(gains[-1]) < 0.999
    assert inside.mean() > 0.9
    assert np.asarray(refuted[0])[..., 0][inside].all() and not np.asarray(refuted[1])[..., 0][inside].any()


def test_nothing_read_leaves_the_whole_range():
    sums = betting.begin(3, K, M)
    for got, least in (
        (betting.gain_bounds(sums, RANGES[4], jnp.ones((1, M)), 0.05), -1),
        (betting.score_bounds(sums, 0.05), 0),
    ):
        assert (got[0] == least).all() and (got[1] == 1).all()
    got = betting.log_wealth(sums, RANGES[4], jnp.zeros((1, M)), jnp.ones((1, M)), jnp.ones((1, M)))
    assert (got[:, :-1] == 0).all()


def test_ranges_need_both_ends():
    assert [betting.bounded(m) for m in METRICS] == [True, True, True, True, False]
    assert not betting.bounded(ev3x.Metric("m", right, low=0.0))
