"""What the benchmarks of reversible learning train: a perceptron with tanh on scikit-learn's digits."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from sklearn.datasets import load_digits

Array = jax.Array
PyTree = Any
TRAIN = 1000


@functools.cache
def digits(seed: int = 0) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """The 1,797 scans in [0, 1] and their labels, in the order of this seed; the first `TRAIN` are to train on."""
    found = load_digits()
    order = np.random.default_rng(seed).permutation(len(found.target))
    return (found.data / 16).astype(np.float32)[order], found.target.astype(np.int32)[order]


def network(key: Array, sizes: tuple[int, ...], dtype: Any = jnp.float32) -> PyTree:
    """Fresh parameters, Glorot normal."""
    keys = jax.random.split(key, len(sizes) - 1)
    return [
        {"w": ((2 / (a + b)) ** 0.5 * jax.random.normal(k, (a, b))).astype(dtype), "b": jnp.zeros(b, dtype)}
        for k, a, b in zip(keys, sizes[:-1], sizes[1:], strict=True)
    ]


def cross_entropy(params: PyTree, x: Array, y: Array) -> Array:
    """The mean loss f[] in nats."""
    for layer in params[:-1]:
        x = jnp.tanh(x @ layer["w"] + layer["b"][None])
    logits = x @ params[-1]["w"] + params[-1]["b"][None]
    return -jnp.take_along_axis(jax.nn.log_softmax(logits), y[:, None], 1).mean()


def train_loss(params: PyTree, hypers: PyTree, batch: tuple[Array, Array]) -> Array:
    """Cross-entropy, and a penalty exp(λ) w², λ one number for each array or each parameter; [] for no penalty."""
    x, y = batch
    if not hypers:
        return cross_entropy(params, x, y)
    penalties = jax.tree.map(lambda w, h: (jnp.exp(h) * w**2).sum(), params, hypers)
    return cross_entropy(params, x, y) + sum(jax.tree.leaves(penalties))


def batches(size: int, dtype: Any = jnp.float32) -> Callable[[Array], tuple[Array, Array]]:
    """The batch of a step: as many training digits, drawn with a key of its own."""
    xs, ys = digits()
    x, y, key = jnp.asarray(xs[:TRAIN], dtype), jnp.asarray(ys[:TRAIN]), jax.random.key(7)

    def batch(step: Array) -> tuple[Array, Array]:
        drawn = jax.random.randint(jax.random.fold_in(key, step), (size,), 0, TRAIN)
        return x[drawn], y[drawn]

    return batch


def meta_loss(dtype: Any = jnp.float32) -> Callable[[PyTree], Array]:
    """Cross-entropy on 300 other digits."""
    xs, ys = digits()
    x, y = jnp.asarray(xs[TRAIN : TRAIN + 300], dtype), jnp.asarray(ys[TRAIN : TRAIN + 300])
    return lambda params: cross_entropy(params, x, y)


def plain(size: int, dtype: Any = jnp.float32) -> Callable[..., PyTree]:
    """Ordinary SGD with momentum, v ← γ v + g, w ← w - α v, as a function of what `hypergradient` gets."""
    batch = batches(size, dtype)

    def run(params: PyTree, hypers: PyTree, rates: Array, momenta: Array) -> PyTree:
        def step(carry: Any, at: Any) -> tuple[Any, None]:
            params, velocity = carry
            t, rate, momentum = at
            slope = jax.grad(train_loss)(params, hypers, batch(t))
            velocity = jax.tree.map(lambda v, g: momentum * v + g, velocity, slope)
            return (jax.tree.map(lambda w, v: w - rate * v, params, velocity), velocity), None

        steps = (jnp.arange(len(rates), dtype=jnp.int32), rates, momenta)
        return jax.lax.scan(step, (params, jax.tree.map(jnp.zeros_like, params)), steps)[0][0]

    return run
