"""Losses with hyperparameters of several shapes, EvoGrad as the paper writes it, and a task whose answer is known."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
from ev3x_evograd.noise import directions

import ev3x


def same(a, b) -> bool:
    """Whether two pytrees hold the same bits."""
    assert jax.tree.structure(a) == jax.tree.structure(b)
    return all(
        np.asarray(x).tobytes() == np.asarray(y).tobytes() for x, y in zip(*map(jax.tree.leaves, (a, b)), strict=True)
    )


def close(got, expected, rtol):
    """Asserts that two pytrees agree, relative to the largest number of each leaf."""
    assert jax.tree.structure(got) == jax.tree.structure(expected)
    for x, y in zip(*map(jax.tree.leaves, (got, expected)), strict=True):
        assert x.dtype == y.dtype and x.shape == y.shape
        np.testing.assert_allclose(x, y, rtol=rtol, atol=rtol * np.abs(y).max(initial=0))


# --- a network of one hidden layer, and hyperparameters that are a number, a vector and a nested tree


def network(shape=(3, 4), dtype=jnp.float32, seed=0):
    """Parameters for `train_loss` and `meta_loss`, and a number that is no parameter."""
    a, b = _keys(seed, 2)
    w, v = jax.random.normal(a, shape, dtype), 0.5 * jax.random.normal(b, shape[1:], dtype)
    return {"hidden": {"w": w}, "v": v, "count": jnp.int32(7)}


def hypers(shape=(3, 4), dtype=jnp.float32):
    """Hyperparameters for `train_loss`."""
    decay, mix = (
        1 + 0.3 * jax.random.normal(k, s, dtype) for k, s in zip(_keys(5, 2), (shape[1:], shape[:1]), strict=True)
    )
    return {"rate": jnp.asarray(0.8, dtype), "decay": decay, "deep": {"mix": [mix]}}


def train_loss(params, hypers):
    x, y = _examples(1, params)
    x = x * hypers["deep"]["mix"][0][None]
    penalty = (jnp.exp(hypers["decay"]) * params["v"] ** 2).mean()
    return (hypers["rate"] * (_predict(params, x) - y) ** 2).mean() + 0.1 * penalty


def meta_loss(params):
    x, y = _examples(2, params)
    return ((_predict(params, x) - y) ** 2).mean()


def plain(train_loss, meta_loss, params, hypers, key, *, copies, sigma, tau, noise, antithetic):
    """The hypergradient by differentiating the definition, arXiv 2106.10575, Eq. 3 to 6, and the meta loss."""
    stack = directions(noise, key, params, copies // 2 if antithetic else copies)

    def perturbed(k):
        of, sign = (k // 2, (-1.0) ** k) if antithetic else (k, 1.0)
        return jax.tree.map(lambda x, e: x if e is None else x + sigma * sign * e[of], params, stack)

    def after(hypers):
        thetas = [perturbed(k) for k in range(copies)]
        w = jax.nn.softmax(-jnp.stack([train_loss(theta, hypers) for theta in thetas]) / tau)

        def mean(x, *xs):
            return sum(w[k] * y for k, y in enumerate(xs)) if jnp.issubdtype(x.dtype, jnp.floating) else x

        return meta_loss(jax.tree.map(mean, params, *thetas))

    value, gradient = jax.value_and_grad(after)(hypers)
    return gradient, value


def _keys(seed, n):
    return jax.random.split(jax.random.key(seed), n)


def _examples(seed, params):
    a, b = _keys(seed, 2)
    w = params["hidden"]["w"]
    return jax.random.normal(a, (16, w.shape[0]), w.dtype), jax.random.normal(b, (16,), w.dtype)


def _predict(params, x):
    return jnp.tanh(x @ params["hidden"]["w"]) @ params["v"]


# --- a task: bring a point to the mean of the target examples, by training on scaled and shifted other examples


TRAIN, TARGET = (1.0, 0.5), (2.0, 1.0)  # where the examples lie: the right scale is 2, or the right shift (1, .5)


def nearness(point, batch):
    return -((point[None] - batch["x"]) ** 2).sum(-1)


@dataclasses.dataclass(frozen=True)
class Point(ev3x.Task):
    """The training loss is the distance to `scale * x + shift`; "there" that to x, "broken" is not a number."""

    statistics: bool = False
    defaults: tuple[float, float] = (1.0, 0.0)

    @property
    def metrics(self):
        return (ev3x.Metric("nearness", nearness),)

    @property
    def losses(self):
        return ("moved", "there", "broken")

    @property
    def hypers(self):
        return {"scale": self.defaults[0], "shift": {"by": np.full(2, self.defaults[1], np.float32)}}

    def init(self, key):
        variables = {"params": {"at": 0.1 * jax.random.normal(key, (2,))}}
        return {**variables, "batch_stats": {"mean": jnp.zeros(2)}} if self.statistics else variables

    def predict(self, variables, batch):
        return variables["params"]["at"]

    def loss(self, name, variables, batch, key, hypers):
        x = batch["x"]
        if name == "moved":
            x = hypers["scale"] * x + hypers["shift"]["by"][None]
        each = ((self.predict(variables, batch)[None] - x) ** 2).sum(-1) * (jnp.nan if name == "broken" else 1.0)
        if self.statistics:
            mean = 0.9 * variables["batch_stats"]["mean"] + 0.1 * batch["x"].mean(0)
            variables = {**variables, "batch_stats": {"mean": mean}}
        return each, variables


@dataclasses.dataclass(frozen=True)
class Bare(Point):
    """A task without hyperparameters."""

    @property
    def hypers(self):
        return {}


@dataclasses.dataclass(frozen=True)
class Around:
    """Makes examples about a place."""

    place: tuple[float, float]

    def __call__(self, key, n):
        return {"x": jnp.array([self.place]) + 0.1 * jax.random.normal(key, (n, 2))}


def explore(meta=True):
    """Training examples, and target examples as the meta split."""
    train, target = _keys(11, 2)
    made = ev3x.Explore(ev3x.Generated(target, Around(TARGET)), 16) if meta else None
    return ev3x.Explore(ev3x.Arrays(Around(TRAIN)(train, 64)), 8, meta=made)


def splits(meta=True):
    assess, decide = (ev3x.Generated(k, Around(TARGET)) for k in _keys(12, 2))
    return ev3x.Splits(explore(meta), ev3x.Assess(assess), ev3x.Decide(decide))


def builtin(role, name, **options):
    return ev3x.Host().build(role, f"ev3:{name}", options)


def evolver(*proposers, task=None, data=None):
    """A run of these proposers with a small method of built-in parts."""
    method = ev3x.Method(
        proposers,
        builtin("assessor", "mean_bounds", block=32),
        builtin("assessor", "published", block=32, blocks=2),
        [builtin("adapter", "promote")],
        builtin("budget", "over_run"),
    )
    return ev3x.Evolver(task or Point(), method, data or splits())
