"""Guards: proven not worse by their margin, at the stated rate, or nothing is promoted."""

import functools

import jax
import jax.numpy as jnp
import null
import numpy as np
import pytest
import scipy.optimize
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st
from toys import judge, right

import ev3x
from ev3x.builtin.assessors.paired import SCORE_TEST_ERROR, Paired, tango_p

B, N = 4, 512
LONG = pytest.mark.long
quick = settings(deadline=None, max_examples=40)
CLAIM = ev3x.Metric("claim", right)
GUARDED = {
    (binary, way): (CLAIM, ev3x.Metric("guarded", right, binary=binary, maximize=way > 0))
    for binary in (True, False)
    for way in (1.0, -1.0)
}
BETTER, WORSE, EQUIVALENT, UNDECIDED = (ev3x.Outcome[name] for name in ("BETTER", "WORSE", "EQUIVALENT", "UNDECIDED"))


def tango_z(b, c, n, margin):
    """Tango's statistic in float64, the likelihood under the null maximised by search and not by his formula."""

    def negative(q):
        """Of wins b with chance q - margin, losses c with chance q, and the rest."""
        chances = np.array([q - margin, q, 1 - 2 * q + margin])
        return -scipy.special.xlogy([b, c, n - b - c], chances).sum()

    low, high = margin, (1 + margin) / 2
    q = scipy.optimize.minimize_scalar(negative, bounds=(low, high), method="bounded", options={"xatol": 1e-12}).x
    return (b - c + n * margin) / np.sqrt(n * (2 * q - margin - margin**2))


@quick
@given(
    n=st.sampled_from([20, 500, 8192, 1_000_000]),
    apart=st.floats(0, 1),
    share=st.floats(0, 1),
    margin=st.sampled_from([0.002, 0.01, 0.1, 0.5]),
)
def test_the_score_test_is_that_of_the_restricted_likelihood(n, apart, share, margin):
    m = round(apart * n * min(1.0, 5 * margin))
    b = round(share * m)
    raised = tango_p(jnp.float32(b), jnp.float32(m - b), jnp.float32(n), jnp.float32(margin))
    above, below = (raised / (1 + SCORE_TEST_ERROR)).tolist()
    z = tango_z(b, m - b, n, margin)
    got = scipy.stats.norm.isf(above) if above < below else -scipy.stats.norm.isf(below)
    assert got == pytest.approx(z, rel=2e-3, abs=1e-3) or abs(z) > 12
    assert above + below == pytest.approx(1, abs=1e-5) or raised.max() == 1


@pytest.mark.parametrize(("n", "margin"), [(100, 0.01), (2048, 0.01), (8192, 0.002)])
def test_without_a_difference_the_score_test_has_a_closed_form(n, margin):
    got = tango_p(jnp.float32(0), jnp.float32(0), jnp.float32(n), jnp.float32(margin))[0]
    exact = scipy.stats.norm.sf(np.sqrt(n * margin / (1 - margin)))
    assert float(got) == pytest.approx((1 + SCORE_TEST_ERROR) * exact, rel=1e-4)


@pytest.mark.parametrize(
    ("n", "margin"),
    [
        (100, 0.1),
        (2048, 0.01),
        *(pytest.param(*x, marks=LONG) for x in ((300, 0.02), (512, 0.02), (2048, 0.005), (2048, 0.02))),
    ],
)
@pytest.mark.parametrize("wins", [1e-9, 0.05, *(pytest.param(x, marks=LONG) for x in (0.005, 0.2))])
def test_the_score_test_keeps_its_level_even_where_it_is_strict(wins, n, margin):
    """Exactly: the chance of every table of wins and losses, when the contender is worse by the margin."""
    losses = wins + margin
    b, c = (np.arange(max(0, int(x - 7 * x**0.5 - 8)), int(x + 7 * x**0.5 + 8)) for x in (n * wins, n * losses))
    b, c = b[:, None], c[None]
    chance = scipy.stats.binom.pmf(b, n, wins) * scipy.stats.binom.pmf(c, n - b, losses / (1 - wins))
    tables = np.broadcast_arrays(b + 0 * c, c + 0 * b)
    p = np.asarray(tango_p(*(jnp.asarray(t, jnp.float32) for t in tables), jnp.float32(n), jnp.float32(margin))[0])
    for alpha in (0.05, 0.01, 1e-3, 1e-4):
        assert chance[p <= alpha].sum() <= alpha


