"""What the proposer adds to evosax: places, dtypes, failed candidates, subspaces, and a state that can be saved."""

import dataclasses
import functools

import ev3x_evosax
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from ev3x_evosax import views

import ev3x

METRIC = ev3x.Metric("x", lambda scores, batch: scores)
SITE = ev3x.Site(ev3x.make_task(lambda key: {}, lambda params, batch: batch["x"], {"x": lambda x, _: x}, [METRIC]))
EXPLORE = ev3x.Explore(ev3x.Arrays({"x": jnp.zeros(1)}), 1)
CURRENT = {
    "params": {"w": jnp.full((3, 4), 2.0), "half": jnp.ones(5, jnp.bfloat16), "n": jnp.arange(3, dtype=jnp.int32)},
    "batch_stats": {"mean": jnp.arange(4.0)},
}
OTHER = jax.tree.map(lambda x: x + jnp.ones((), x.dtype), CURRENT)
DISTRIBUTION, POPULATION = "cma_es", "simple_ga"


def make(name, **options):
    return ev3x_evosax.component(name).build({"population": 8, "std": 0.25, **options})


def decision(move):
    return ev3x.Decision(jnp.int32(move), jnp.asarray(False), jnp.ones(1), jnp.zeros(1, jnp.int32))


@functools.partial(jax.jit, static_argnums=0)
def _ask(proposer, key, current, state):
    return proposer.propose(SITE, key, current, state, EXPLORE)


@functools.partial(jax.jit, static_argnums=0)
def _tell(proposer, key, state, made, feedback):
    return proposer.learn(SITE, key, state, made, feedback)


@functools.partial(jax.jit, static_argnums=0)
def begin(proposer, current=CURRENT):
    return proposer.init(SITE, jax.random.key(9), current)


def ask(proposer, state, current=CURRENT, seed=0):
    return _ask(proposer, jax.random.key(seed), current, state)


def tell(proposer, state, made, value=None, move=ev3x.Move.TAKE, won=0, seed=1):
    k = made.eligible.size
    value = -jnp.arange(float(k)) if value is None else jnp.asarray(value, jnp.float32)
    feedback = ev3x.Feedback(value, value[:, None], jnp.arange(k) == won, jnp.int32(0), decision(move))
    return _tell(proposer, jax.random.key(seed), state, made, feedback)


def same(a, b):
    assert jax.tree.structure(a) == jax.tree.structure(b)
    return all(
        np.array_equal(_raw(x), _raw(y), equal_nan=True) for x, y in zip(*map(jax.tree.leaves, (a, b)), strict=True)
    )


def _raw(x):
    x = jax.random.key_data(x) if jnp.issubdtype(x.dtype, jax.dtypes.prng_key) else x
    return np.asarray(x.astype(jnp.float32) if jnp.issubdtype(x.dtype, jnp.floating) else x)


def centre(made):
    return jax.tree.map(lambda x: np.asarray(x, np.float64).mean(0), made.variables["params"])


@pytest.mark.parametrize("view", [{}, {"view": "subspace", "dimensions": 4}], ids=["flat", "subspace"])
@pytest.mark.parametrize("name", [DISTRIBUTION, POPULATION])
def test_candidates_have_the_dtypes_and_shapes_of_the_model_and_move_params_only(name, view):
    proposer = make(name, **view)
    made = ask(proposer, begin(proposer))
    for x, y in zip(jax.tree.leaves(made.variables), jax.tree.leaves(CURRENT), strict=True):
        assert x.shape == (8, *y.shape) and x.dtype == y.dtype
    assert same(made.variables["batch_stats"], jax.tree.map(lambda x: jnp.stack([x] * 8), CURRENT["batch_stats"]))
    assert (made.variables["params"]["n"] == CURRENT["params"]["n"][None]).all()
    assert np.unique(made.variables["params"]["w"], axis=0).shape[0] == 8
    assert int(made.steps) == 0 and made.eligible.all()


