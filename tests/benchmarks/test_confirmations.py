"""Many confirmations at once from counts: what they say, and when, is what the assessors say of the scores."""

import functools

import confirmations
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

import ev3x
from ev3x.builtin.assessors.anytime import FUTILE_BET
from ev3x.builtin.assessors.bernstein import Bernstein
from ev3x.builtin.assessors.betting import Betting
from ev3x.builtin.assessors.paired import Paired
from ev3x.builtin.assessors.published import Published
from ev3x.stats.betting import MOST_EXACT, PRIOR, PRIOR_EXAMPLES

TRIALS, BLOCK, BLOCKS = 96, 64, 24
METRICS = (confirmations.ACCURACY,)


def question(alpha):
    return ev3x.Question(jax.random.key(0), alpha, jnp.ones(1), jnp.array([True, False]))


@functools.partial(jax.jit, static_argnums=0)
def confirmed(assessor, scores, reference, alpha):
    """Outcome, blocks and p-value of each trial, by the loop of a round; scores are bool[trials, blocks, n]."""

    def one(scores, reference, alpha):
        both = jnp.stack([scores, reference], 1)[:, :, None].astype(jnp.float32)

        def more(carry):
            return (carry[0] < len(both)) & ~assessor.enough(carry[1], question(alpha), METRICS)

        def add(carry):
            i, evidence = carry
            block = ev3x.Block(both[i], reference[i][None].astype(jnp.float32), None, None, i)
            return i + 1, assessor.observe(evidence, block, question(alpha), METRICS)

        read, evidence = jax.lax.while_loop(more, add, (jnp.int32(0), assessor.begin(2, METRICS)))
        said = assessor.conclude(evidence, question(alpha), METRICS)
        return said.outcome[0], read, said.p_value[0]

    return jax.vmap(one)(scores, reference, alpha)


def outcomes(seed, gains, copied, n):
    """Whether candidates and their incumbents are right: bool[trials, n] each."""
    rng = np.random.default_rng(seed)
    reference = rng.random((len(gains), n)) < 0.7
    fresh = rng.random(reference.shape) < 0.7 + gains[:, None] / (1 - copied)
    return np.where(rng.random(reference.shape) < copied, reference, fresh), reference


@pytest.mark.parametrize(
    "assessor",
    [
        Betting(block=BLOCK, blocks=BLOCKS, min_gain=0.05),
        Bernstein(block=BLOCK, blocks=BLOCKS, min_gain=0.05, futility=0.0),
    ],
    ids=["betting", "bernstein that never gives up"],
)
def test_lanes_end_where_the_loop_ends_and_with_its_verdict(assessor):
    rng = np.random.default_rng(0)
    gains = rng.choice([-0.1, -0.02, 0.0, 0.05, 0.1], TRIALS)
    alpha = np.float32(rng.choice([0.05, 0.02, 0.001], TRIALS))
    scores, reference = (x.reshape(TRIALS, BLOCKS, BLOCK) for x in outcomes(1, gains, 0.6, BLOCKS * BLOCK))
    outcome, read, p_value = map(np.asarray, confirmed(assessor, scores, reference, alpha))

    wins, losses = (np.float32(x.sum(-1)) for x in (scores & ~reference, ~scores & reference))
    got = confirmations.confirm(
        assessor, alpha, lambda some, start, stop: (wins[some, start:stop], losses[some, start:stop])
    )
    np.testing.assert_array_equal(got.outcome, outcome)
    np.testing.assert_array_equal(got.blocks, read)
    np.testing.assert_allclose(got.p_value, p_value, rtol=1e-4)
    assert len(set(outcome.tolist())) == 3 and len(set(read.tolist())) > 10


def test_lanes_read_no_more_than_is_left():
    left = np.array([0, 1, 5, 17, 40])
    world = confirmations.World(0.0, 0.8)
    assessor = Betting(block=BLOCK, blocks=BLOCKS)
    got = confirmations.confirm(assessor, np.full(5, 1e-9), world.reader(np.random.default_rng(0), BLOCK), left)
    np.testing.assert_array_equal(got.blocks, [0, 1, 5, 17, 24])