def drawn(seed, binary, gain, way):
    """Scores [B, 1, 2, N] with a much better claim and a guarded metric with this gain; and the reference's."""
    rng = np.random.default_rng(seed)
    reference = rng.normal(size=(B, 2, N))
    scores = reference + 1 + rng.normal(size=reference.shape)
    if binary:
        reference[:, 1] = rng.random((B, N)) < 0.6
        fresh = rng.random((B, N)) < 0.6 + way * gain / 0.2
        scores[:, 1] = np.where(rng.random((B, N)) < 0.8, reference[:, 1], fresh)
    else:
        scores[:, 1] = reference[:, 1] + way * gain + 0.3 * rng.normal(size=(B, N))
    return np.float32(scores[:, None]), np.float32(reference)


@quick
@given(
    seed=st.integers(0, 10**6),
    binary=st.booleans(),
    gain=st.sampled_from([-0.05, -0.01, 0.0, 0.01]),
    way=st.sampled_from([1.0, -1.0]),
)
def test_guards_get_the_p_values_of_the_textbook(seed, binary, gain, way):
    margin = 0.02
    scores, reference = drawn(seed, binary, gain, way)
    got = judge(Paired(guards={"guarded": margin}), scores, reference, metrics=GUARDED[binary, way], alpha=0.01)
    x = way * (np.float64(scores[:, 0, 1]) - reference[:, 1]).ravel()
    if binary:
        z = tango_z((x > 0).sum(), (x < 0).sum(), x.size, margin)
        p, other = np.minimum((1 + SCORE_TEST_ERROR) * scipy.stats.norm.sf([z, -z]), 1)
    else:
        p, other = (scipy.stats.ttest_1samp(x, -margin, alternative=a).pvalue for a in ("greater", "less"))
    assert float(got.p_values[0, 1]) == pytest.approx(p, rel=0.01, abs=1e-9)
    assert float(got.p_value[0]) == max(got.p_values[0].tolist())
    expected = BETTER if p <= 0.01 else WORSE if other <= 0.05 else UNDECIDED
    assert int(got.outcome[0]) == expected or min(abs(p - 0.01), abs(other - 0.05)) < 1e-3


def test_weighted_examples_are_tested_with_t():
    scores, reference = drawn(0, True, 0.0, 1.0)
    weights = np.random.default_rng(1).uniform(0.5, 2.0, (B, 1, N)).repeat(2, 1)
    metrics, paired = GUARDED[True, 1.0], Paired(guards={"guarded": 0.02})
    got = judge(paired, scores, reference, weights, metrics=metrics)
    other = judge(paired, scores, reference, weights, metrics=GUARDED[False, 1.0])
    np.testing.assert_array_equal(got.p_values, other.p_values)


@pytest.mark.parametrize(
    ("more", "p", "outcome"), [(-50, 0.0, BETTER), (0, 0.0, BETTER), (100, 0.0, BETTER), (101, 1.0, WORSE)]
)
def test_a_count_of_parameters_is_taken_at_its_word(more, p, outcome):
    size = ev3x.Metric("size", right, constant=True, maximize=False)
    scores, reference = drawn(0, False, 0.0, 1.0)
    reference[:, 1], scores[:, :, 1] = 12_345, 12_345 + more
    got = judge(Paired(guards={"size": 100}), scores, reference, metrics=(CLAIM, size))
    assert float(got.p_values[0, 1]) == p and int(got.outcome[0]) == outcome
    claimed = judge(Paired(claims=("size",)), scores, reference, metrics=(CLAIM, size))
    assert float(claimed.p_values[0, 1]) == (more >= 0)
    assert int(claimed.outcome[0]) == (BETTER if more < 0 else UNDECIDED if more == 0 else WORSE)


def test_what_is_not_declared_constant_is_not_proven_by_having_no_spread():
    scores, reference = drawn(0, False, 0.0, 1.0)
    reference[:, 1], scores[:, :, 1] = 1.0, 1.0
    got = judge(Paired(guards={"guarded": 0.005}), scores, reference, metrics=GUARDED[False, 1.0])
    assert float(got.p_values[0, 1]) == 1.0 and int(got.outcome[0]) == UNDECIDED


