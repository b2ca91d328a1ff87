"""How schedules move, what searches find, and what sharing costs."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from ev3x_fds import Schedule, fds, random_search, search, spread, train
from fds_problems import same

RATE, DECAY = Schedule("learning_rate", windows=2, step=0.1), Schedule("weight_decay", step=1e-3, high=5e-3)
BOTH = (RATE, DECAY)
KEY = jax.random.key(0)


def gradient(rates, decay=0.0):
    return {"learning_rate": jnp.array(rates, jnp.float32), "weight_decay": jnp.array([decay], jnp.float32)}


def after(*steps, update="sign", schedules=BOTH, tolerance=0.05):
    """The search after hypergradients; None for a run that was not finite."""
    state = search.begun(schedules, update)
    for step in steps:
        found = gradient([jnp.nan, 1.0]) if step is None else step
        state = search.moved(schedules, update, tolerance, state, found, jnp.asarray(step is not None))
    return state


def near(found, expected):
    np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-9)


def test_values_move_against_the_sign_by_their_steps():
    state = after(gradient([-5.0, 0.0], -1e-9))
    near(state.values["learning_rate"], [0.1, 0.0])
    near(state.values["weight_decay"], [1e-3])
    near(state.steps["learning_rate"], [0.1, 0.1])


def test_a_turn_of_the_sign_halves_the_step_of_that_window_alone():
    state = after(gradient([-1.0, -1.0]), gradient([2.0, -3.0]))
    near(state.steps["learning_rate"], [0.05, 0.1])
    near(state.values["learning_rate"], [0.05, 0.2])


def test_a_gradient_of_zero_is_no_turn():
    state = after(gradient([-1.0, -1.0]), gradient([0.0, -1.0]), gradient([1.0, -1.0]))
    near(state.steps["learning_rate"], [0.1, 0.1])


def test_values_stay_in_their_ranges():
    state = after(gradient([1.0, 1.0], 1.0), *[gradient([1.0, -1.0], -1.0)] * 20)
    near(state.values["learning_rate"], [0.0, 1.0])
    near(state.values["weight_decay"], [5e-3])


def test_the_search_stops_when_all_steps_are_small_beside_their_values():
    turns = [gradient([s, s], s) for s in (-1.0, -1.0, -1.0, 1.0, -1.0, 1.0, -1.0, 1.0, -1.0)]
    stops = [bool(after(*turns[:n]).stopped) for n in range(len(turns) + 1)]
    small = [after(*turns[:n]) for n in range(len(turns) + 1)]
    expected = [all((s.steps[n] < 0.05 * s.values[n]).all() for n in s.values) for s in small]
    assert stops == expected and stops[-1] and not stops[5]


def test_a_value_of_zero_has_not_arrived():
    turns = [gradient([s, 0.0]) for s in (-1.0, -1.0, 1.0, -1.0, 1.0, -1.0, 1.0, -1.0, 1.0)]
    state = after(*turns)
    assert not state.stopped and float(state.values["learning_rate"][1]) == 0.0


@pytest.mark.parametrize("update", ["sign", "adam"])
def test_after_a_run_that_was_not_finite_values_go_half_the_way_back(update):
    good = after(gradient([-1.0, -1.0], -1.0), update=update)
    bad = after(gradient([-1.0, -1.0], -1.0), None, update=update)
    near(bad.values["learning_rate"], good.values["learning_rate"] / 2)  # the run before was at 0
    near(bad.steps["learning_rate"], [0.05, 0.05])
    assert same(bad.sound, good.sound) and not bad.stopped
    once_more = after(gradient([-1.0, -1.0], -1.0), None, None, update=update)
    near(once_more.values["learning_rate"], good.values["learning_rate"] / 4)


def test_adam_moves_by_its_step_whatever_the_size_of_the_gradient():
    state = after(gradient([-7.0, -1e-3], -1.0), update="adam")
    np.testing.assert_allclose(state.values["learning_rate"], [0.1, 0.1], rtol=1e-4)
    np.testing.assert_allclose(state.values["weight_decay"], [1e-3], rtol=1e-4)


# --- whole searches, on a badly scaled parabola


SCALES = jnp.array([1.0, 0.1], jnp.float32)
START = jnp.ones(2, jnp.float32)
WHERE = {"horizon": 20}


def loss(w, step=None):
    return 0.5 * (SCALES * w**2).sum()


def test_a_search_finds_schedules_and_keeps_all_that_it_tried():
    schedules = (Schedule("learning_rate", windows=4, step=0.2, high=2.0), Schedule("momentum", step=0.2, high=0.95))
    found = jax.jit(lambda p: fds(loss, loss, p, schedules, **WHERE))(START)
    best = int(np.argmin(found.history["value"]))
    assert best > 0 and found.value < 0.05 * loss(START)
    assert same(found.value, found.history["value"][best])
    assert same(found.schedules, {n: x[best] for n, x in found.history["schedules"].items()})
    again = train(loss, START, found.schedules, **WHERE)
    np.testing.assert_allclose(found.params, again, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(loss(again), found.value, rtol=1e-4, atol=1e-8)
    assert float(found.history["value"][0]) == float(loss(START))  # nothing moves at rates of 0


def test_searches_can_be_mapped():
    starts = jnp.stack([START, 2 * START])
    search_ = lambda p: fds(loss, loss, p, (RATE,), outer=3, **WHERE).history["value"]  # noqa: E731
    together = jax.jit(jax.vmap(search_))(starts)
    np.testing.assert_allclose(together[1], jax.jit(search_)(starts[1]), rtol=1e-5)


def test_a_search_that_stops_leaves_the_other_runs_out():
    rate = (Schedule("learning_rate", start=0.5, step=0.02, high=3.0),)
    found = jax.jit(lambda p: fds(loss, loss, p, rate, outer=10, **WHERE))(START)
    assert np.isfinite(found.history["value"]).tolist() == [True] * 2 + [False] * 9
    assert np.isnan(found.history["schedules"]["learning_rate"][2:]).all()


def test_a_search_survives_runs_that_diverge():
    """Rates above 2 diverge; the first step lands at 1e8."""
    rate = (Schedule("learning_rate", step=1e8, high=1e8),)
    found = jax.jit(lambda p: fds(loss, loss, p, rate, horizon=100, outer=30))(START)
    values = np.asarray(found.history["value"])
    assert np.isinf(values[1:10]).all() and np.isfinite(values[-1]) and found.value < 1e-2
    assert 0 < float(found.schedules["learning_rate"][0]) < 2


def test_random_search_keeps_the_best_of_its_runs():
    schedules = (Schedule("learning_rate", windows=2, high=3.0),)
    found = jax.jit(lambda k: random_search(loss, loss, START, k, schedules, runs=9, together=2, horizon=200))(KEY)
    values, tried = found.history["value"], found.history["schedules"]["learning_rate"]
    assert values.shape == (9,) and tried.shape == (9, 2) and (tried > 0).all() and (tried < 3).all()
    assert same(found.value, values.min()) and same(found.schedules["learning_rate"], tried[np.argmin(values)])
    np.testing.assert_allclose(loss(found.params), found.value, rtol=1e-5, atol=1e-12)


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"schedules": ()}, "schedules must name each hyperparameter once, got none"),
        ({"schedules": (RATE, RATE)}, "once, got learning_rate, learning_rate"),
        ({"horizon": 0}, "horizon must be an integer of at least 1, got 0"),
        ({"horizon": 5}, "schedule 'learning_rate': 2 windows do not divide a horizon of 5 steps"),
        ({"outer": 0}, "there must be at least one run, got 0"),
        ({"update": "newton"}, "update must be 'sign' or 'adam', got 'newton'"),
        ({"schedules": (DECAY,)}, "the optimizer needs 'learning_rate', got weight_decay"),
    ],
)
def test_what_a_search_cannot_use_is_refused(changes, text):
    with pytest.raises(ValueError, match=text):
        fds(loss, loss, START, **{"schedules": BOTH, "horizon": 10, **changes})


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"start": 1.5}, r"schedule 'rate': start must lie in \[0, 1\], got 1.5"),
        ({"start": -0.1}, r"start must lie in \[0, 1\], got -0.1"),
        ({"low": 1.0, "start": 1.0}, "low must be below high, got 1 and 1"),
        ({"step": 0.0}, "step must be above 0, got 0"),
        ({"step": float("nan")}, "step must be a finite number, got nan"),
        ({"windows": 0}, "windows must be an integer of at least 1, got 0"),
        ({"windows": 2.0}, "windows must be an integer of at least 1, got 2.0"),
        ({"high": True}, "high must be a finite number, got True"),
    ],
)
def test_a_schedule_that_makes_no_sense_is_refused(options, text):
    with pytest.raises(ValueError, match=text):
        Schedule("rate", **options)


# --- theorem 4.1


def test_sharing_averages_noise_and_blurs_drift():
    """sigma² / W without drift, and + epsilon² (W² - 1) / 12 with the largest."""
    steps, window, sigma, epsilon = 400, 40, 0.25, 0.08
    noise = sigma * jax.random.normal(KEY, (200, steps))
    walk = jnp.cumsum(jax.random.uniform(jax.random.key(1), (200, steps), minval=-epsilon, maxval=epsilon), axis=1)
    ramp = epsilon * jnp.arange(steps, dtype=jnp.float32)[None]
    expected = (sigma**2 / window, sigma**2 / window + epsilon**2 * (window**2 - 1) / 12, 0.01578)
    for true, error in zip((jnp.zeros((1, steps)), ramp, walk), expected, strict=True):
        means = (true + noise).reshape(-1, steps // window, window).mean(-1)
        found = jax.vmap(lambda h: spread(h, steps))(means)
        assert float(((found - true) ** 2).mean()) == pytest.approx(error, rel=0.05)


# --- digits


@pytest.mark.long
def test_on_digits_learned_schedules_beat_fixed_ones_and_ten_random_runs():
    """The protocol of docs/fds.md on four seeds; its intervals are of 16."""
    digits = pytest.importorskip("fds_digits")
    data = jax.tree.map(lambda *x: jnp.stack(x), *map(digits.loaded, range(4)))
    keys = jax.vmap(jax.random.key)(jnp.arange(4))
    learned, fixed, chance = (
        digits.measured(digits.SEARCHES[n], data, keys) for n in ("FDS", "fixed .1, .9, 5e-4", "random, 10 runs")
    )
    assert learned["validation"].mean() <= min(0.12, fixed["validation"].mean(), chance["validation"].mean())
    assert learned["accuracy"].mean() > max(fixed["accuracy"].mean(), chance["accuracy"].mean())
