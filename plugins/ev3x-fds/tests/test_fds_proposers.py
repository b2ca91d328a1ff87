"""FDS and RandomSchedules as proposers: what their candidates are, and what becomes of schedules."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from ev3x_fds import FDS, RandomSchedules, Schedule, hypergradient, search
from ev3x_fds.tasks import Digits
from fds_problems import Point, close, evolver, explore, same

import ev3x
from ev3x.component import OptionError

KEY = jax.random.key(21)
SCHEDULES = (Schedule("learning_rate", 2, start=0.1, step=0.05), Schedule("momentum", start=0.5))


def learner(kind=FDS, **options):
    return kind(**{"loss": ev3x.Loss("there"), "horizon": 6, "schedules": SCHEDULES, **options})


@functools.partial(jax.jit, static_argnums=(0, 1))
def proposed(proposer, task, state, key=KEY):
    return proposer.propose(ev3x.Site(task), key, task.init(KEY), state, explore())


def started(proposer, task=None):
    task = task or Point()
    return proposer.init(ev3x.Site(task), KEY, task.init(KEY))


@functools.cache
def candidate():
    proposer = learner()
    state = started(proposer)
    return proposer, state, proposed(proposer, Point(), state)


def told(proposer, state, candidates, *, won=False, eligible=True, move=None, promote=False):
    """The state after a round with this outcome."""
    move = move or (ev3x.Move.TAKE if won else ev3x.Move.KEEP)
    decision = ev3x.Decision(jnp.int32(move), jnp.asarray(promote), jnp.ones(1), jnp.zeros(1, bool))
    feedback = ev3x.Feedback(jnp.zeros(1), jnp.zeros((1, 1)), jnp.array([won]), jnp.int32(0), decision)
    candidates = dataclasses.replace(candidates, eligible=jnp.array([eligible]))
    return proposer.learn(ev3x.Site(Point()), KEY, state, candidates, feedback)


# --- what a candidate is


def test_the_candidate_is_a_whole_run_from_a_fresh_start():
    """By the plain function, on batches drawn as the proposer draws them."""
    _, state, found = candidate()
    task, data = Point(), explore()
    fresh = task.init(jax.random.fold_in(ev3x.training.step_keys(KEY), 2**31))["params"]

    def loss(params, step):
        batch = data.batch(data.draw(jax.random.fold_in(KEY, step), 1)[0])
        return task.loss("there", {"params": params}, batch, KEY, {})[0].mean()

    expected = jax.jit(lambda p, s: hypergradient(loss, lambda p: p["at"].sum(), p, s, horizon=6))(fresh, state.values)
    close(found.variables["params"]["at"][0], expected.params["at"], 1e-6)
    assert found.eligible.tolist() == [True] and int(found.steps) == 6
    assert found.notes["learning_rate"].tolist() == [[np.float32(0.1)] * 2] and found.notes["meta_loss"].shape == (1,)


def test_the_current_variables_make_no_difference():
    proposer, state, found = candidate()
    elsewhere = {"params": {"at": jnp.full(2, 5.0)}}
    again = jax.jit(lambda s: proposer.propose(ev3x.Site(Point()), KEY, elsewhere, s, explore()))(state)
    assert same(again.variables, found.variables)


def test_every_round_has_weights_and_batches_of_its_own():
    proposer, state, found = candidate()
    assert not same(proposed(proposer, Point(), state, jax.random.key(1)).variables, found.variables)


def test_collections_that_losses_update_are_part_of_the_run():
    task = Point(statistics=True)
    proposer = learner(meta_batches=2)
    found = proposed(proposer, task, started(proposer, task))
    assert found.variables["batch_stats"]["n"].tolist() == [6] and (found.variables["batch_stats"]["mean"] > 0).all()
    assert np.isfinite(found.memo[0]["learning_rate"]).all()


def test_an_optimizer_may_be_scheduled_by_its_options():
    rates = (Schedule("learning_rate", 2, start=0.05, step=0.05),)
    proposer = learner(optimizer=ev3x.Optimizer("adam", learning_rate=1e-3, b1=0.8), schedules=rates)
    found = proposed(proposer, Point(), started(proposer))
    assert found.eligible.all() and (found.memo[0]["learning_rate"] < 0).all()
    assert proposer.labels(ev3x.Site(Point())) == ("there | adam(b1=0.8, learning_rate=0.001) | learning_rate x 2",)


# --- what becomes of schedules


def test_schedules_move_by_the_sign_of_their_hypergradients():
    proposer, state, found = candidate()
    after = told(proposer, state, found, won=True)
    signs = {n: np.sign(g) for n, g in found.memo[0].items()}
    expected = {s.name: np.float32(s.start) - signs[s.name] * np.float32(s.step) for s in SCHEDULES}
    close(after.values, {n: jnp.asarray(x, jnp.float32) for n, x in expected.items()}, 1e-6)
    assert all(np.abs(s).all() for s in signs.values())


def test_a_loser_moves_them_as_a_winner_does():
    proposer, state, found = candidate()
    assert same(told(proposer, state, found), told(proposer, state, found, won=True, promote=True))


def test_a_rollback_repeats_no_round():
    """The model goes back to the incumbent; the schedules go on, as they belong to no variables."""
    proposer, state, found = candidate()
    after = told(proposer, state, found, move=ev3x.Move.RESTORE)
    assert same(after, told(proposer, state, found, won=True)) and not same(after.values, state.values)


def test_a_run_that_is_not_finite_loses_and_schedules_go_half_the_way_back():
    proposer = learner(loss=ev3x.Loss("broken"), meta_loss=ev3x.Loss("there"))
    _, first, sound = candidate()
    state = told(proposer, first, sound)
    found = proposed(proposer, Point(), state)
    assert found.eligible.tolist() == [False]
    after = told(proposer, state, found, eligible=False)
    close(after.values, {n: (v + first.values[n]) / 2 for n, v in state.values.items()}, 1e-6)
    assert same(after.steps, {n: s / 2 for n, s in state.steps.items()})


def test_a_search_that_has_stopped_trains_on_without_tangents():
    proposer, state, found = candidate()
    state = state._replace(stopped=jnp.asarray(True))
    after = proposed(proposer, Point(), state)
    close(after.variables, found.variables, 1e-6)
    assert not any(g.any() for g in after.memo[0].values())
    assert same(told(proposer, state, after), state)


def test_schedules_survive_the_growth_of_the_model():
    proposer, state, _ = candidate()
    assert proposer.resize(ev3x.Site(Point()), KEY, {}, state, fresh=True) is state


def test_in_a_run_rounds_learn_whether_they_win_or_not():
    """From a rate of 0, to runs that reach the target; whatever was promoted, every round's schedule is another."""
    schedules = (Schedule("learning_rate", 2, step=0.05),)
    runs = evolver(("fds", learner(schedules=schedules, horizon=10)))
    state, records = runs.rounds(runs.init(0), 6)
    rates = np.asarray(records.notes["fds"]["learning_rate"][:, 0])
    assert (rates[0] == 0).all() and len(np.unique(rates, axis=0)) == 6
    promoted = records.decision.promote.tolist()
    assert any(promoted) and not all(promoted)
    np.testing.assert_allclose(state.model.incumbent["params"]["at"], (2.0, 1.0), atol=0.3)
    assert isinstance(state.proposers["fds"], search.Search)


