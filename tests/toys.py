"""A task that trains in milliseconds, splits for it, and components whose outcome is known in advance."""

from __future__ import annotations

import dataclasses
import functools
from typing import Any, Literal

import jax
import jax.numpy as jnp

import ev3x
from ev3x.builtin.adapters.promote import Promote
from ev3x.builtin.assessors.mean_bounds import MeanBounds
from ev3x.builtin.assessors.published import Published
from ev3x.builtin.budgets.over_run import OverRun
from ev3x.builtin.proposers.trajectories import Trajectories


def right(logits, batch):
    return (logits > 0) == batch["y"]


def likelihood(logits, batch):
    return jax.nn.log_sigmoid(jnp.where(batch["y"], logits, -logits))


ACCURACY = ev3x.Metric("accuracy", right, binary=True)
LIKELIHOOD = ev3x.Metric("likelihood", likelihood)


@dataclasses.dataclass(frozen=True)
class Toy(ev3x.Task):
    """Two classes on a line through the plane; `measured` are its metrics."""

    measured: tuple[ev3x.Metric, ...] = (ACCURACY,)

    @property
    def metrics(self):
        return self.measured

    @property
    def losses(self):
        return ("xent", "hinge", "broken")

    @property
    def hypers(self):
        return {"temperature": 1.0}

    def init(self, key):
        return {"params": {"w": 0.1 * jax.random.normal(key, (2,)), "b": jnp.zeros(())}}

    def predict(self, variables, batch):
        p = variables["params"]
        return batch["x"] @ p["w"] + p["b"]

    def loss(self, name, variables, batch, key, hypers):
        margin = jnp.where(batch["y"], 1.0, -1.0) * self.predict(variables, batch) / hypers["temperature"]
        each = {"xent": -jax.nn.log_sigmoid(margin), "hinge": jax.nn.relu(1 - margin), "broken": jnp.nan * margin}
        return each[name], variables


@dataclasses.dataclass(frozen=True)
class Wide(Toy):
    """A toy with `width` copies of its parameters, whose predictions are the sum of theirs."""

    width: int = 1

    def init(self, key):
        return {"params": {"w": 0.1 * jax.random.normal(key, (self.width, 2)), "b": jnp.zeros(self.width)}}

    def predict(self, variables, batch):
        p = variables["params"]
        return (batch["x"] @ p["w"].T + p["b"][None]).sum(-1)


@dataclasses.dataclass(frozen=True)
class Widening(Wide):
    """A wide toy that grows to twice its width, the new part zero."""

    @property
    def growths(self):
        return ("widen",)

    def grow(self, how, key, variables):
        wider = jax.tree.map(lambda x: jnp.concatenate([x, jnp.zeros_like(x)]), variables)
        return dataclasses.replace(self, width=2 * self.width), wider


@dataclasses.dataclass(frozen=True)
class Tracking(Toy):
    """A toy with a second collection: a running mean of the inputs, moved by the loss."""

    def init(self, key):
        return {**super().init(key), "batch_stats": {"mean": jnp.zeros(2)}}

    def loss(self, name, variables, batch, key, hypers):
        each, variables = super().loss(name, variables, batch, key, hypers)
        moved = 0.9 * variables["batch_stats"]["mean"] + 0.1 * batch["x"].mean(0)
        return each, {**variables, "batch_stats": {"mean": moved}}


@dataclasses.dataclass(frozen=True)
class Shift(ev3x.Proposer):
    """Candidates that are the current variables plus a number each, so that everything is known in advance."""

    by: tuple[float | Literal["nan", "inf"], ...] = (0.0,)
    allowed: tuple[bool, ...] = ()

    def labels(self, site):
        return tuple(f"{float(x):+g}" for x in self.by)

    def propose(self, site, key, current, state, explore):
        by = jnp.array([float(x) for x in self.by])
        stack = jax.tree.map(lambda x: x[None] + by.reshape(-1, *(1,) * x.ndim), current)
        return ev3x.Candidates(stack, jnp.array(self.allowed or [True] * len(self.by)), jnp.int32(0), ())


