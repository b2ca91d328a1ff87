"""EV3's own proposer against separate optax runs, and what becomes of optimizer states."""

import dataclasses
import inspect

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from toys import Toy, Tracking, examples, same, sgd

import ev3x
from ev3x.builtin.proposers.trajectories import Trajectories
from ev3x.core.adapt import undecided
from ev3x.training.optimizers import OPTIMIZERS

EXPLORE = ev3x.Explore(examples(0, 64), batch_size=8)
KEY = jax.random.key(3)
LOSSES = [{"name": "xent", "temperature": 0.5}, {"name": "xent", "temperature": 2.0}, "hinge"]
STEPPERS = [sgd(0.1), sgd(0.3), sgd(0.05, momentum=0.9)]


def site(task=None):
    return ev3x.Site(task or Toy())


def current(task=None):
    return (task or Toy()).init(jax.random.key(1))


def propose(proposer, state=None, task=None, key=KEY):
    run, start = site(task), current(task)
    state = proposer.init(run, KEY, start) if state is None else state
    return state, jax.jit(lambda s: proposer.propose(run, key, start, s, EXPLORE))(state)


def row(tree, i):
    return jax.tree.map(lambda x: x[i], tree)


def close(a, b):
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=2e-5, atol=1e-6), a, b)


@pytest.fixture(scope="module")
def grid():
    proposer = Trajectories(losses=LOSSES, optimizers=STEPPERS, length=4)
    return proposer, *propose(proposer)


def test_labels_are_the_pairs_loss_by_loss(grid):
    proposer, _, candidates = grid
    labels = proposer.labels(site())
    assert labels[:3] == (
        "xent(temperature=0.5) | sgd(learning_rate=0.1)",
        "xent(temperature=0.5) | sgd(learning_rate=0.3)",
        "xent(temperature=0.5) | sgd(learning_rate=0.05, momentum=0.9)",
    )
    assert len(labels) == 9 and labels[8] == "hinge | sgd(learning_rate=0.05, momentum=0.9)"
    assert candidates.eligible.all() and int(candidates.steps) == 36


