"""A small run whose hypergradients are known by other means, and a task and data for runs of ev3x."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np

import ev3x

HORIZON = 12


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
        assert x.shape == y.shape
        np.testing.assert_allclose(x, y, rtol=rtol, atol=rtol * np.abs(y).max(initial=0))


# --- a network of one hidden layer


def network(dtype=jnp.float32):
    a, b = jax.random.split(jax.random.key(3))
    return {"hidden": {"w": jax.random.normal(a, (3, 4), dtype)}, "v": 0.5 * jax.random.normal(b, (4,), dtype)}


def train_loss(params, step):
    """f_T on the batch of a step."""
    return _loss(params, step % (len(BATCHES) - 1))


def meta_loss(params):
    return _loss(params, -1)


BATCHES = np.random.default_rng(0).normal(size=(HORIZON + 1, 8, 4)).astype(np.float32)


def _loss(params, index):
    w = params["hidden"]["w"]
    batch = jnp.asarray(BATCHES, w.dtype)[index]
    x, y = batch[:, :3], batch[:, 3]
    return ((jnp.tanh(x @ w) @ params["v"] - y) ** 2).mean()


def schedules(dtype=jnp.float32):
    """Windows of three lengths."""
    return {
        "learning_rate": jnp.array([0.1, 0.2, 0.15, 0.05], dtype),
        "momentum": jnp.array([0.9, 0.7], dtype),
        "weight_decay": jnp.array([0.02], dtype),
    }


def on_paper(params, values, horizon, bound_g=np.inf, bound_hz=np.inf):
    """(f_V, gradient) by the equations of arXiv 2007.07869 with whole Hessians, one column after another."""
    flat, restore = jax.flatten_util.ravel_pytree(params)
    slope = jax.jit(jax.grad(lambda w, t: train_loss(restore(w), t)))
    curvature = jax.jit(jax.jacfwd(slope))
    found = {n: np.zeros(len(v)) for n, v in values.items()}
    for name, value in values.items():
        for window in range(len(value)):
            w, v = np.asarray(flat), np.zeros(flat.size)
            z, c = np.zeros(flat.size), np.zeros(flat.size)
            for t in range(horizon):
                alpha, mu, xi = (float(x[t // (horizon // len(x))]) for x in values.values())
                active = t // (horizon // len(value)) == window
                g, h = np.asarray(slope(w, t)), np.asarray(curvature(w, t))
                hz = np.clip(h @ z, -bound_hz, bound_hz)
                c = mu * c + hz + xi * z + active * {"momentum": v, "weight_decay": w}.get(name, 0)
                v = mu * v + np.clip(g, -bound_g, bound_g) + xi * w
                z = z - alpha * c - active * (v if name == "learning_rate" else 0)
                w = w - alpha * v
            found[name][window] = np.asarray(jax.grad(lambda w: meta_loss(restore(w)))(jnp.asarray(w))) @ z
    return meta_loss(restore(jnp.asarray(w))), found


# --- a task: bring a point to the mean of the examples, with a running mean that decides where it is judged


def nearness(point, batch):
    return -((point[None] - batch["x"]) ** 2).sum(-1)


@dataclasses.dataclass(frozen=True)
class Point(ev3x.Task):
    """The losses are the distance to x, and one that is not a number."""

    statistics: bool = False

    @property
    def metrics(self):
        return (ev3x.Metric("nearness", nearness),)

    @property
    def losses(self):
        return ("there", "broken")

    def init(self, key):
        variables = {"params": {"at": 0.1 * jax.random.normal(key, (2,))}}
        return {**variables, "batch_stats": {"mean": jnp.zeros(2), "n": jnp.int32(0)}} if self.statistics else variables

    def predict(self, variables, batch):
        at = variables["params"]["at"]
        return at + variables["batch_stats"]["mean"] if self.statistics else at

    def loss(self, name, variables, batch, key, hypers):
        each = ((self.predict(variables, batch)[None] - batch["x"]) ** 2).sum(-1)
        if self.statistics:
            old = variables["batch_stats"]
            moved = {"mean": 0.9 * old["mean"] + 0.1 * variables["params"]["at"] ** 2, "n": old["n"] + 1}
            variables = {**variables, "batch_stats": moved}
        return each * (jnp.nan if name == "broken" else 1.0), variables


@dataclasses.dataclass(frozen=True)
class Around:
    """Makes examples about a place."""

    place: tuple[float, float] = (2.0, 1.0)

    def __call__(self, key, n):
        return {"x": jnp.array([self.place]) + 0.1 * jax.random.normal(key, (n, 2))}


def explore():
    """Training examples, and others as the meta split."""
    train, target = jax.random.split(jax.random.key(11))
    return ev3x.Explore(ev3x.Arrays(Around()(train, 64)), 8, meta=ev3x.Explore(ev3x.Generated(target, Around()), 16))


def evolver(*proposers, task=None, adapters=("promote",)):
    """A run of these proposers with a small method of built-in parts."""
    host = ev3x.Host()
    method = ev3x.Method(
        proposers,
        host.build("assessor", "ev3:mean_bounds", {"block": 32}),
        host.build("assessor", "ev3:published", {"block": 32, "blocks": 2}),
        [host.build("adapter", f"ev3:{name}", {}) for name in adapters],
        host.build("budget", "ev3:over_run", {}),
    )
    assess, decide = (ev3x.Generated(k, Around()) for k in jax.random.split(jax.random.key(12)))
    return ev3x.Evolver(task or Point(), method, ev3x.Splits(explore(), ev3x.Assess(assess), ev3x.Decide(decide)))