@pytest.mark.parametrize("name", [DISTRIBUTION, POPULATION, "sv_open_es", "random_search"])
def test_the_same_key_gives_the_same_bits_and_another_one_others(name):
    proposer = make(name)
    first, again, other = (ask(proposer, begin(proposer), seed=s) for s in (0, 0, 1))
    assert same(first, again) and not same(first.variables, other.variables)


@pytest.mark.parametrize("name", [DISTRIBUTION, "open_es", POPULATION, "pso", "sv_cma_es"])
def test_a_state_keeps_its_type(name):
    proposer = make(name)
    state = begin(proposer)
    after = tell(proposer, state, ask(proposer, state))
    assert jax.tree.map(jax.typeof, state) == jax.tree.map(jax.typeof, after)
    assert not any(jax.typeof(x).weak_type for x in jax.tree.leaves(state.strategy))


def test_std_is_the_spread_of_every_parameter_in_both_views():
    current = {"params": {"w": jnp.zeros(4000), "b": jnp.zeros((7, 11))}}
    for options in ({}, {"view": "subspace", "dimensions": 50}):
        proposer = make("open_es", population=64, **options)
        made = ask(proposer, begin(proposer, current), current)
        for x in jax.tree.leaves(made.variables["params"]):
            assert abs(float(jnp.std(x)) / 0.25 - 1) < 0.15


def test_a_subspace_keeps_within_it_whatever_happens():
    proposer = make(DISTRIBUTION, view="subspace", dimensions=3)
    current = {"params": {"w": jnp.full((5, 6), 0.5), "b": jnp.zeros(9)}}
    state, moves = begin(proposer, current), []
    for i in range(4):
        made = ask(proposer, state, current, seed=i)
        moves.append(np.concatenate([x.reshape(8, -1) for x in jax.tree.leaves(made.variables)], axis=1))
        state = tell(proposer, state, made, seed=10 + i)
    start = np.concatenate([x.reshape(-1) for x in jax.tree.leaves(current)])
    singular = np.linalg.svd(np.concatenate(moves).astype(np.float64) - start, compute_uv=False)
    assert singular[2] > 0.1 and singular[3] < 1e-5 * singular[0]


@pytest.mark.parametrize(("d", "n", "seed"), [(1, 1, 0), (7, 40, 1), (32, 9, 2), (70, 5, 3)])
def test_a_projection_is_a_matrix_of_signs(d, n, seed):
    key, params = jax.random.key(seed), {"a": jnp.zeros(n), "b": jnp.zeros((2, 3))}

    def columns(steps):
        made = views.projected(params, jnp.asarray(steps, jnp.float32), key)
        return np.concatenate([x.reshape(len(steps), -1) for x in jax.tree.leaves(made)], axis=1)

    matrix = columns(np.eye(d))
    np.testing.assert_allclose(np.abs(matrix), 1 / np.sqrt(d), rtol=1e-6)
    z = np.random.default_rng(seed).normal(size=(3, d))
    np.testing.assert_allclose(columns(z), z @ matrix.astype(np.float64), atol=1e-5)


def test_the_signs_are_fair_and_their_columns_independent():
    made = views.projected({"w": jnp.zeros(20_000)}, jnp.eye(40), jax.random.key(0))["w"] * np.sqrt(40)
    correlations = np.asarray(made) @ np.asarray(made).T / 20_000 - np.eye(40)
    assert np.abs(made.mean(1)).max() < 0.04 and np.abs(correlations).max() < 0.04


# --- others move the current variables


def moved(name, when_moved, *, move=ev3x.Move.TAKE, won=-1, generations=3):
    """The state after some generations of its own, one that others win, and what is then made of their variables."""
    proposer = make(name, population=64, when_moved=when_moved, std=0.25)
    state = begin(proposer)
    for i in range(generations):
        made = ask(proposer, state, seed=i)
        value = -jnp.square(made.variables["params"]["w"] - 3).sum((1, 2))
        state = tell(
            proposer, state, made, value, seed=20 + i, **({"move": move, "won": won} if i + 1 == generations else {})
        )
    return state, ask(proposer, state, OTHER, seed=40)


