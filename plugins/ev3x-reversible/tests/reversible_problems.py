"""A small network with hyperparameters of its loss, the same run without fixed point, and a task for proposers."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np

import ev3x

EXAMPLES, BATCH = 32, 8


def params(dtype=jnp.float32):
    """Two arrays."""
    a, b = jax.random.split(jax.random.key(0))
    w, v = jax.random.normal(a, (4, 6)) / 2, jax.random.normal(b, (6,)) / 2
    return {"v": v.astype(dtype), "w": w.astype(dtype)}


def hypers(dtype=jnp.float32):
    """Logarithmic penalties, one for each parameter, and the training inputs."""
    x = jax.random.normal(jax.random.key(1), (EXAMPLES, 4)).astype(dtype)
    return {"penalties": jax.tree.map(lambda w: jnp.full(w.shape, -4.0, dtype), params()), "x": x}


def drawn(step):
    """Indices of a batch."""
    return jax.random.randint(jax.random.fold_in(jax.random.key(2), step), (BATCH,), 0, EXAMPLES)


def train_loss(params, hypers, rows):
    x = hypers["x"][rows]
    penalties = jax.tree.map(lambda w, h: (jnp.exp(h) * w**2).sum(), params, hypers["penalties"])
    error = predict(params, x) - jnp.sin(x).sum(1)
    return (error**2).mean() + penalties["v"] + penalties["w"]


def meta_loss(params):
    x = jax.random.normal(jax.random.key(3), (16, 4)).astype(params["w"].dtype)
    return ((predict(params, x) - jnp.sin(x).sum(1)) ** 2).mean()


def predict(params, x):
    return jnp.tanh(x @ params["w"]) @ params["v"]


def schedules(horizon, momentum, dtype=jnp.float32, rate=0.1):
    """Rates and decays that change from step to step, and one momentum."""
    t = np.arange(horizon)
    rates = rate * (1 - momentum) * (1 + 0.5 * np.sin(t))
    return (
        jnp.asarray(rates, dtype),
        jnp.full(horizon, momentum, dtype),
        jnp.asarray(0.01 + 0.005 * np.cos(t), dtype),
    )


def plain(params, hypers, rates, momenta, decays, form="classical"):
    """The end of the same run in floating point; momenta are as they are, f[T]."""

    def step(carry, at):
        w, v = carry
        t, rate, momentum, decay = at
        g = jax.grad(train_loss)(w, hypers, drawn(t))
        g = jax.tree.map(lambda g, w: g + decay * w, g, w)
        scale, rate = (-(1 - momentum), rate) if form == "damped" else (1.0, -rate)
        v = jax.tree.map(lambda v, g: momentum * v + scale * g, v, g)
        return (jax.tree.map(lambda w, v: w + rate * v, w, v), v), None

    steps = (jnp.arange(len(rates), dtype=jnp.int32), rates, momenta, decays)
    return jax.lax.scan(step, (params, jax.tree.map(jnp.zeros_like, params)), steps)[0][0]


def rational(momentum):
    """The momentum that is really used."""
    return round(momentum * 2**16) / 2**16


def error(got, expected):
    """The relative error of the norm of a pytree."""
    assert jax.tree.structure(got) == jax.tree.structure(expected)
    x, y = (np.concatenate([np.ravel(np.asarray(v, np.float64)) for v in jax.tree.leaves(t)]) for t in (got, expected))
    return np.linalg.norm(x - y) / np.linalg.norm(y)


# --- a task: a point is to come near the mean of the examples


@dataclasses.dataclass(frozen=True)
class Point(ev3x.Task):
    """Losses: "near" the example, scaled by the hyperparameter `scale`; "steep" leaves the range; "broken" is NaN."""

    statistics: bool = False

    @property
    def metrics(self):
        return (ev3x.Metric("nearness", lambda point, batch: -((point[None] - batch["x"]) ** 2).sum(-1)),)

    @property
    def losses(self):
        return ("near", "steep", "broken")

    @property
    def hypers(self):
        return {"scale": 1.0, "parts": {"shift": np.zeros(2, np.float32)}, "whole": np.ones(2, np.int32)}

    def init(self, key):
        variables = {"params": {"at": 0.1 * jax.random.normal(key, (2,))}}
        return {**variables, "batch_stats": {"mean": jnp.zeros(2)}} if self.statistics else variables

    def predict(self, variables, batch):
        return variables["params"]["at"]

    def loss(self, name, variables, batch, key, hypers):
        target = hypers["scale"] * batch["x"] + hypers["parts"]["shift"][None]
        factor = {"near": 1.0, "steep": 1e6, "broken": jnp.nan}[name]
        if self.statistics:
            mean = 0.5 * variables["batch_stats"]["mean"] + 0.5 * batch["x"].mean(0)
            variables = {**variables, "batch_stats": {"mean": mean}}
        return factor * ((self.predict(variables, batch)[None] - target) ** 2).sum(-1), variables


@dataclasses.dataclass(frozen=True)
class Around:
    """Makes examples about a place."""

    place: tuple[float, float] = (2.0, 1.0)

    def __call__(self, key, n):
        return {"x": jnp.array([self.place]) + 0.1 * jax.random.normal(key, (n, 2))}


def explore(meta=True):
    train, other = jax.random.split(jax.random.key(11))
    made = ev3x.Explore(ev3x.Generated(other, Around()), 16) if meta else None
    return ev3x.Explore(ev3x.Arrays(Around()(train, 64)), 8, meta=made)


def evolver(proposer, task=None, meta=True):
    """A run of this proposer with a small method of built-in parts."""

    def builtin(role, name, **options):
        return ev3x.Host().build(role, f"ev3:{name}", options)

    method = ev3x.Method(
        [proposer],
        builtin("assessor", "mean_bounds", block=32),
        builtin("assessor", "published", block=32, blocks=2),
        [builtin("adapter", "promote")],
        builtin("budget", "over_run"),
    )
    assess, decide = (ev3x.Generated(k, Around()) for k in jax.random.split(jax.random.key(12)))
    return ev3x.Evolver(task or Point(), method, ev3x.Splits(explore(meta), ev3x.Assess(assess), ev3x.Decide(decide)))
