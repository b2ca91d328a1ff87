"""EV3 with one loss, one optimizer and no gate is plain optax training, bit for bit.

The batches and keys are those that `ev3x.core.loop` derives: round r of a state has `fold_in(state.key, r)`, the
proposer labelled "trajectories" gets that key folded with its name (`named`), draws the batches of all steps from it,
and step i is given `fold_in(fold_in(key, 2**31), i)`.
"""

from __future__ import annotations

import dataclasses
import functools

import jax
import jax.numpy as jnp
import optax
import pytest
import toys

import ev3x
from ev3x.builtin.adapters.accept import Accept
from ev3x.builtin.proposers.trajectories import Trajectories
from ev3x.core.loop import Limit, named

pytestmark = [pytest.mark.bits, pytest.mark.loose_types("flax and optax mix integers and floats")]

ROUNDS, STEPS = 4, 7
SGD, FRESH = "sgd with momentum", "fresh examples"
OPTIMIZERS = {
    "adamw": ev3x.Optimizer("adamw", learning_rate=1e-2, weight_decay=0.1),
    SGD: ev3x.Optimizer("sgd", learning_rate=0.1, momentum=0.9),
}
SOURCES = {
    "a finite set": toys.examples(0, 50),
    FRESH: ev3x.Generated(jax.random.key(3), toys.make),
}
# One case is quick; the others run where CI compares bits.
CASES = [
    pytest.param(o, s, id=f"{name}-{source}", marks=[] if (name, source) == (SGD, FRESH) else [pytest.mark.long])
    for name, o in OPTIMIZERS.items()
    for source, s in SOURCES.items()
]
traces: list[str] = []


@dataclasses.dataclass(frozen=True)
class Net(toys.Toy):
    """A hidden layer normalised by running statistics, and noise on the inputs: all that a loss may use."""

    def init(self, key):
        a, b = jax.random.split(key)
        params = {"w": jax.random.normal(a, (2, 16)), "b": jnp.zeros(16), "v": jax.random.normal(b, (16,))}
        return {"params": params, "batch_stats": {"mean": jnp.zeros(16), "var": jnp.ones(16)}}

    def predict(self, variables, batch):
        hidden = batch["x"] @ variables["params"]["w"]
        return self._head(variables["params"], hidden, **variables["batch_stats"])

    def loss(self, name, variables, batch, key, hypers):
        traces.append(name)
        x = batch["x"] + 0.1 * jax.random.normal(key, batch["x"].shape)
        hidden = x @ variables["params"]["w"]
        now = {"mean": hidden.mean(0), "var": hidden.var(0)}
        logits = self._head(variables["params"], hidden, **now)
        moved = jax.tree.map(lambda old, new: 0.9 * old + 0.1 * new, variables["batch_stats"], now)
        each = -jax.nn.log_sigmoid(jnp.where(batch["y"], logits, -logits))
        return each, {**variables, "batch_stats": jax.lax.stop_gradient(moved)}

    def _head(self, params, hidden, mean, var):
        normal = (hidden - mean[None]) * jax.lax.rsqrt(var + 1e-5)[None]
        return jax.nn.relu(normal + params["b"][None]) @ params["v"]


def ungated(optimizer, source):
    """EV3 reduced to training: one loss, one optimizer, and every winner is accepted."""
    proposer = Trajectories(losses=["xent"], optimizers=[optimizer], length=STEPS)
    return toys.evolver(proposer, task=Net(), adapters=(Accept(),), data=toys.splits(explore=ev3x.Explore(source, 8)))


def step(optimizer, explore, carry, drawn, key):
    """One step of plain training: the batch, the gradient of the mean loss, the update; the statistics move along."""
    variables, opt_state = carry
    batch = explore.batch(drawn)

    def objective(params):
        each, moved = Net().loss("xent", {**variables, "params": params}, batch, jax.random.fold_in(key, 0), {})
        return each.mean(), moved

    grads, moved = jax.grad(objective, has_aux=True)(variables["params"])
    updates, opt_state = optimizer.update(grads, opt_state, variables["params"])
    return {**moved, "params": optax.apply_updates(variables["params"], updates)}, opt_state