def test_a_distribution_follows_with_its_shape():
    state, made = moved(DISTRIBUTION, "follow")
    assert same(made.memo.place.anchor, OTHER["params"])
    np.testing.assert_array_equal(made.memo.place.origin, state.strategy.mean)
    np.testing.assert_array_equal(made.memo.before.mean, state.strategy.mean)
    assert float(made.memo.before.std) == float(state.strategy.std) != 1
    assert float(made.memo.before.best_fitness) == np.inf  # forgotten
    np.testing.assert_allclose(centre(made)["w"], 3.0, atol=0.25)


@pytest.mark.parametrize("name", [DISTRIBUTION, POPULATION])
def test_a_rollback_counts_as_a_move_even_when_it_won(name):
    _, made = moved(name, "follow", move=ev3x.Move.RESTORE, won=0)
    assert same(made.memo.place.anchor, OTHER["params"])


@pytest.mark.parametrize("name", [DISTRIBUTION, POPULATION])
@pytest.mark.parametrize(
    ("when_moved", "move", "won"),
    [("follow", ev3x.Move.TAKE, 3), ("follow", ev3x.Move.KEEP, -1), ("stay", ev3x.Move.TAKE, -1)],
)
def test_otherwise_it_stays_where_it_was(name, when_moved, move, won):
    state, made = moved(name, when_moved, move=move, won=won)
    assert same(made.memo.place, state.place) and same(made.memo.place.anchor, CURRENT["params"])
    assert same(made.memo.before, state.strategy) and not bool(made.memo.fresh)


def test_a_population_is_drawn_anew_about_the_new_current_variables():
    state, made = moved(POPULATION, "follow")
    assert bool(made.memo.fresh)
    first = jax.tree.map(lambda x: x[0], made.variables)
    assert same(first["params"], OTHER["params"])
    after = tell(make(POPULATION, population=64), state, made)
    assert int(after.strategy.generation_counter) == 0 and not bool(after.anew)
    np.testing.assert_array_equal(after.strategy.population, made.memo.population)
    np.testing.assert_array_equal(after.strategy.fitness, np.arange(64.0))


# --- candidates that cannot win


@pytest.mark.parametrize("name", [DISTRIBUTION, "open_es", "ars", "guided_es", "learned_es", POPULATION, "pso"])
def test_candidates_that_cannot_win_are_told_as_the_worst(name):
    proposer = make(name)
    state = begin(proposer)
    made = ask(proposer, state)
    bad = tell(proposer, state, made, [3.0, -jnp.inf, 1.0, jnp.nan, 2.0, 0.5, jnp.inf, 4.0])
    worst = tell(proposer, state, made, [3.0, 0.5, 1.0, 0.5, 2.0, 0.5, 0.5, 4.0])
    assert same(bad, worst)


@pytest.mark.parametrize("name", [DISTRIBUTION, POPULATION, "pso"])
def test_a_round_in_which_none_can_win_is_forgotten(name):
    proposer = make(name)
    first = begin(proposer)
    state = tell(proposer, first, ask(proposer, first))
    after = tell(proposer, state, ask(proposer, state, seed=5), [-jnp.inf] * 8, won=-1, move=ev3x.Move.KEEP)
    assert same(after.strategy, state.strategy) and same(after.place, state.place)


@pytest.mark.parametrize("name", [DISTRIBUTION, "persistent_es", POPULATION])
def test_after_candidates_that_are_not_finite_it_begins_anew(name):
    proposer = make(name)
    first = begin(proposer)
    state = tell(proposer, first, ask(proposer, first))
    state = dataclasses.replace(state, strategy=jax.tree.map(_broken, state.strategy))
    made = ask(proposer, state, seed=5)
    made = dataclasses.replace(made, eligible=jnp.isfinite(made.variables["params"]["w"]).all((1, 2)))
    assert not made.eligible.any()
    state = tell(proposer, state, made, [-jnp.inf] * 8, won=-1, move=ev3x.Move.KEEP)
    made = ask(proposer, state, OTHER, seed=6)
    assert same(made.memo.place.anchor, OTHER["params"])
    assert all(jnp.isfinite(x).all() for x in jax.tree.leaves(made.variables))
    after = tell(proposer, state, made)
    assert not bool(after.anew) and jnp.isfinite(after.strategy.best_fitness)


