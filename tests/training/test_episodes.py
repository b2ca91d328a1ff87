"""Episodes: each loss has the gradient that its method says, and a family is compiled once, however many episodes."""

from __future__ import annotations

import collections
import dataclasses
from typing import Annotated

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from toys import evolver, same, sgd
from typing_extensions import Doc

import ev3x
from ev3x.builtin.assessors.betting import Betting
from ev3x.builtin.assessors.mean_bounds import MeanBounds
from ev3x.builtin.proposers.trajectories import Trajectories
from ev3x.builtin.tasks.quadratics import Quadratics
from ev3x.builtin.tasks.sinusoids import Sinusoids
from ev3x.component import Count
from ev3x.core.task import score
from ev3x.training import episodes

CALLS: collections.Counter[str] = collections.Counter()


@dataclasses.dataclass(frozen=True)
class Bent(episodes.Regression):
    """A small network without biases, for points of curves that it can only bend towards."""

    support: Annotated[Count, Doc("points to adapt on")] = 4

    def init(self, key):
        a, b = jax.random.split(key)
        return {"params": {"w": jax.random.normal(a, (1, 3)), "v": jax.random.normal(b, (3, 1))}, "scale": jnp.ones(1)}

    def answer(self, variables, x):
        CALLS["answer"] += 1
        p = variables["params"]
        return jnp.tanh(x @ p["w"]) @ p["v"] * variables["scale"][:, None].astype(x.dtype)

    def episode(self, key, pool):
        where, how = jax.random.split(key)
        x = jax.random.uniform(where, (self.support + 3, 1), minval=-2.0)
        return episodes.episode(x, jnp.sin(x * (1 + jax.random.uniform(how))), support=self.support)


def drawn(seed=0, dtype=np.float32):
    """A batch of 4 episodes, and variables."""
    batch = episodes.Episodes(Bent())(jax.random.key(seed), 4)
    return jax.tree.map(lambda x: np.asarray(x, dtype), (batch, Bent().init(jax.random.key(1))))


def by(family, name, variables, batch):
    """The mean loss of a batch as a function of the parameters, compiled with its gradient."""

    def mean(params):
        each, moved = family.loss(name, {**variables, "params": params}, batch, jax.random.key(0), {})
        assert each.shape == jax.tree.leaves(batch)[0].shape[:1] and moved["scale"] is variables["scale"]
        return each.mean()

    return jax.jit(jax.value_and_grad(mean))(variables["params"])


def error(params, points):
    return jnp.square(jnp.tanh(points["x"] @ params["w"]) @ params["v"] - points["y"]).mean()


def unrolled(optimizer, steps, batch, held=lambda x: x):
    """The parameters before each step and after the last, each [n, ...], as a function of the first."""

    def path(params, support):
        state, places = optimizer.init(params), [params]
        for _ in range(steps):
            gradient = held(jax.grad(error)(params, support))
            updates, state = optimizer.update(gradient, state, params)
            params = optax.apply_updates(params, updates)
            places.append(params)
        return places

    return jax.jit(lambda params: jax.vmap(path, (None, 0))(params, batch["support"]))


def answered(paths, batch):
    """The query loss at the end of each path: [n], as a function of the first parameters."""
    return lambda params: jax.vmap(error)(paths(params)[-1], batch["query"])


def derived(of):
    """The mean of what this function returns, and its gradient."""
    return jax.jit(jax.value_and_grad(lambda params: of(params).mean()))


def flat(tree):
    """[..., P]: all parameters side by side."""
    return np.concatenate([x.reshape(*x.shape[:-2], -1) for x in jax.tree.leaves(tree)], -1)


def close(a, b, rtol=1e-10):
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=rtol, atol=1e-14), a, b)


ADAM = {"learning_rate": 0.05, "eps_root": 1e-8}  # the derivative of a square root at 0 is infinite


@pytest.mark.parametrize(
    ("optimizer", "oracle", "options"),
    [
        (sgd(0.1, momentum=0.5), optax.sgd(0.1, momentum=0.5), {"chunk": 2}),
        pytest.param(
            *(ev3x.Optimizer("adam", **ADAM), optax.adam(**ADAM), {"remat": True}),
            marks=pytest.mark.loose_types("optax raises the decay to an integer power"),
        ),
    ],
    ids=["sgd, in chunks", "adam, computed again"],
)
def test_maml_is_the_gradient_of_the_unrolled_steps(optimizer, oracle, options, ev3x_x64):
    family = Bent(inner=optimizer, steps=3, **options)
    batch, variables = drawn(dtype=np.float64)
    wanted = derived(answered(unrolled(oracle, 3, batch), batch))(variables["params"])
    assert wanted[0].dtype == jnp.float64
    close(by(family, "maml", variables, batch), wanted)