@pytest.mark.parametrize("place", [0, 1, 5, 6, 8])
def test_a_pair_trained_in_a_group_ends_where_it_ends_alone(grid, place):
    _, _, candidates = grid
    alone = Trajectories(losses=[LOSSES[place // 3]], optimizers=[STEPPERS[place % 3]], length=4)
    close(row(candidates.variables, place), row(propose(alone)[1].variables, 0))


def by_hand(loss, optimizer, opt_state, steps):
    """The parameters and optimizer state after plain optax steps on the same batches."""
    task, params = Toy(), current()["params"]
    drawn = EXPLORE.draw(KEY, steps)
    for i in range(steps):
        batch = EXPLORE.batch(drawn[i])

        def value(p, batch=batch):
            return task.loss(loss, {"params": p}, batch, KEY, {"temperature": 1.0})[0].mean()

        updates, opt_state = optimizer.update(jax.grad(value)(params), opt_state, params)
        params = optax.apply_updates(params, updates)
    return params, opt_state


def feedback(k, winner, outcome=ev3x.Outcome.BETTER):
    decision = undecided(ev3x.Model(None, None, jnp.ones(1)), 0)
    won = jnp.arange(k) == winner
    return ev3x.Feedback(jnp.zeros(k), jnp.zeros((k, 1)), won, jnp.int32(outcome), decision)


@pytest.mark.loose_types("optax.adam takes a power of a float and an integer")
@pytest.mark.parametrize("losers", ["rewind", "inherit"])
@pytest.mark.parametrize("winner", [-1, 0, 1])
def test_optimizer_states_of_losers_are_rewound_or_inherit_the_winners(losers, winner):
    rules = [ev3x.Optimizer("adam", learning_rate=0.1), ev3x.Optimizer("adam", learning_rate=0.2)]
    proposer = Trajectories(losses=["xent"], optimizers=rules, length=3, losers=losers)
    state, candidates = propose(proposer)
    learned = proposer.learn(site(), KEY, state, candidates, feedback(2, winner))
    fresh = optax.adam(0.1).init(current()["params"])
    ends = [by_hand("xent", optax.adam(lr), fresh, 3) for lr in (0.1, 0.2)]
    for place in range(2):
        close(row(candidates.variables, place)["params"], ends[place][0])
        from_place = place if losers == "rewind" else winner
        expected = ends[from_place][1] if winner == from_place >= 0 else fresh
        close(jax.tree.leaves(row(learned.optimizers[0], place)), jax.tree.leaves(expected))
    if winner == -1:
        assert same(learned.optimizers, state.optimizers)


def test_optimizers_of_another_structure_do_not_inherit():
    proposer = Trajectories(losses=["xent"], optimizers=[sgd(momentum=0.9), sgd()], length=2, losers="inherit")
    state, candidates = propose(proposer)
    learned = proposer.learn(site(), KEY, state, candidates, feedback(2, 1))
    assert same(learned.optimizers[0], state.optimizers[0])


def test_a_rollback_takes_optimizer_states_back_to_the_promotion():
    proposer = Trajectories(losses=["xent"], optimizers=[sgd(momentum=0.9)], length=2)
    state, candidates = propose(proposer)
    promoted = proposer.learn(site(), KEY, state, candidates, decided(0, ev3x.Move.TAKE, promote=True))
    _, candidates = propose(proposer, promoted)
    taken = proposer.learn(site(), KEY, promoted, candidates, decided(0, ev3x.Move.TAKE, promote=False))
    assert not same(taken.optimizers, promoted.optimizers)
    _, candidates = propose(proposer, taken)
    back = proposer.learn(site(), KEY, taken, candidates, decided(-1, ev3x.Move.RESTORE, promote=False))
    assert same(back.optimizers, promoted.optimizers)


def decided(winner, move, promote):
    told = feedback(1, winner)
    return dataclasses.replace(
        told, decision=dataclasses.replace(told.decision, move=jnp.int32(move), promote=jnp.asarray(promote))
    )


def test_trajectories_stretch_without_promotions_and_return_to_their_length():
    proposer = Trajectories(losses=["xent"], optimizers=[sgd()], length=4, stretch=1.5, longest=10)
    run = site()
    state, candidates = propose(proposer)
    step = jax.jit(lambda s: proposer.propose(run, KEY, current(), s, EXPLORE))
    steps = []
    for outcome in (0, 2, 1, 3, 0):  # undecided, equivalent, worse, better, undecided
        candidates = step(state)
        steps.append(int(candidates.steps))
        state = proposer.learn(run, KEY, state, candidates, feedback(1, 0, outcome))
    assert steps == [4, 6, 9, 10, 4]
    close(row(candidates.variables, 0)["params"], by_hand("xent", optax.sgd(0.1), optax.sgd(0.1).init({}), 4)[0])


@pytest.mark.parametrize(("batches", "equal"), [("shared", True), ("fresh", False)])
def test_equal_pairs_differ_only_by_fresh_batches(batches, equal):
    proposer = Trajectories(losses=["xent", "xent"], optimizers=[sgd()], length=3, batches=batches)
    _, candidates = propose(proposer)
    assert same(row(candidates.variables, 0), row(candidates.variables, 1)) == equal


def test_auxiliary_losses_are_added_to_every_loss():
    extra = 0.5 * ev3x.Loss("hinge", temperature=2.0)
    with_extra = Trajectories(losses=["xent", "hinge"], optimizers=[sgd()], length=3, auxiliary=[extra])
    sums = [ev3x.Loss("xent") + extra, ev3x.Loss("hinge") + extra]
    _, a = propose(with_extra)
    _, b = propose(Trajectories(losses=sums, optimizers=[sgd()], length=3))
    _, plain = propose(Trajectories(losses=["xent", "hinge"], optimizers=[sgd()], length=3))
    close(a.variables, b.variables)
    assert not np.allclose(a.variables["params"]["w"], plain.variables["params"]["w"])


def test_other_collections_move_along_each_trajectory():
    task = Tracking()
    proposer = Trajectories(losses=["xent", "hinge"], optimizers=[sgd()], length=3)
    _, candidates = propose(proposer, task=task)
    mean, drawn = np.zeros(2), EXPLORE.draw(KEY, 3)
    for i in range(3):
        mean = 0.9 * mean + 0.1 * np.asarray(EXPLORE.batch(drawn[i])["x"]).mean(0)
    np.testing.assert_allclose(candidates.variables["batch_stats"]["mean"], [mean, mean], rtol=1e-5)


class Flat(Toy):
    """A toy without scalars among its parameters, which optax.sm3 does not take."""

    def init(self, key):
        return {"params": {"w": jnp.zeros((2, 1)), "b": jnp.zeros(1)}}

    def predict(self, variables, batch):
        return batch["x"] @ variables["params"]["w"][:, 0] + variables["params"]["b"][0]


@pytest.mark.loose_types("optax's optimizers mix integers and floats")
@pytest.mark.parametrize("name", sorted(OPTIMIZERS))
def test_every_optimizer_of_the_registry_takes_all_its_numbers_from_a_group(name):
    defaults = {n: p.default for n, p in inspect.signature(OPTIMIZERS[name]).parameters.items()}
    numbers = {n: x for n, x in defaults.items() if isinstance(x, float)} | {"learning_rate": 0.1}
    rules = [ev3x.Optimizer(name, **{n: x * f for n, x in numbers.items()}) for f in (1.0, 0.9)]
    proposer = Trajectories(losses=["xent"], optimizers=rules, length=2)
    run, start = site(Flat()), current(Flat())

    def two_rounds(key):
        state = proposer.init(run, key, start)
        candidates = proposer.propose(run, key, start, state, EXPLORE)
        return proposer.learn(run, key, state, candidates, feedback(2, 0)), state

    after, before = jax.eval_shape(two_rounds, KEY)
    assert jax.tree.map(lambda x: x.shape, after) == jax.tree.map(lambda x: x.shape, before)
    assert len(proposer._groups()) == 1


@pytest.mark.parametrize("number", [0.0, 0.3])
def test_schedules_are_options_too_and_survive_rewinding(number):
    schedule = {"name": "linear_schedule", "init_value": number, "end_value": 0.0, "transition_steps": 4}
    proposer = Trajectories(losses=["xent"], optimizers=[ev3x.Optimizer("sgd", learning_rate=schedule)], length=4)
    _, candidates = propose(proposer)
    moved = not np.allclose(row(candidates.variables, 0)["params"]["w"], current()["params"]["w"])
    assert moved == (number > 0)
    assert proposer == dataclasses.replace(proposer) and hash(proposer) == hash(dataclasses.replace(proposer))