def make(key, n):
    """n examples: the classes are one unit apart."""
    a, b = jax.random.split(key)
    y = jax.random.bernoulli(a, shape=(n,))
    return {"x": jax.random.normal(b, (n, 2)) + jnp.where(y, 0.5, -0.5)[:, None], "y": y}


def examples(seed: int, n: int) -> ev3x.Arrays:
    return ev3x.Arrays(make(jax.random.key(seed), n))


def splits(batch_size: int = 8, **given: Any) -> ev3x.Splits:
    """Endless splits, but for those given."""
    key = jax.random.key(7)
    sources = {
        n: ev3x.Generated(jax.random.fold_in(key, i), make) for i, n in enumerate(("explore", "assess", "decide"))
    }
    return ev3x.Splits(
        given.get("explore", ev3x.Explore(sources["explore"], batch_size)),
        given.get("assess", ev3x.Assess(sources["assess"])),
        given.get("decide", ev3x.Decide(sources["decide"])),
    )


def sgd(learning_rate: float = 0.1, **options: Any) -> ev3x.Optimizer:
    return ev3x.Optimizer("sgd", learning_rate=learning_rate, **options)


def method(*proposers: Any, **given: Any) -> ev3x.Method:
    """A small method, but for what is given."""
    parts: dict[str, Any] = dict(
        proposers=proposers or (Trajectories(losses=["xent"], optimizers=[sgd()], length=5),),
        select=MeanBounds(block=64),
        confirm=Published(block=64, blocks=2),
        adapters=(Promote(),),
        budget=OverRun(),
    )
    return ev3x.Method(**(parts | given))


def evolver(*proposers: Any, task: ev3x.Task | None = None, data: Any = None, **given: Any) -> ev3x.Evolver:
    layout = given.pop("layout", None)
    return ev3x.Evolver(task or Toy(), method(*proposers, **given), data or splits(), layout)


def same(a: Any, b: Any) -> bool:
    """Whether two pytrees hold the same bits."""

    def raw(x):
        return jax.random.key_data(x) if jnp.issubdtype(jnp.asarray(x).dtype, jax.dtypes.prng_key) else x

    leaves = [jax.tree.leaves(jax.tree.map(raw, t)) for t in (a, b)]
    structures: list[Any] = [jax.tree.structure(t) for t in (a, b)]
    return structures[0] == structures[1] and all(
        bool(jnp.array_equal(x, y, equal_nan=jnp.issubdtype(jnp.asarray(x).dtype, jnp.inexact)))
        for x, y in zip(*leaves, strict=True)
    )


def judge(assessor, scores, reference, weights=None, *, metrics=None, aims=None, alpha=0.05, eligible=None, read=None):
    """The assessment of scores [B, K, M, n] against a reference [B, M, n], of which `read` blocks are observed."""
    scores, reference = jnp.asarray(scores, jnp.float32), jnp.asarray(reference, jnp.float32)
    blocks, k, m, _ = scores.shape
    assessor = dataclasses.replace(assessor, blocks=blocks)
    metrics = metrics or tuple(ev3x.Metric(f"m{i}", right) for i in range(m))
    question = ev3x.Question(
        jax.random.key(0),
        jnp.float32(alpha),
        jnp.ones(m) if aims is None else jnp.asarray(aims, jnp.float32),
        jnp.ones(k, bool) if eligible is None else jnp.asarray(eligible),
    )
    return _judge(assessor, metrics, question, scores, reference, weights, blocks if read is None else read)


@functools.partial(jax.jit, static_argnums=(0, 1, 6))
def _judge(assessor, metrics, question, scores, reference, weights, read):
    evidence = assessor.begin(scores.shape[1], metrics)
    for i in range(read):
        w = None if weights is None else jnp.asarray(weights[i], jnp.float32)
        evidence = assessor.observe(
            evidence, ev3x.Block(scores[i], reference[i], w, None, jnp.int32(i)), question, metrics
        )
    return assessor.conclude(evidence, question, metrics)
