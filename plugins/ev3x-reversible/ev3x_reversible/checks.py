"""What can be wrong with the arguments of a run, in words; and schedules as columns."""

from __future__ import annotations

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from .fixed_point import DENOMINATOR, LIMIT, numerator, x64_missing

Array = jax.Array
PyTree = Any


def array(x: Any) -> Array:
    """A number as an array of the default precision; an array as it is."""
    return jnp.asarray(x, jnp.result_type(float) if isinstance(x, int | float) else None)


def number(name: str, value: Any) -> Array:
    """What a loss returned, or a ValueError unless it is one floating point number."""
    if jnp.shape(value) != () or not jnp.issubdtype(jnp.result_type(value), jnp.floating):
        got = f"{jnp.result_type(value)}{list(jnp.shape(value))}"
        raise ValueError(f"{name} must return one floating point number, got {got}")
    return jnp.asarray(value)


def horizon(rates: PyTree) -> int:
    """The number of steps, which the learning rates say."""
    shapes = {jnp.shape(x)[:1] for x in jax.tree.leaves(rates)}
    if len(shapes) != 1 or shapes == {()}:
        raise ValueError(f"rates must hold one number for each step, f[T], got shapes {sorted(map(list, shapes))}")
    ((steps,),) = shapes
    if steps < 1:
        raise ValueError("rates must hold at least one step, got horizon 0")
    return steps


def check_setting(form: str) -> None:
    """Raises where 64-bit types cannot be had, or the form of the update is unknown."""
    if x64_missing():
        raise ValueError(
            "jax_enable_x64 is off, and this JAX cannot switch it on for a while: "
            "jax.config.update('jax_enable_x64', True), or use JAX 0.8 or newer"
        )
    if form not in ("classical", "damped"):
        raise ValueError(f"form must be 'classical' or 'damped', got {form!r}")


def check_trees(params: PyTree, hypers: PyTree) -> None:
    """Raises unless the parameters are float32 or float64, and the hyperparameters floating point."""
    if not sum(math.prod(jnp.shape(x)) for x in jax.tree.leaves(params)):
        raise ValueError("params hold no numbers: there is nothing to train")
    for path, leaf in jax.tree_util.tree_leaves_with_path(params):
        if leaf.dtype not in (jnp.float32, jnp.float64):
            raise ValueError(f"params{jax.tree_util.keystr(path)} must be float32 or float64, got {leaf.dtype}")
        if not _within(leaf, -LIMIT, LIMIT):
            raise ValueError(f"params{jax.tree_util.keystr(path)} must lie in (-{LIMIT:g}, {LIMIT:g}), and be numbers")
    for path, leaf in jax.tree_util.tree_leaves_with_path(hypers):
        if not jnp.issubdtype(leaf.dtype, jnp.floating):
            raise ValueError(f"hypers{jax.tree_util.keystr(path)} must be floating point, got {leaf.dtype}")


def least_numerator(least_momentum: float | None, momenta: PyTree) -> int:
    """n of the smallest momentum n / 2^16, which is declared, or that of the momenta."""
    if least_momentum is None:
        least_momentum = smallest(momenta)
    # The same number in float32 may be nearer to another n.
    n = (
        min(map(numerator, (float(least_momentum), float(np.float32(least_momentum)))))
        if (math.isfinite(least_momentum))
        else 0
    )
    if not 0 < n < DENOMINATOR:
        raise ValueError(
            f"least_momentum must lie above 0 and below 1, also as n / {DENOMINATOR}: "
            f"got {least_momentum:g}, n = {n}{_reason(n)}"
        )
    return n


def smallest(momenta: PyTree) -> float:
    """The smallest of momenta that are not traced."""
    leaves = jax.tree.leaves(momenta)
    if any(isinstance(x, jax.core.Tracer) for x in leaves):
        raise ValueError("momenta are traced: declare least_momentum, the smallest that they may take")
    return min(float(np.asarray(x).min()) for x in leaves)


def check_schedule(rates: PyTree, momenta: PyTree, decays: PyTree, least: int) -> None:
    """Raises where a schedule that is not traced has values that cannot be used; traced ones give NaN."""
    for name, tree, low, high in (("rates", rates, -LIMIT, LIMIT), ("decays", decays, -LIMIT, LIMIT)):
        if not all(_within(x, low, high) for x in jax.tree.leaves(tree)):
            raise ValueError(f"{name} must be numbers in ({low:g}, {high:g})")
    for x in jax.tree.leaves(momenta):
        if isinstance(x, jax.core.Tracer):
            continue
        for value in (float(np.asarray(x).min()), float(np.asarray(x).max())):
            n = numerator(value) if math.isfinite(value) else 0
            if not 0 < n < DENOMINATOR:
                raise ValueError(
                    f"momenta must lie above 0 and below 1, also as n / {DENOMINATOR}: "
                    f"got {value:g}, n = {n}{_reason(n)}"
                )
            if n < least:
                raise ValueError(
                    f"momenta: {value:g} is below least_momentum, {least / DENOMINATOR:g}: what a step forgets would "
                    "not fit the tape; declare a smaller one"
                )


def columns(name: str, tree: PyTree, params: PyTree, steps: int) -> Array:
    """One column [T, 1], or one for each array of parameters, [T, L]."""
    try:
        each = jax.tree.map(lambda x, part: [x] * len(jax.tree.leaves(part)), tree, params)
    except ValueError as error:
        raise ValueError(f"{name} must be an array, or a pytree that params begin with: {error}") from None
    found = jax.tree.leaves(tree) if jax.tree_util.treedef_is_leaf(jax.tree.structure(tree)) else jax.tree.leaves(each)
    for x in found:
        if jnp.shape(x) not in ((), (steps,)) or not jnp.issubdtype(x.dtype, jnp.floating):
            raise ValueError(f"{name} must be one floating point number or {steps}, got {x.dtype}{list(jnp.shape(x))}")
    dtype = jnp.result_type(*found)
    return jnp.stack([jnp.broadcast_to(x.astype(dtype), (steps,)) for x in found], 1)


def _reason(n: int) -> str:
    return " (a momentum of 1 forgets nothing and never ends)" if n >= DENOMINATOR else " (0 forgets everything)"


def _within(x: Array, low: float, high: float) -> bool:
    """Whether all numbers lie strictly between; True of those that are traced."""
    return isinstance(x, jax.core.Tracer) or bool(np.all((np.asarray(x) > low) & (np.asarray(x) < high)))
