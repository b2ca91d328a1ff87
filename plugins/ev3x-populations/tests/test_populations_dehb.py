"""The state machine: what each rung asks for, who stays, and who may be incumbent."""

import dataclasses
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from ev3x_populations import DEHB, Categorical, Space, Trials, ask, init, tell, warm
from ev3x_populations.dehb import NONE, _different
from ev3x_populations.strategies import MUTATIONS, NEEDS, crossed, inside, mutant

from ev3x import Range

SPACE = Space([Range(f"x{i}", 0, 1) for i in range(3)])
SMALL = DEHB(SPACE, 1, 9)
asked = jax.jit(ask, static_argnums=(0, 2))
told = jax.jit(tell, static_argnums=0)


def value(x):
    return ((x - 0.3) ** 2).sum(-1)


@pytest.fixture(scope="module")
def story():
    """(rung, state before, trials, state after) of two cycles; a value at a lower fidelity is 100 less."""
    state, found = init(SMALL, jax.random.key(1)), []
    for rung in itertools.islice(SMALL.rungs(10**6), 2 * len(SMALL.cycle)):
        trials = asked(SMALL, state, rung.n)
        after = told(SMALL, state, trials, value(trials.x) - 100 * (rung.level < SMALL.top))
        found.append((rung, state, trials, after))
        state = after
    return found


def individuals(state, level):
    n = SMALL.sizes[level]
    return np.asarray(state.x[level, :n]), np.asarray(state.value[level, :n])


def rows(x):
    return {tuple(row) for row in np.asarray(x).tolist()}


def test_the_first_lowest_rung_evaluates_what_was_drawn(story):
    rung, before, trials, after = story[0]
    assert rung.n == 9 and np.array_equal(trials.x, before.x[0])
    assert not after.fresh[0].any() and after.evaluations == 9 and after.step == 1


def test_promoted_are_the_best_of_the_rung_below_without_duplicates(story):
    for rung, before, trials, _ in story[: len(SMALL.cycle)]:
        if rung.check or rung.level == rung.lowest:
            continue
        x, values = individuals(before, rung.level - 1)
        here = rows(before.x[rung.level][~np.asarray(before.fresh[rung.level])])
        ranked = [tuple(x[i].tolist()) for i in np.argsort(values, kind="stable") if values[i] < NONE]
        expected = [row for row in ranked if row not in here][: rung.n]
        assert [tuple(row) for row in np.asarray(trials.x).tolist()][: len(expected)] == expected
        assert len(rows(trials.x)) == rung.n, "no two trials of a rung are the same"
        for row, origin in zip(expected, np.asarray(trials.origin), strict=False):
            assert tuple(x[origin].tolist()) == row


def test_after_the_first_cycle_all_rungs_evolve_and_nobody_gets_worse(story):
    for rung, before, trials, after in story[len(SMALL.cycle) :]:
        if not rung.check:
            assert (trials.origin == -1).all() and not rows(trials.x) & rows(before.x[rung.level])
            size = SMALL.sizes[rung.level]
            assert np.array_equal(trials.target, (int(before.turn[rung.level]) + np.arange(rung.n)) % size)
        assert (after.value <= before.value).all()
        kept = np.asarray(after.value == before.value)
        assert np.array_equal(np.asarray(after.x)[kept], np.asarray(before.x)[kept])
    assert not after.fresh[np.arange(9)[None] < np.array(SMALL.sizes)[:, None]].any(), "all were evaluated"


def test_only_full_fidelity_makes_an_incumbent(story):
    """Values at lower fidelities are 100 less: whoever compared them would take one of those."""
    best = NONE
    for rung, _, trials, after in story:
        if rung.level == SMALL.top:
            best = min(best, float(value(trials.x).min()))
        assert float(after.best_value) == np.float32(best)
    assert best >= 0 and float(value(after.best)) == pytest.approx(best)


def test_after_each_bracket_the_best_of_its_lowest_fidelity_is_evaluated_in_full(story):
    checked = 0
    for rung, before, trials, after in story:
        if rung.check:
            x, values = individuals(before, rung.lowest)
            i = int(np.argmin(values))
            if not before.seen[rung.lowest, i]:
                assert np.array_equal(trials.x[0], x[i]) and after.seen[rung.lowest, i]
                checked += 1
            worst = np.argmax(individuals(before, SMALL.top)[1])
            assert trials.target[0] == worst and after.turn[SMALL.top] == before.turn[SMALL.top]
    assert checked


def test_mutants_come_from_the_best_of_the_fidelity_below(story):
    """With all genes of the mutant and a small factor, a trial lies next to an individual of its pool."""
    dehb = dataclasses.replace(SMALL, crossover_probability=1.0, mutation_factor=1e-4)
    tried = 0
    for rung, before, *_ in story[len(SMALL.cycle) :]:
        if rung.check:
            continue
        source = rung.level if rung.level == rung.lowest else rung.level - 1
        x, values = individuals(before, source)
        pool = x[np.argsort(values, kind="stable")[: rung.n]]
        if rung.n < 4:  # mutants of all populations fill the pool
            pool = np.concatenate([individuals(before, level)[0] for level in range(3)])
        trials = np.asarray(asked(dehb, before, rung.n).x)
        assert np.abs(trials[:, None] - pool[None]).max(-1).min(-1).max() < 1e-3
        tried += rung.n >= 4
    assert tried


def test_a_value_that_is_not_finite_never_wins(story):
    _, before, trials, _ = story[9]
    for bad in (jnp.nan, jnp.inf, -jnp.inf):
        after = told(SMALL, before, trials, jnp.full(trials.x.shape[0], bad))
        assert np.array_equal(after.value, before.value) and np.array_equal(after.x, before.x)
        assert after.finite == before.finite and after.step == before.step + 1