def test_the_other_losses_have_the_gradients_that_their_methods_say(ev3x_x64):
    family = Bent(inner=sgd(0.1), steps=3)
    batch, variables = drawn(dtype=np.float64)
    first_order = answered(unrolled(optax.sgd(0.1), 3, batch, jax.lax.stop_gradient), batch)
    exact, got = (by(family, name, variables, batch) for name in ("maml", "fomaml"))
    close(got, derived(first_order)(variables["params"]))
    close(got[0], exact[0])
    assert not np.allclose(got[1]["w"], exact[1]["w"], rtol=1e-3)

    places = np.stack([flat(p) for p in unrolled(optax.sgd(0.1), 3, batch)(variables["params"])])
    away = places[0] - places[-1]
    value, gradient = by(family, "reptile", variables, batch)
    close(value, (away**2).sum(1).mean() / 2)
    close(flat(gradient), away.mean(0))

    steps = places[:-1] - places[1:]
    norms = np.sqrt((steps**2).sum(-1, keepdims=True))
    value, gradient = by(family, "leap", variables, batch)
    close(value, norms.sum(0).mean())
    close(flat(gradient), (steps / norms).sum(0).mean(0))


def test_answers_are_those_of_the_adapted_model_in_chunks_or_not():
    family = Bent(inner=sgd(0.1), steps=3, chunk=0)
    batch, variables = drawn()
    whole = jax.jit(family.predict)(variables, batch)
    close(jax.jit(dataclasses.replace(family, chunk=3).predict)(variables, batch), whole, 1e-6)
    wanted = answered(unrolled(optax.sgd(0.1), 3, batch), batch)(variables["params"])
    close(score(family, variables, batch)[0], jnp.minimum(wanted, family.clip), 1e-5)


def test_a_family_is_traced_once_and_never_unrolled():
    family = Bent(steps=3, chunk=16)
    step = jax.jit(lambda v, b: family.loss("maml", v, b, jax.random.key(0), {})[0])
    CALLS.clear()
    for seed in range(3):
        batch, variables = drawn(seed)
        step(variables, batch)
        if seed == 0:
            once = CALLS["answer"]
    assert CALLS["answer"] == once > 0

    def size(n):
        shapes = jax.tree.map(lambda x: jax.ShapeDtypeStruct((n, *x.shape[1:]), x.dtype), batch)
        return str(jax.make_jaxpr(step)(variables, shapes)).count(" = ")

    assert size(10_000) == size(1_600) and size(10_000) < 3 * size(4)  # 10,000 = 625 x 16


def test_a_block_needs_copies_of_the_parameters_for_one_chunk_only():
    family = Quadratics(dimension=200, steps=2, inner=sgd(0.1, momentum=0.9))
    shapes = jax.eval_shape(lambda k: (family.init(k), episodes.Episodes(family)(k, 512)), jax.random.key(0))

    def temporaries(chunk):
        predict = dataclasses.replace(family, chunk=chunk).predict
        return jax.jit(predict).lower(*shapes).compile().memory_analysis().temp_size_in_bytes

    assert temporaries(16) < temporaries(0) / 2


def of_all(family, variables, batch):
    """Every loss of each episode, and the scores."""
    losses = {name: family.loss(name, variables, batch, jax.random.key(0), {})[0] for name in family.losses}
    return losses, score(family, variables, batch)


def test_an_episode_that_diverges_has_no_finite_loss_and_the_largest_error():
    family = Bent(inner=sgd(1e30), steps=3)
    batch, variables = drawn()
    losses, scores = jax.jit(of_all, static_argnums=0)(family, variables, batch)
    assert family.losses == ("maml", "fomaml", "reptile", "leap")
    assert not any(np.isfinite(each).any() for each in losses.values())
    assert (scores == family.clip).all()


def test_steps_that_move_nothing_are_no_direction():
    family = Bent(inner=sgd(0.0), steps=3)
    batch, variables = drawn()
    value, gradient = by(family, "leap", variables, batch)
    assert value == 0 and not any(x.any() for x in jax.tree.leaves(gradient))


