"""Every strategy of the installed evosax runs as a proposer, and does what evosax does when it is called directly."""

import functools

import ev3x_evosax
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from ev3x_evosax import registry, strategies
from evosax.algorithms import algorithms
from evosax.algorithms.distribution_based.cma_es import CMA_ES

import ev3x

NAMES = sorted(ev3x_evosax.components())
DIMENSIONS, GENERATIONS, POPULATION = 7, 4, 8
METRIC = ev3x.Metric("x", lambda scores, batch: scores)
SITE = ev3x.Site(ev3x.make_task(lambda key: {}, lambda params, batch: batch["x"], {"x": lambda x, _: x}, [METRIC]))
EXPLORE = ev3x.Explore(ev3x.Arrays({"x": jnp.zeros(1)}), 1)
TAKE = ev3x.Decision(jnp.int32(ev3x.Move.TAKE), jnp.asarray(False), jnp.ones(1), jnp.zeros(1, jnp.int32))


@pytest.fixture(scope="module", autouse=True)
def _compiled_quickly():
    """Some eighty small programs run once each: most of the time goes into optimising them."""
    before = jax.config.values["jax_disable_most_optimizations"]
    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", before)


def fitness(points):
    """An ellipse whose minimum is at one: f[K] of f[K, d]."""
    return (jnp.arange(1.0, 1 + points.shape[1])[None] * (points - 1) ** 2).sum(1)


def proposed(proposer, key):
    """The state after some generations, and the fitness of each: of a model whose parameters begin at zero."""
    current = {"params": {"a": jnp.zeros((2, 2)), "b": jnp.zeros(3)}}

    def step(state, key):
        ask_key, tell_key = jax.random.split(key)
        made = proposer.propose(SITE, ask_key, current, state, EXPLORE)
        params = made.variables["params"]
        f = fitness(jnp.concatenate([params["a"].reshape(-1, 4), params["b"]], axis=1))
        won = jnp.arange(f.size) == jnp.argmin(f)
        feedback = ev3x.Feedback(-f, -f[:, None], won, jnp.int32(0), TAKE)
        return proposer.learn(SITE, tell_key, state, made, feedback), f

    begin, *keys = jax.random.split(key, GENERATIONS + 1)
    state, f = jax.lax.scan(step, proposer.init(SITE, begin, current), jnp.stack(keys))
    return state.strategy, f


def direct(kind, count, key):
    """The same by evosax alone."""
    begin, *keys = jax.random.split(key, GENERATIONS + 1)
    options = {}
    if strategies.draws_about_zero(kind):
        options["sampling_fn"] = functools.partial(jax.random.normal, shape=(DIMENSIONS,))
    if count > POPULATION:
        options["num_populations"] = count // POPULATION
    with jax.ensure_compile_time_eval():
        strategy = kind(POPULATION, solution=jnp.zeros(DIMENSIONS), **options)
        params = strategy.default_params

    def around_zero(key, n):
        return jax.random.normal(key, (n, DIMENSIONS)).at[0].set(0.0)

    def step(state, key):
        ask_key, tell_key = jax.random.split(key)
        population, state = strategy.ask(ask_key, state, params)
        f = fitness(population)
        return strategy.tell(tell_key, population, f, state, params)[0], f

    _, mean_key, begin_key = jax.random.split(begin, 3)
    if not strategies.keeps_population(kind):
        n = options.get("num_populations")
        state = strategy.init(begin_key, around_zero(mean_key, n) if n else jnp.zeros(DIMENSIONS), params)
        return jax.lax.scan(step, state, jnp.stack(keys))
    ask_key, tell_key = jax.random.split(keys[0])
    population = around_zero(ask_key, POPULATION)
    first = fitness(population)
    state, f = jax.lax.scan(step, strategy.init(tell_key, population, first, params), jnp.stack(keys[1:]))
    return state, jnp.concatenate([first[None], f])


@pytest.mark.parametrize("name", NAMES)
def test_a_strategy_does_what_evosax_does(name):
    component = ev3x_evosax.component(name)
    proposer = component(population=POPULATION, std=1.0)
    count = len(proposer.labels(SITE))

    @jax.jit
    def both(key):
        ours = proposed(proposer, key)
        with strategies.foreign():
            return ours, direct(component.kind, count, key)

    (state, f), (their_state, their_f) = both(jax.random.key(3))
    assert f.shape == (GENERATIONS, count) and np.isfinite(f).all() and np.unique(f).size > count
    np.testing.assert_allclose(f, their_f, rtol=1e-4)
    assert jax.tree.structure(state) == jax.tree.structure(their_state)
    for (path, x), y in zip(jax.tree_util.tree_leaves_with_path(state), jax.tree.leaves(their_state), strict=True):
        assert x.dtype == y.dtype and not x.weak_type, path
        np.testing.assert_allclose(x, y, rtol=1e-3, atol=1e-4, err_msg=str(path))


def test_all_that_evosax_registers_is_here():
    assert {c.kind for c in ev3x_evosax.components().values()} == set(algorithms.values())
    assert {"cma_es", "open_es", "simple_ga", "sv_cma_es", "evotf_es", "random_search"} <= set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_its_parameters_are_known_without_building_it(name):
    component = ev3x_evosax.component(name)
    built = strategies.build(component.kind, 8, DIMENSIONS, component()._options())
    assert set(strategies.parameter_types(component.kind)) == set(vars(built.params))


def test_equal_options_share_one_strategy():
    first, again = (
        ev3x_evosax.component("open_es").build({"optimizer": {"name": "adam", "learning_rate": 0.1}}) for _ in range(2)
    )
    params = {"w": jnp.zeros(5)}
    assert first == again and first._built(params).strategy is again._built(params).strategy


def test_a_strategy_built_in_a_trace_leaves_nothing_of_it():
    component = ev3x_evosax.component("cma_es")
    current = {"params": {"w": jnp.zeros(11)}}  # a length of its own: nothing is cached yet
    init = jax.jit(lambda key, n: component(population=n).init(SITE, key, current), static_argnums=1)
    init(jax.random.key(0), 6)
    with jax.checking_leaks():
        init(jax.random.key(0), 10)
    assert np.isfinite(component(population=6)._built(current["params"]).params.weights).all()


def test_a_strategy_that_options_cannot_build_says_so():
    class Odd(CMA_ES):
        """Odd one."""

        def __init__(self, population_size, solution, oracle):
            raise NotImplementedError

    odd = registry._component(Odd)
    assert odd.__doc__.startswith("Cannot be used: evosax's Odd needs oracle")
    with pytest.raises(ev3x.OptionError, match="evosax's Odd needs oracle, which no option can say"):
        odd.build({})
