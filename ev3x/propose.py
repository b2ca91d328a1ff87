"""Explore: proposers make candidates from the current variables."""

from __future__ import annotations

import abc
import dataclasses
from collections.abc import Callable
from typing import Annotated, Any, ClassVar, Literal

import jax
import jax.numpy as jnp
from typing_extensions import Doc

from .boundary import BoundaryError, Who
from .component import Component, Natural
from .data import Explore
from .task import Batch, Task, Variables, score
from .types import Candidates, Feedback

Array = jax.Array
PyTree = Any
Need = Literal["meta", "hypers", "x64"]


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
        """f of every candidate in the leading axis of xs, stacked again; a single candidate is not batched at all."""
        return _each(f, xs, self.layout.chunk)

    def scores(self, stack: Variables, batch: Batch) -> Array:
        """The scores f32[K, M, n] of stacked candidates."""
        scores: Array = _each(lambda v: score(self.task, v, batch), (stack,), self.layout.score_chunk)
        return scores


@dataclasses.dataclass(frozen=True)
class Proposer(Component):
    """Makes candidates. `propose` reads the proposer's state, only `learn` writes it, when their fate is known."""

    role: ClassVar[str] = "proposer"
    needs: ClassVar[frozenset[Need]] = frozenset()

    @abc.abstractmethod
    def labels(self, site: Site) -> tuple[str, ...]:
        """A name for each candidate, for people; their number is K."""
        raise NotImplementedError

    def init(self, site: Site, key: Array, current: Variables) -> PyTree:
        """The first state."""
        return ()

    @abc.abstractmethod
    def propose(self, site: Site, key: Array, current: Variables, state: PyTree, explore: Explore) -> Candidates:
        """K candidates."""
        raise NotImplementedError

    def learn(self, site: Site, key: Array, state: PyTree, candidates: Candidates, feedback: Feedback) -> PyTree:
        """The next state; unchanged by default, which forgets all that losers did."""
        return state

    def resize(self, site: Site, key: Array, current: Variables, state: PyTree, *, fresh: bool) -> PyTree:
        """The state for a model of another shape; a first state by default.

        Where an array of the model grew, its old entries lead. `fresh` says that the current variables do not go on
        from those before.
        """
        return self.init(site, key, current)


def _each(f: Callable[..., Any], xs: tuple[PyTree, ...], chunk: int) -> Any:
    k = jax.tree.leaves(xs)[0].shape[0]
    if k == 1:
        return jax.tree.map(lambda x: x[None], f(*jax.tree.map(lambda x: x[0], xs)))
    if chunk == 0:
        return jax.vmap(f)(*xs)
    return jax.lax.map(lambda x: f(*x), xs, batch_size=chunk if chunk > 1 else None)


def check_needs(label: str, proposer: Proposer, task: Task, explore: Explore) -> None:
    """Raise ValueError when a proposer needs what the run does not have."""
    lacks = {
        "meta": explore.meta is None and "a meta split: Explore(..., meta=Explore(...))",
        "hypers": not task.hypers and "hyperparameters: a task that declares `hypers`",
        "x64": jnp.result_type(float) != jnp.float64 and "64-bit types: jax.config.update('jax_enable_x64', True)",
    }
    for need in sorted(proposer.needs):
        if lacks[need]:
            raise ValueError(f"proposer {label!r} needs {lacks[need]}")


def checked(label: str, made: Any, current: Variables, k: int) -> Candidates:
    """These candidates, non-finite ones made ineligible; BoundaryError says where they do not match the model."""
    who = Who(label, "proposer")
    if not isinstance(made, Candidates):
        raise BoundaryError(who, f"propose must return Candidates, got {type(made).__name__}")
    expected = jax.tree.map(lambda x: jax.ShapeDtypeStruct((k, *x.shape), x.dtype), current)
    got = jax.tree.map(lambda x: jax.ShapeDtypeStruct(jnp.shape(x), jnp.result_type(x)), made.variables)
    wanted: Any = jax.tree.structure(expected)
    structure: Any = jax.tree.structure(got)
    if wanted != structure:
        raise BoundaryError(who, f"the candidates must have the model's structure {wanted}, got {structure}")
    for (path, want), have in zip(jax.tree_util.tree_leaves_with_path(expected), jax.tree.leaves(got), strict=True):
        if (want.shape, want.dtype) != (have.shape, have.dtype):
            raise BoundaryError(
                who,
                f"candidates{jax.tree_util.keystr(path)} must be {want.dtype}{list(want.shape)} "
                f"({k} candidates on the leading axis), got {have.dtype}{list(have.shape)}",
            )
    if jnp.shape(made.eligible) != (k,) or jnp.result_type(made.eligible) != jnp.bool_:
        text = f"eligible must be bools of shape ({k},), got {jnp.result_type(made.eligible)} of shape "
        raise BoundaryError(who, text + str(jnp.shape(made.eligible)))
    return dataclasses.replace(made, eligible=made.eligible & _finite(made.variables, k))


def _finite(stack: Variables, k: int) -> Array:
    """Which candidates hold finite numbers only: bool[k]."""
    flags = [
        jnp.isfinite(x).reshape(k, -1).all(axis=1)
        for x in jax.tree.leaves(stack)
        if jnp.issubdtype(x.dtype, jnp.inexact)
    ]
    return jnp.stack([jnp.ones(k, bool), *flags]).all(axis=0)


def pick(stacks: list[Variables], index: Array) -> Variables:
    """Candidate `index` of several stacks, counted through; never concatenates them."""
    picked: Variables = None
    offset = 0
    for stack in stacks:
        k = jax.tree.leaves(stack)[0].shape[0]
        local = jnp.clip(index - offset, 0, k - 1)
        here = jax.tree.map(lambda x, i=local: jax.lax.dynamic_index_in_dim(x, i, keepdims=False), stack)
        picked = here if picked is None else select(index >= offset, here, picked)
        offset += k
    return picked


def select(condition: Array, a: PyTree, b: PyTree) -> PyTree:
    """a where the scalar condition holds, else b, leaf by leaf."""
    return jax.tree.map(lambda x, y: jnp.where(condition, x, y), a, b)