def test_the_parts_of_a_rung_are_told_one_after_another(story):
    _, before, *_ = story[len(SMALL.cycle)]
    state, targets = before, []
    for _ in range(3):
        trials = asked(SMALL, state, 4)
        targets += np.asarray(trials.target)[np.asarray(trials.real)].tolist()
        state = told(SMALL, state, trials, value(trials.x))
    assert targets == list(range(9)) and state.step == before.step + 1 and state.part == 0
    assert state.evaluations == before.evaluations + 9


def test_the_same_key_gives_the_same_bits_and_another_others():
    a, b, c = (init(SMALL, jax.random.key(seed)).x for seed in (0, 0, 1))
    assert np.array_equal(a, b) and not np.array_equal(a, c)


def test_told_without_asking_it_knows_them(story):
    _, before, *_ = story[0]
    x = jnp.array([[0.3, 0.3, 0.3], [0.3, 0.3, 0.3], [0.9, 0.9, 0.9]])
    after = jax.jit(warm, static_argnums=(0, 2))(SMALL, before, 2, x, jnp.array([0.0, 0.0, jnp.nan]))
    assert after.best_value == 0 and after.step == before.step and after.evaluations == before.evaluations
    assert np.isclose(after.value[2], 0).sum() == 1, "twice the same is once"
    assert after.finite == 2 and after.fresh[2].sum() == before.fresh[2].sum() - 1
    low = jax.jit(warm, static_argnums=(0, 2))(SMALL, before, 0, x, jnp.array([0.5, 0.5, 1.0]))
    assert low.best_value == NONE, "a lower fidelity makes no incumbent"


def test_duplicates_are_what_means_the_same():
    """Two bits have four configurations: of nine individuals at most four go on, and the rest of the rung evolves."""
    dehb = DEHB(Space([Categorical("a", (0, 1)), Categorical("b", (0, 1))]), 1, 27)
    state = init(dehb, jax.random.key(0))
    for _ in range(1):
        trials = asked(dehb, state, 27)
        state = told(dehb, state, trials, trials.x.sum(-1))
    trials = asked(dehb, state, 9)
    meant = np.asarray(dehb.space.snapped(trials.x))[np.asarray(trials.origin) >= 0]
    assert len(meant) == len(rows(meant)) == 4


@pytest.mark.parametrize("mutation", MUTATIONS)
def test_mutants_are_the_published_ones(mutation):
    rng = np.random.default_rng(0)
    t, b, *r = rng.random((7, 4)).astype(np.float32)
    f = 0.7
    expected = {
        "rand1": r[0] + f * (r[1] - r[2]),
        "rand2": r[0] + f * (r[1] - r[2]) + f * (r[3] - r[4]),
        "rand2dir": r[0] + f / 2 * (r[0] - r[1] - r[2]),
        "best1": b + f * (r[0] - r[1]),
        "best2": b + f * (r[0] - r[1]) + f * (r[2] - r[3]),
        "currenttobest1": t + f * (b - t) + f * (r[0] - r[1]),
        "randtobest1": r[0] + f * (b - r[0]) + f * (r[1] - r[2]),
    }[mutation]
    found = mutant(mutation, jnp.array(t), jnp.array(b), jnp.array(np.stack(r[: NEEDS[mutation]])), f)
    assert np.allclose(found, expected, atol=1e-6)


@pytest.mark.parametrize("crossover", ["bin", "exp"])
def test_crossover_takes_at_least_one_gene_and_the_stated_share(crossover):
    d, p = 5, 0.6
    u = jax.random.uniform(jax.random.key(0), (20_000, 1 + d), jnp.float32)
    taken = np.asarray(jax.jit(jax.vmap(lambda u: crossed(crossover, u, jnp.zeros(d), jnp.ones(d), p)))(u))
    assert taken.any(1).all() and np.allclose(taken.mean(0), taken.mean(), atol=0.02)
    run = sum(p**i for i in range(d)) / d  # the mean share of a run of 1 + Geometric(p) genes, d at most
    assert taken.mean() == pytest.approx(run if crossover == "exp" else p + (1 - p) / d, abs=0.01)
    if crossover == "exp":
        starts = (taken > np.roll(taken, 1, axis=1)).sum(1)
        assert (starts <= 1).all(), "one run, around the end"


def test_what_leaves_the_cube_comes_back():
    x, u = jnp.array([-0.5, 0.25, 1.5]), jnp.array([0.1, 0.2, 0.3])
    assert np.allclose(inside("random", u, x), [0.1, 0.25, 0.3])
    assert np.allclose(inside("clip", u, x), [0.0, 0.25, 1.0])


def test_different_numbers_are_different_and_equally_likely():
    u = jax.random.uniform(jax.random.key(0), (3, 60_000), jnp.float32)
    picks = np.stack(jax.jit(lambda u: _different(u, jnp.int32(5)))(u), 1)
    found, counts = np.unique(picks, axis=0, return_counts=True)
    assert len(found) == 60 and (np.diff(np.sort(found, axis=1)) > 0).all()
    # 1,000 each, standard deviation 31: six of them.
    assert np.abs(counts - 1000).max() < 190


@pytest.mark.parametrize("strategy", ["rand2_exp", "best2_bin", "currenttobest1_bin"])
def test_each_strategy_makes_trials_in_the_cube(strategy, story):
    dehb = dataclasses.replace(SMALL, strategy=strategy, mutation_factor=1.5)
    trials = asked(dehb, story[len(SMALL.cycle)][1], 9)
    assert isinstance(trials, Trials) and ((trials.x >= 0) & (trials.x <= 1)).all() and len(rows(trials.x)) == 9
