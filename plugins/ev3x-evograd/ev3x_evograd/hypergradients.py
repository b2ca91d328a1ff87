"""How the loss after training changes with the hyperparameters: EvoGrad's estimate, and exact one-step differentiation.

EvoGrad: Bohdal, Yang and Hospedales, NeurIPS 2021, arXiv 2106.10575.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from .noise import Kind, directions, moved, real

Array = jax.Array
PyTree = Any
TrainLoss = Callable[[PyTree, PyTree], Array]
MetaLoss = Callable[[PyTree], Array]

# Up to so many perturbed numbers, all copies are kept and evaluated together: they fit a cache.
TOGETHER = 2**20


class Hypergradient(NamedTuple):
    """The gradient of the meta loss with respect to the hyperparameters, and the meta loss f[] that it belongs to."""

    gradient: PyTree
    meta_loss: Array


def evograd(
    train_loss: TrainLoss,
    meta_loss: MetaLoss,
    params: PyTree,
    hypers: PyTree,
    key: Array,
    *,
    copies: int = 2,
    sigma: float = 1e-3,
    tau: float = 0.05,
    noise: Kind = "sign",
    antithetic: bool = False,
    regenerate: bool | None = None,
) -> Hypergradient:
    """EvoGrad's hypergradient: of the meta loss at a weighted mean of perturbed copies, through their weights alone.

    `train_loss(params, hypers)` is f_T, `meta_loss(params)` is f_V; both return one number. `params` hold float32 or
    float64; leaves of integers are left alone. `hypers` is any pytree of floating point arrays. Neither loss is
    differentiated twice, and the training loss not with respect to the parameters.

    `regenerate` makes the noise from the key each time that it is needed and evaluates the copies one after another,
    so that no more than one copy is in memory. None decides by size: yes above `TOGETHER` perturbed numbers. The noise
    is the same either way. Source: arXiv 2106.10575; its equations stand beside the lines, and in docs/evograd.md.
    """
    hypers = _checked(params, hypers)
    if copies < 2:
        raise ValueError(f"evograd: copies must be at least 2, got {copies}")
    if antithetic and copies % 2:
        raise ValueError(f"evograd: antithetic noise comes in pairs, so copies must be even, got {copies}")
    if not jnp.issubdtype(key.dtype, jax.dtypes.prng_key):
        key = jax.random.wrap_key_data(key)
    # Copy k moves by sign[k] along direction of[k], which is its own or shared with its mirror image.
    number = copies // 2 if antithetic else copies
    of = jnp.arange(copies, dtype=jnp.int32) // (copies // number)
    if regenerate is None:
        regenerate = number * sum(math.prod(x.shape) for x in jax.tree.leaves(params)) > TOGETHER
    each, move, mix = (_regenerated if regenerate else _kept)(noise, key, params, number)

    def copy(k: Array, sign: Array) -> tuple[Array, PyTree]:
        theta_k = move(of[k], sigma * sign)  # θ_k = θ + σ ε_k
        return jax.value_and_grad(train, argnums=1)(theta_k, hypers)  # ℓ_k = f_T(θ_k, λ), and ∂ℓ_k/∂λ

    def train(params: PyTree, hypers: PyTree) -> Array:
        return _number("train_loss", train_loss(params, hypers))

    def meta(amounts: Array) -> Array:
        return _number("meta_loss", meta_loss(mix(amounts)))

    ks = jnp.arange(copies, dtype=jnp.int32)
    sign = jnp.where(ks % 2 == 1, -1.0, 1.0) if antithetic else jnp.ones(copies)
    losses, slopes = each(copy, ks, sign)
    weights = jax.nn.softmax(-losses / tau)  # w = softmax(-ℓ / τ)
    sign = sign.astype(weights.dtype)
    amounts = sigma * jax.ops.segment_sum(weights * sign, of, number)  # θ* = Σ w_k θ_k = θ + σ Σ w_k ε_k
    value, along = jax.value_and_grad(meta)(amounts)
    along = sigma * sign * along[of]  # <∂f_V/∂θ*, θ_k>, but for what all k share
    # ∂f_V(θ*)/∂λ = Σ_k c_k ∂ℓ_k/∂λ, because ∂θ*/∂λ = -(1/τ) Cov_w(θ_k, ∂ℓ_k/∂λ)
    factors = -weights * (along - jnp.vdot(weights, along)) / tau
    gradient = jax.tree.map(lambda slope: jnp.tensordot(factors.astype(slope.dtype), slope, 1), slopes)
    return Hypergradient(gradient, value)


def one_step(
    train_loss: TrainLoss, meta_loss: MetaLoss, params: PyTree, hypers: PyTree, *, learning_rate: float
) -> Hypergradient:
    """The exact hypergradient of the meta loss after one gradient step, θ' = θ - η ∂f_T/∂θ (T1-T2).

    The losses are as for `evograd`, but the training loss must be twice differentiable, and all parameters floating
    point. Source: Luketina et al., ICML 2016, arXiv 1511.06727.
    """
    hypers = _checked(params, hypers)
    for path, leaf in jax.tree_util.tree_leaves_with_path(params):
        if not jnp.issubdtype(leaf.dtype, jnp.floating):
            raise ValueError(f"params{jax.tree_util.keystr(path)} are {leaf.dtype}: no gradient step moves them")

    def train(params: PyTree, hypers: PyTree) -> Array:
        return _number("train_loss", train_loss(params, hypers))

    def meta(params: PyTree) -> Array:
        return _number("meta_loss", meta_loss(params))

    step = jax.grad(train)(params, hypers)
    value, slope = jax.value_and_grad(meta)(jax.tree.map(lambda p, g: p - learning_rate * g, params, step))

    def along(hypers: PyTree) -> Array:
        return jax.jvp(lambda p: train(p, hypers), (params,), (slope,))[1]

    # ∂f_V(θ')/∂λ = -η ∂/∂λ <∂f_T/∂θ, v> with v = ∂f_V/∂θ' held fixed
    gradient = jax.tree.map(lambda g: -learning_rate * g, jax.grad(along)(hypers))
    return Hypergradient(gradient, value)


def _regenerated(noise: Kind, key: Array, params: PyTree, number: int) -> tuple[Callable[..., Any], ...]:
    """How to go through the copies, move along one direction, and along all: one after another, nothing kept."""

    def each(f: Callable[..., Any], *xs: Array) -> Any:
        return jax.lax.map(lambda x: f(*x), xs)

    def move(d: Array, amount: Array) -> PyTree:
        return moved(noise, key, params, d[None], amount[None])

    def mix(amounts: Array) -> PyTree:
        return moved(noise, key, params, jnp.arange(number, dtype=jnp.int32), amounts)

    return each, move, mix


def _kept(noise: Kind, key: Array, params: PyTree, number: int) -> tuple[Callable[..., Any], ...]:
    """The same with all directions in memory: all together."""
    stack = directions(noise, key, params, number)

    def mix(amounts: Array) -> PyTree:
        def one(x: Array, all_: Array | None) -> Array:
            return x if all_ is None else x + jnp.tensordot(amounts.astype(x.dtype), all_, 1)

        return jax.tree.map(one, params, stack)

    def move(d: Array, amount: Array) -> PyTree:
        def one(x: Array, all_: Array | None) -> Array:
            return x if all_ is None else x + amount.astype(x.dtype) * all_[d]

        return jax.tree.map(one, params, stack)

    return lambda f, *xs: jax.vmap(f)(*xs), move, mix


def _number(name: str, value: Any) -> Array:
    if jnp.shape(value) != () or not jnp.issubdtype(jnp.result_type(value), jnp.floating):
        got = f"{jnp.result_type(value)}{list(jnp.shape(value))}"
        raise ValueError(f"{name} must return one floating point number, got {got}")
    return jnp.asarray(value, jnp.float32 if jnp.result_type(value).itemsize < 4 else None)


def _checked(params: PyTree, hypers: PyTree) -> PyTree:
    """The hyperparameters as arrays, or an error that says what cannot be perturbed or differentiated."""
    for path, leaf in jax.tree_util.tree_leaves_with_path(params):
        if real(leaf) and leaf.dtype.itemsize < 4:
            raise ValueError(
                f"params{jax.tree_util.keystr(path)} are {leaf.dtype}, too coarse for small steps: "
                "keep float32 parameters and cast them in the loss"
            )
    if not any(real(leaf) for leaf in jax.tree.leaves(params)):
        raise ValueError("params hold no floating point numbers: there is nothing to perturb")
    hypers = jax.tree.map(jnp.asarray, hypers)
    if not jax.tree.leaves(hypers):
        raise ValueError("hypers hold nothing: there is nothing to differentiate by")
    for path, leaf in jax.tree_util.tree_leaves_with_path(hypers):
        if not real(leaf):
            raise ValueError(f"hypers{jax.tree_util.keystr(path)} must be floating point, got {leaf.dtype}")
    return hypers
