"""Optimizers that a run may be trained with, as functions of hyperparameters that change from step to step."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import optax

Array = jax.Array
PyTree = Any

# What stands for a gradient of exactly 0 where an update is differentiated: Adam's root of its mean square has no
# derivative there, but one beside it. The square of it times 1e-3 is still a normal number of float32.
NUDGE = 1e-15


@dataclasses.dataclass(frozen=True)
class Rule:
    """An optimizer: `init` gives its state, `step(gradient, params, state, hypers)` the next parameters and state.

    `hypers` are the numbers of this step by name; `reads` says which names it knows (None: any), `requires` which must
    be there. `smooth` says that the step has derivatives where a gradient is 0.
    """

    init: Callable[[PyTree, Mapping[str, Array]], PyTree]
    step: Callable[[PyTree, PyTree, PyTree, Mapping[str, Array]], tuple[PyTree, PyTree]]
    reads: tuple[str, ...] | None = None
    requires: tuple[str, ...] = ()
    smooth: bool = False

    def check(self, names: tuple[str, ...]) -> None:
        """Raises ValueError for hyperparameters that this optimizer does not know, or lacks."""
        known = ", ".join(self.reads or ())
        for name in names:
            if self.reads is not None and name not in self.reads:
                raise ValueError(f"schedules: the optimizer has no hyperparameter {name!r}; it has {known}")
        for name in self.requires:
            if name not in names:
                raise ValueError(f"schedules: the optimizer needs {name!r}, got {', '.join(names) or 'none'}")

    def near(self, gradient: PyTree) -> PyTree:
        """The gradient at which the step is differentiated."""
        if self.smooth:
            return gradient
        return jax.tree.map(lambda g: jnp.where(g == 0, jnp.asarray(NUDGE, g.dtype), g), gradient)


def _sgd(g: PyTree, w: PyTree, v: PyTree, hypers: Mapping[str, Array]) -> tuple[PyTree, PyTree]:
    """Gradient descent with momentum μ and weight decay ξ at the rate α, in the classical form."""

    def read(name: str, like: Array) -> Array:
        return jnp.asarray(hypers.get(name, 0.0), like.dtype)

    # v' = μ v + g + ξ w
    v = jax.tree.map(lambda v, g, w: read("momentum", v) * v + g + read("weight_decay", w) * w, v, g, w)
    # w' = w - α v'
    return jax.tree.map(lambda w, v: w - read("learning_rate", w) * v, w, v), v


SGD = Rule(
    lambda params, hypers: jax.tree.map(jnp.zeros_like, params),
    _sgd,
    reads=("learning_rate", "momentum", "weight_decay"),
    requires=("learning_rate",),
    smooth=True,
)


def chain(build: Callable[..., optax.GradientTransformation]) -> Rule:
    """The optimizer that `build(**hypers)` makes, an optax chain, with the hyperparameters of each step.

    `build` is called while a step is traced, and hands traced numbers on: `chain(optax.adamw)`,
    `chain(lambda learning_rate, norm: optax.chain(optax.clip_by_global_norm(norm), optax.sgd(learning_rate)))`,
    `chain(ev3x.Optimizer("adam", learning_rate=1e-3).build)`. Its state must not depend on the numbers.
    """

    def made(hypers: Mapping[str, Any]) -> optax.GradientTransformationExtraArgs:
        return optax.with_extra_args_support(build(**hypers))

    def init(params: PyTree, hypers: Mapping[str, Array]) -> PyTree:
        return made(_like(hypers, params)).init(params)

    def step(g: PyTree, w: PyTree, s: PyTree, hypers: Mapping[str, Array]) -> tuple[PyTree, PyTree]:
        # optax takes a power of a decay and a count, which a traced decay allows with these rules only
        with jax.numpy_dtype_promotion("standard"):
            updates, s = made(_like(hypers, w)).update(g, s, w)
        return optax.apply_updates(w, updates), s

    return Rule(init, step)


def _like(hypers: Mapping[str, Array], params: PyTree) -> dict[str, Array]:
    """The hyperparameters in the type of the parameters."""
    return {n: jnp.asarray(x, jax.tree.leaves(params)[0].dtype) for n, x in hypers.items()}