def test_a_guard_is_not_a_claim():
    """A guarded metric that is much better does not make up for a claim, nor is it asked to be better."""
    scores, reference = drawn(0, False, 1.0, 1.0)
    scores[:, :, 0] = reference[:, None, 0]
    metrics = (ev3x.Metric("claim", right, margin=0.1), GUARDED[False, 1.0][1])
    got = judge(Paired(guards={"guarded": 0.1}), scores, reference, metrics=metrics)
    assert int(got.outcome[0]) == EQUIVALENT and got.p_values[0, 1] < 1e-6
    scores[:, :, 1] = reference[:, None, 1] - 0.1 + np.float32(np.random.default_rng(0).normal(0, 1, (B, 1, N)))
    assert int(judge(Paired(guards={"guarded": 0.1}), scores, reference, metrics=metrics).outcome[0]) == UNDECIDED


@pytest.mark.parametrize("where", ["contender", "reference"])
def test_scores_that_are_not_finite_hold_no_guard(where):
    scores, reference = drawn(0, False, 0.0, 1.0)
    (scores[:, 0] if where == "contender" else reference)[0, 1, 3] = np.nan
    got = judge(Paired(guards={"guarded": 0.1}), scores, reference, metrics=GUARDED[False, 1.0])
    assert int(got.outcome[0]) == (WORSE if where == "contender" else UNDECIDED)
    assert float(got.p_values[0, 1]) == 1.0


REPEATS, MARGIN, BLOCK = 4_000, 0.02, 1024


@functools.partial(jax.jit, static_argnames=("binary", "copied", "loss"))
def promoted(binary, copied, loss, alpha):
    """How often a candidate with a better claim, and a guarded metric that is worse by `loss`, is promoted: i32[]."""
    metrics = (CLAIM, ev3x.Metric("guarded", right, binary=binary))
    assessor = Paired(block=BLOCK, blocks=2, guards={"guarded": MARGIN})
    question = ev3x.Question(jax.random.key(0), jnp.float32(alpha), jnp.array([1.0, 0.0]), jnp.ones(1, bool))

    def once(key):
        claim, other = jax.random.split(key)
        case = null.Case("accuracy" if binary else "likelihood", -loss, copied, 2 * BLOCK)
        old, new = case.draw(other)
        up = 0.5 + jax.random.normal(claim, old.shape)
        reference, scores = jnp.stack([jnp.zeros_like(old), old]), jnp.stack([up, new])
        evidence = assessor.begin(1, metrics)
        for i in range(2):
            at = slice(i * BLOCK, (i + 1) * BLOCK)
            block = ev3x.Block(scores[None, :, at], reference[:, at], None, None, jnp.int32(i))
            evidence = assessor.observe(evidence, block, question, metrics)
        return assessor.conclude(evidence, question, metrics).outcome[0] == BETTER

    keys = jax.random.split(jax.random.key(0), (REPEATS // 100, 100))
    return jax.lax.map(jax.vmap(once), keys).sum(dtype=jnp.int32)


@pytest.mark.parametrize("alpha", [pytest.param(0.05, marks=LONG), 0.01])
@pytest.mark.parametrize(
    ("binary", "copied"), [pytest.param(True, 0.8, marks=LONG), pytest.param(True, 0.95, marks=LONG), (False, 0.8)]
)
def test_a_guarded_metric_worse_by_its_margin_is_let_through_at_the_stated_rate_at_most(binary, copied, alpha):
    hits = int(promoted(binary, copied, MARGIN, alpha))
    low, high = null.interval(hits, REPEATS)
    print(
        f"\n{'binary' if binary else 'plain'} {copied} at {alpha}: {hits / REPEATS:.4f} [{low:.4f}, {high:.4f}]", end=""
    )
    assert low <= alpha, f"promoted {hits / REPEATS:.4f} [{low:.4f}, {high:.4f}]"
    assert high >= alpha / 2, "a guard that lets nothing through would be honest too"


@LONG
@pytest.mark.parametrize(("binary", "copied", "least"), [(True, 0.95, 0.9), (False, 0.99, 0.9)])
def test_a_guarded_metric_that_is_no_worse_lets_a_better_claim_through(binary, copied, least):
    rate = int(promoted(binary, copied, 0.0, 0.05)) / REPEATS
    print(f"\n{'binary' if binary else 'plain'} {copied}: {rate:.4f}", end="")
    assert rate > least