# --- random schedules


def test_random_schedules_are_drawn_anew_for_each_run():
    proposer = learner(RandomSchedules, runs=3)
    found = proposed(proposer, Point(), ())
    rates = np.asarray(found.notes["learning_rate"])
    assert rates.shape == (3, 2) and len(np.unique(rates)) == 6 and (rates >= 0).all() and (rates <= 1).all()
    assert not same(proposed(proposer, Point(), (), jax.random.key(1)).notes, found.notes)
    assert found.variables["params"]["at"].shape == (3, 2) and int(found.steps) == 18
    assert [label[-4:] for label in proposer.labels(ev3x.Site(Point()))] == [" | 1", " | 2", " | 3"]


# --- errors


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"horizon": 0}, r"horizon: .*greater than or equal to 1, got 0"),
        ({"horizon": 5}, r"schedules\[0\].windows: schedule 'learning_rate': 2 windows do not divide a horizon of 5"),
        ({"schedules": ()}, r"schedules: must name at least one hyperparameter"),
        ({"schedules": (SCHEDULES[0], SCHEDULES[0])}, r"schedules\[1\].name: 'learning_rate' comes twice"),
        ({"schedules": SCHEDULES[1:]}, r"schedules: .*needs 'learning_rate', got momentum"),
        ({"optimizer": ev3x.Optimizer("adam", learning_rate=0.1)}, r"schedules: adam: unknown option 'momentum'"),
        ({"clip_tangent": 0.0}, r"clip_tangent: .*greater than 0, got 0.0"),
        ({"chunk": 0}, r"chunk: .*greater than or equal to 1, got 0"),
        ({"tolerance": 1.0}, r"tolerance: .*less than 1, got 1.0"),
    ],
)
def test_options_that_make_no_sense_are_refused(options, text):
    with pytest.raises(OptionError, match=text):
        learner(**options)


@pytest.mark.parametrize(("kind", "option"), [(FDS, "loss"), (FDS, "meta_loss"), (RandomSchedules, "loss")])
def test_an_unknown_loss_is_refused_before_the_run(kind, option):
    with pytest.raises(ValueError, match=rf"{kind.__name__}: unknown loss 'ther'; did you mean 'there'"):
        started(learner(kind, **{option: ev3x.Loss("ther")}))


def test_a_run_without_a_meta_split_is_refused():
    proposer = learner()
    assert proposer.needs == {"meta"} and not learner(RandomSchedules).needs


# --- the task


def test_digits_are_split_as_it_says():
    data = Digits().load(0)
    splits = data.splits.check()
    sizes = [splits.explore.source.size, splits.explore.meta.source.size, splits.assess.source.size]
    assert [*sizes, splits.decide.source.size, data.test.size] == [1000, 300, 100, 100, 297]
    assert splits.explore.batch_size == 32 and splits.explore.meta.batch_size == 300
    assert data.test.tree["x"].min() == 0 and data.test.tree["x"].max() == 1
    assert not same(data.test.tree["y"], Digits().load(1).test.tree["y"])


def test_the_network_of_digits_starts_as_glorot_says():
    task = Digits(hidden=500)
    params = task.init(KEY)["params"]
    assert params["hidden"]["w"].std() == pytest.approx((2 / 564) ** 0.5, rel=0.05)
    assert params["out"]["w"].std() == pytest.approx((2 / 510) ** 0.5, rel=0.05)
    batch = {"x": jnp.ones((3, 64)), "y": jnp.zeros(3, jnp.int32)}
    each, _ = task.loss("labels", {"params": params}, batch, KEY, {})
    expected = -jax.nn.log_softmax(task.predict({"params": params}, batch))[:, 0]
    np.testing.assert_allclose(each, expected, rtol=1e-5)
