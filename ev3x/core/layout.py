"""How K candidates are laid out in one program, and how one of them is taken out."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Annotated, Any

import jax
import jax.numpy as jnp
from typing_extensions import Doc

from ..component import Component, Natural
from .task import Task, score
from .types import Array, Batch, PyTree, Variables


@dataclasses.dataclass(frozen=True)
class Layout(Component):
    """How K candidates are laid out in one program.

    The defaults suit a CPU (docs/measurements.md): small models train fastest all together, while many candidates
    are scored faster, and in less memory, one after another. They were not measured on accelerators: there, try
    `Layout(score_chunk=0)`.
    """

    chunk: Annotated[Natural, Doc("candidates trained at once: 0 all (vmap), 1 one after another (lax.map)")] = 0
    score_chunk: Annotated[Natural, Doc("candidates scored at once: 0 all, 1 one after another")] = 1


@dataclasses.dataclass(frozen=True)
class Site:
    """Where a component works: the task, and how candidates are laid out."""

    task: Task
    layout: Layout = Layout()

    def each(self, f: Callable[..., Any], *xs: PyTree) -> Any:
        """f applied to each candidate on the leading axis of xs, results stacked; a single candidate is not batched."""
        return _each(f, xs, self.layout.chunk)

    def scores(self, stack: Variables, batch: Batch) -> Array:
        """The scores f32[K, M, n] of stacked candidates."""
        scores: Array = _each(lambda v: score(self.task, v, batch), (stack,), self.layout.score_chunk)
        return scores


def _each(f: Callable[..., Any], xs: tuple[PyTree, ...], chunk: int) -> Any:
    k = jax.tree.leaves(xs)[0].shape[0]
    if k == 1:
        return jax.tree.map(lambda x: x[None], f(*jax.tree.map(lambda x: x[0], xs)))
    if chunk == 0:
        return jax.vmap(f)(*xs)
    return jax.lax.map(lambda x: f(*x), xs, batch_size=chunk if chunk > 1 else None)


def pick(stacks: list[Variables], index: Array) -> Variables:
    """Candidate `index`, numbered across several stacks, which are never concatenated."""
    picked: Variables = None
    offset = 0
    for stack in stacks:
        k = jax.tree.leaves(stack)[0].shape[0]
        local = jnp.clip(index - offset, 0, k - 1)
        here = jax.tree.map(lambda x, i=local: jax.lax.dynamic_index_in_dim(x, i, keepdims=False), stack)
        picked = here if picked is None else where(index >= offset, here, picked)
        offset += k
    return picked


def where(condition: Array, a: PyTree, b: PyTree) -> PyTree:
    """a where the scalar condition holds, else b, leaf by leaf."""
    return jax.tree.map(lambda x, y: jnp.where(condition, x, y), a, b)