@pytest.mark.parametrize(("gain", "copied"), [(0.0, 0.0), (-0.002, 0.98), (0.01, 0.8)])
def test_wins_and_losses_are_those_of_outcomes(gain, copied):
    world, n, repeats = confirmations.World(gain, copied), 64, 20_000
    counts = world.draw(np.random.default_rng(0), n, (repeats,))
    scores, reference = outcomes(1, np.full(repeats, gain), copied, n)
    by_hand = (scores & ~reference).sum(1), (~scores & reference).sum(1)
    for chance, got, other in zip(world.chances, counts, by_hand, strict=True):
        for x in (got, other):
            assert scipy.stats.binomtest(int(x.sum()), n * repeats, chance).pvalue > 1e-3
        assert np.var(got) == pytest.approx(n * chance * (1 - chance), rel=0.05)
    assert np.cov(*counts)[0, 1] == pytest.approx(-n * world.chances[0] * world.chances[1], abs=0.15)
    assert (counts[0] - counts[1]).mean() == pytest.approx(n * gain, abs=0.3)


def test_fixed_samples_are_judged_as_by_their_assessors():
    """Also the rule of the paper, whose spread is that of the outcomes."""
    gains, n = np.repeat([0.0, 0.02, 0.05, 0.1], 25), 512
    scores, reference = outcomes(2, gains, 0.6, n)
    wins, losses = (np.float32(x.sum(1)) for x in (scores & ~reference, ~scores & reference))
    alpha = np.float32(np.tile([0.05, 0.02, 0.01, 0.001, 1e-4], 20))
    rules = {
        Paired(block=n, blocks=1): confirmations.paired(Paired(), alpha, wins, losses),
        Published(block=n, blocks=1, z=0.5): confirmations.published(
            Published(z=0.5), reference.sum(1), wins, losses, n
        ),
    }
    for assessor, got in rules.items():
        outcome = confirmed(assessor, scores[:, None], reference[:, None], alpha)[0]
        np.testing.assert_array_equal(got, np.asarray(outcome) == ev3x.Outcome.BETTER)
        assert 0 < got.sum() < len(got)


def test_many_lanes_end_where_numpys_bettor_ends():
    """With the defaults, in float64 and all at once: as many trials as a program takes, and some more."""
    assessor, alpha, count = Betting(), 0.02, 4_200
    world = confirmations.World(0.01, 0.8)
    wins, losses = world.draw(np.random.default_rng(0), assessor.block, (count, assessor.blocks))
    got = confirmations.confirm(
        assessor, np.full(count, alpha), lambda some, start, stop: (wins[some, start:stop], losses[some, start:stop])
    )
    won, lost = np.float64(wins), np.float64(losses)
    ties = assessor.block - won - lost
    before = np.cumsum(won + lost, 1) - won - lost
    square = (before + PRIOR * PRIOR_EXAMPLES) / (PRIOR_EXAMPLES + assessor.block * np.arange(assessor.blocks))

    def wealth(theta, side, distance):
        bet = side * np.minimum(distance / square, MOST_EXACT / (1 + theta))
        each = won * np.log1p(bet * (1 - theta)) + lost * np.log1p(-bet * (1 + theta)) + ties * np.log1p(-bet * theta)
        return np.exp(np.cumsum(each, 1))

    least = assessor.min_gain
    up, down = (np.mean([wealth(0, side, b * least) for b in assessor.bets], 0) for side in (1, -1))
    clear = (up >= 1 / alpha) | (down >= 1 / assessor.level)
    clear |= wealth(least, -1, FUTILE_BET * least) >= 1 / assessor.futility
    last = np.where(clear.any(1), clear.argmax(1), assessor.blocks - 1)
    same = got.blocks == last + 1
    assert same.sum() >= count - 2, "float32 may see a wealth that is right at what is needed otherwise"
    at = np.arange(count), last
    np.testing.assert_array_equal(got.better[same], up[at][same] >= 1 / alpha)
    np.testing.assert_allclose(got.p_value[same], np.minimum(1, 1 / up[at])[same], rtol=1e-4)
