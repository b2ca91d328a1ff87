"""A training run whose optimizer reads schedules: losses, state, and the run without tangents."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from .rules import Rule
from .schedules import Values, at

Array = jax.Array
PyTree = Any
TrainLoss = Callable[[PyTree, Array], Array]
MetaLoss = Callable[[PyTree], Array]
# The same with what a loss updates besides the parameters (batch statistics): f_T(w, rest, t) -> (loss, rest).
FullTrainLoss = Callable[[PyTree, PyTree, Array], tuple[Array, PyTree]]
FullMetaLoss = Callable[[PyTree, PyTree], Array]


class Run(NamedTuple):
    """A training run at some step: parameters, what losses update besides, optimizer state, were all losses finite."""

    params: PyTree
    rest: PyTree
    state: PyTree
    finite: Array


@dataclasses.dataclass(frozen=True)
class Options:
    """How tangents are computed, as `hypergradient` explains it."""

    chunk: int | None = None
    clip_gradient: float | None = None
    clip_tangent: float | None = None
    greedy: bool = False

    def __post_init__(self) -> None:
        if self.chunk is not None and (isinstance(self.chunk, bool) or self.chunk < 1):
            raise ValueError(f"chunk must be at least 1, or None for all columns, got {self.chunk!r}")
        for name in ("clip_gradient", "clip_tangent"):
            if (bound := getattr(self, name)) is not None and not bound > 0:
                raise ValueError(f"{name} must be above 0, or None for no bound, got {bound!r}")


def full(train_loss: TrainLoss, meta_loss: MetaLoss | None = None) -> tuple[FullTrainLoss, FullMetaLoss]:
    """The two losses for a run in which nothing but parameters moves."""

    def train(params: PyTree, rest: PyTree, step: Array) -> tuple[Array, PyTree]:
        return number("train_loss", train_loss(params, step)), rest

    def meta(params: PyTree, rest: PyTree) -> Array:
        assert meta_loss is not None
        return number("meta_loss", meta_loss(params))

    return train, meta


def begun(params: PyTree, rest: PyTree, values: Values, horizon: int, rule: Rule) -> Run:
    """The run before its first step, or a ValueError that says what cannot be trained."""
    rule.check(tuple(values))
    for path, leaf in jax.tree_util.tree_leaves_with_path(params):
        dtype = jnp.result_type(leaf)
        if not jnp.issubdtype(dtype, jnp.floating) or dtype.itemsize < 4:
            raise ValueError(
                f"params{jax.tree_util.keystr(path)} are {dtype}: a run has tangents for float32 and float64 only"
            )
    if not jax.tree.leaves(params):
        raise ValueError("params hold nothing: there is nothing to train")
    params, rest = jax.tree.map(jnp.asarray, (params, rest))
    return Run(params, rest, rule.init(params, at(values, 0, horizon)), jnp.asarray(True))


def plain(
    train: FullTrainLoss, run: Run, values: Values, horizon: int, rule: Rule, options: Options, end: Array | None = None
) -> Run:
    """The run after its last step, or before the step `end`."""

    def step(t: Array, run: Run) -> Run:
        t = jnp.asarray(t, jnp.int32)
        (value, rest), g = jax.value_and_grad(train, has_aux=True)(run.params, run.rest, t)
        g = clipped(g, options.clip_gradient)
        params, state = rule.step(g, run.params, run.state, at(values, t, horizon))
        return Run(params, rest, state, run.finite & jnp.isfinite(value))

    ended: Run = jax.lax.fori_loop(0, horizon if end is None else end, step, run)
    return ended


def clipped(tree: PyTree, bound: float | None) -> PyTree:
    """The tree with all entries within ± bound."""
    return tree if bound is None else jax.tree.map(lambda x: jnp.clip(x, -bound, bound), tree)


def number(name: str, value: Any) -> Array:
    """The value, if it is one floating-point number."""
    if jnp.shape(value) != () or not jnp.issubdtype(jnp.result_type(value), jnp.floating):
        got = f"{jnp.result_type(value)}{list(jnp.shape(value))}"
        raise ValueError(f"{name} must return one floating point number, got {got}")
    return jnp.asarray(value)