def test_two_losses_compete_in_one_run_and_what_diverges_loses():
    family = Sinusoids(hidden=(8,), steps=2, batch_size=4, support=5, query=5, chunk=8)
    proposer = Trajectories(losses=["maml", "reptile"], optimizers=[sgd(0.01), sgd(1e30)], length=3)
    confirm = Betting(block=16, blocks=2)
    run = evolver(proposer, task=family, data=family.load(0).splits, select=MeanBounds(block=16), confirm=confirm)
    state, records = run.rounds(run.init(0), 3)
    assert [label.split(" | ")[0].split("/")[-1] for label in run.plan.labels()] == ["maml"] * 2 + ["reptile"] * 2
    assert records.eligible.tolist() == [[True, False, True, False]] * 3
    assert set(records.selection.winner.tolist()) <= {0, 2}
    means = np.concatenate([records.confirmation.mean.ravel(), records.selection.mean[:, [0, 2]].ravel()])
    assert (means > 0).all() and (means < family.clip).all()
    assert records.confirmation.examples.tolist() == [32] * 3 and records.steps.tolist() == [12] * 3
    assert not same(state.model.current, run.init(0).model.current)
    assert same(run.rounds(run.init(0), 3), (state, records))


@dataclasses.dataclass(frozen=True)
class Mean(Bent):
    def fit(self, predictions, points):
        return super().fit(predictions, points).mean()


@dataclasses.dataclass(frozen=True)
class Flat(Bent):
    def answer(self, variables, x):
        return super().answer(variables, x)[:, 0]


@dataclasses.dataclass(frozen=True)
class Idle(Bent):
    steps: int = 0  # of another type than the option that it replaces


def parts(s=4, q=3, **query):
    points = {n: {"x": jnp.zeros((2, k, 1)), "y": jnp.zeros((2, k, 1))} for n, k in (("support", s), ("query", q))}
    return {"support": points["support"], "query": points["query"] | query}


@pytest.mark.parametrize(
    ("family", "batch", "text"),
    [
        (Bent(), {"x": jnp.zeros((2, 1))}, r"task 'Bent': an episode must be {.support.*, got \['x'\]; return what"),
        (Bent(), jnp.zeros(2), r"an episode must be {.support.*, got ArrayImpl"),
        (Bent(), parts(s=0), "the support set is empty; give it at least one point"),
        (Bent(), parts(q=0), "the query set is empty"),
        (
            Bent(),
            parts(y=jnp.zeros((2, 2, 1))),
            'the query set must hold "x" and other entries with one axis of points',
        ),
        (Bent(), parts(x=jnp.zeros(2)), 'the query set must hold "x" and other entries with one axis of points'),
        (Bent(), parts(x=jnp.zeros((2, 3, 2))), r"points of support and query must be alike, got {'x': \(1,\), 'y': "),
        (Bent(), parts(z=jnp.zeros((2, 3))), r"points of support and query must be alike, .* 'z': \(\)"),
        (Mean(), parts(), r"fit must return one loss per point, of shape \(4,\), got float32 of shape \(\); sum over"),
        (Flat(), parts(), r"answer must return the shape of y, \(4, 1\), got float32 of shape \(4,\); give each point"),
    ],
)
def test_episodes_that_are_none_are_told(family, batch, text):
    variables = family.init(jax.random.key(0))
    for read in (lambda: family.predict(variables, batch), lambda: family.loss("leap", variables, batch, None, {})):
        with pytest.raises(ValueError, match=text):
            read()


def test_the_inner_rule_is_an_option_as_a_config_writes_it():
    assert next(o.default for o in Bent.options() if o.name == "inner") == "sgd(learning_rate=0.01)"
    family = Bent.build({"inner": {"name": "adam", "learning_rate": 0.1}, "steps": 2})
    assert family.to_config()["inner"] == {"name": "adam", "learning_rate": 0.1}
    assert Bent.build(family.to_config()) == family and hash(family) == hash(Bent.build(family.to_config()))


def test_what_can_be_told_before_any_episode_is():
    with pytest.raises(ev3x.OptionError, match=r"steps: must be greater than or equal to 1, got 0"):
        Bent(steps=0)
    with pytest.raises(ValueError, match="adaptation: steps must be at least 1, got 0"):
        Idle().predict(Idle().init(jax.random.key(0)), parts())
    with pytest.raises(ev3x.OptionError, match=r"clip: must be greater than 0"):
        Bent(clip=0.0)
    with pytest.raises(ValueError, match="unknown loss 'malm'; did you mean 'maml'"):
        Bent().loss("malm", {}, {}, jax.random.key(0), {})
    with pytest.raises(ValueError, match="stacked: must have at least one episode"):
        episodes.stacked([])
    two = [Bent(support=n).episode(jax.random.key(0), None) for n in (4, 5)]
    with pytest.raises(ValueError, match=r"shapes of the first, but episode 1 has shapes .*\(5, 1\).*: draw as many"):
        episodes.stacked(two)
    assert episodes.stacked([two[0]] * 3).tree["support"]["x"].shape == (3, 4, 1)