def _broken(x):
    return jnp.full_like(x, jnp.nan) if jnp.issubdtype(x.dtype, jnp.floating) else x


# --- options and models that do not suit


@pytest.mark.parametrize(
    ("name", "options", "text"),
    [
        ("cma_es", {"params": {"c_maen": 1.0}}, r"unknown parameter 'c_maen'; did you mean 'c_mean'"),
        ("cma_es", {"params": {"c_mean": -1.0}}, r"c_mean must be finite and not negative, got -1.0"),
        ("cma_es", {"params": {"c_mean": "big"}}, r"c_mean must be a finite number, got 'big'"),
        ("cma_es", {"params": 3}, r"must be a table such as"),
        ("persistent_es", {"params": {"T": 1.5}}, r"T must be an integer, got 1.5"),
        ("differential_evolution", {"params": {"elitism": 1}}, r"elitism must be true or false, got 1"),
        ("open_es", {"population": 7}, r"population: evosax cannot make a Open_ES.*must be even"),
        ("open_es", {"population": 1}, r"greater than or equal to 2, got 1"),
        ("open_es", {"optimizer": "adamm"}, r"did you mean 'adam'"),
        ("open_es", {"std_schedule": {"name": "exponential"}}, r"unknown schedule 'exponential'"),
        ("open_es", {"std": 0.0}, r"std.*greater than 0"),
        ("cma_es", {"view": "subspace"}, r"dimensions: is required"),
        ("cma_es", {"dimensions": 3}, r"needs view = 'subspace', got 3"),
        ("cma_es", {"num_populations": 3}, r"unknown option 'num_populations'"),
        ("gesmr_ga", {"num_groups": 4}, r"divisible by number of std groups"),
    ],
)
def test_a_bad_option_is_refused(name, options, text):
    with pytest.raises(ev3x.OptionError, match=text):
        ev3x_evosax.component(name).build(options)


def test_a_parameter_that_is_no_number_is_refused():
    proposer = make("cma_es", params={"weights": 1.0})
    with pytest.raises(ValueError, match=r"params: CMA_ES computes 'weights' itself \(float32\[8\]\)"):
        begin(proposer)


def test_a_model_that_does_not_suit_is_refused():
    with pytest.raises(ValueError, match="dimensions = 40 are more than the 17 parameters"):
        begin(make("cma_es", view="subspace", dimensions=40))
    with pytest.raises(ValueError, match="hold no floating point numbers"):
        begin(make("cma_es"), {"params": {"n": jnp.arange(3)}})


def test_a_population_that_evosax_would_not_fill_is_refused():
    proposer = make("esmc", population=9)
    with pytest.raises(ValueError, match="ESMC made 8 candidates with population = 9: choose population = 8"):
        ask(proposer, begin(proposer))


def test_an_unknown_strategy_is_refused():
    with pytest.raises(ValueError, match="unknown strategy 'cmaes'; did you mean 'cma_es'"):
        ev3x_evosax.component("cmaes")


def test_parameters_and_schedules_reach_evosax():
    params = CURRENT["params"]
    assert float(make("cma_es", params={"std_init": 3})._built(params).params.std_init) == 3
    schedule = {"name": "linear_schedule", "init_value": 2.0, "end_value": 1.0, "transition_steps": 4}
    proposer = make(
        "open_es", std_schedule=schedule, fitness_shaping="standardize", optimizer={"name": "sgd", "learning_rate": 1.0}
    )
    assert float(begin(proposer).strategy.std) == 2
    strategy = proposer._built(params).strategy
    assert strategy.fitness_shaping_fn.__name__ == "standardize_fitness_shaping_fn"
    assert proposer.to_config()["std_schedule"] == schedule
    assert type(proposer).build(proposer.to_config()) == proposer


def test_after_growth_it_begins_anew():
    proposer = make(DISTRIBUTION)
    wider = {"params": {"w": jnp.ones((4, 4))}}
    state = proposer.resize(SITE, jax.random.key(3), wider, begin(proposer), fresh=False)
    assert state.strategy.mean.shape == (16,) and same(state.place.anchor, wider["params"])