def draws(state, explore):
    """The drawn batches and the key of every step of every round."""
    for r in range(ROUNDS):
        key = named(jax.random.fold_in(state.key, r), "trajectories")
        steps = jax.random.fold_in(key, 2**31)
        yield explore.draw(key, STEPS), jax.vmap(lambda i, key=steps: jax.random.fold_in(key, i))(jnp.arange(STEPS))


def loop_of_jitted_steps(optimizer, explore, state):
    one = jax.jit(functools.partial(step, optimizer))
    carry = state.model.current, optimizer.init(state.model.current["params"])
    for drawn, keys in draws(state, explore):
        for i in range(STEPS):
            carry = one(explore, carry, drawn[i], keys[i])
    return carry


def scan(optimizer, explore, state):
    @jax.jit
    def run(explore, carry, drawn, keys):
        return jax.lax.scan(lambda c, x: (step(optimizer, explore, c, *x), None), carry, (drawn, keys))[0]

    drawn, keys = (jnp.concatenate(x) for x in zip(*draws(state, explore), strict=True))
    return run(explore, (state.model.current, optimizer.init(state.model.current["params"])), drawn, keys)


@pytest.mark.parametrize(("optimizer", "source"), CASES)
def test_rounds_without_a_gate_are_plain_training(optimizer, source):
    evolver = ungated(optimizer, source)
    start = evolver.init(0)
    state, records = evolver.rounds(start, ROUNDS)
    (moved,) = state.proposers["trajectories"].optimizers
    assert records.steps.sum() == ROUNDS * STEPS
    assert not toys.same(start.model.current, state.model.current)

    for plain in (loop_of_jitted_steps, scan):
        variables, opt_state = plain(optimizer.build(), evolver.data.explore, start)
        assert toys.same(variables, state.model.current), plain.__name__
        assert toys.same(variables, state.model.incumbent), plain.__name__
        assert toys.same(jax.tree.map(lambda x: x[None], opt_state), moved), plain.__name__


def test_the_same_seed_gives_the_same_bits_however_the_rounds_are_called():
    evolver = ungated(OPTIMIZERS[SGD], SOURCES[FRESH])
    one, records = evolver.rounds(evolver.init(1), ROUNDS)
    again, same_records = ungated(OPTIMIZERS[SGD], SOURCES[FRESH]).rounds(evolver.init(1), ROUNDS)
    assert toys.same((one, records), (again, same_records))

    by_one = evolver.init(1)
    for _ in range(ROUNDS):
        by_one, _ = evolver.round(by_one)
    assert toys.same(one, by_one)
    assert not toys.same(one.model, evolver.rounds(evolver.init(2), ROUNDS)[0].model)


def test_all_rounds_are_one_program():
    """The loss is traced in the first call only: not for other limits, nor for an equal plan built anew."""

    def limit(rounds, steps=2**31 - 1, target=jnp.nan):
        return Limit(jnp.int32(rounds), jnp.int32(steps), jnp.float32(target))

    evolver = ungated(ev3x.Optimizer("sgd", learning_rate=0.05), SOURCES[FRESH])
    state = evolver.init(0)
    traces.clear()
    state, _ = evolver.chunk(state, limit(3), capacity=5)
    first = len(traces)
    assert first > 0
    for other in (limit(5), limit(1), limit(5, steps=10), limit(2, target=0.9)):
        state, _ = evolver.chunk(state, other, capacity=5)
    rebuilt = ungated(ev3x.Optimizer("sgd", learning_rate=0.05), SOURCES[FRESH])
    assert rebuilt.plan == evolver.plan
    assert rebuilt.plan is not evolver.plan
    rebuilt.chunk(rebuilt.init(7), limit(4), capacity=5)
    assert len(traces) == first
