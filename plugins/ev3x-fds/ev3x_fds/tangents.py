"""Forward mode through a training run: a tangent column for each window of each hyperparameter.

Micaelli and Storkey, NeurIPS 2021, arXiv 2007.07869, section 3.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from .rules import Rule
from .run import Array, FullMetaLoss, FullTrainLoss, Options, PyTree, Run, clipped, plain
from .schedules import Columns, Values, at

Chunk = tuple[Any, Any, Any]  # kind, begin and end of its columns
Tangents = tuple[list[Array], list[Array], list[Array]]  # of parameters, of the rest, of the optimizer's state


def forward(
    train: FullTrainLoss, meta: FullMetaLoss, run: Run, values: Values, horizon: int, rule: Rule, options: Options
) -> tuple[Array, dict[str, Array], Run]:
    """The meta loss after the run, its gradient by hyperparameter and window, and the run."""
    columns = Columns.of(values, horizon)
    chunks = columns.chunks(options.chunk or len(columns.kind))

    def one(chunk: Chunk) -> tuple[Array, Array, Run]:
        return _chunk(train, meta, run, values, horizon, rule, options, chunk)

    value, found, ended = one(tuple(x[0] for x in chunks))
    if len(chunks[0]) > 1:
        # One chunk after another, each with the run again: no more than one is in memory.
        others = jax.lax.map(lambda chunk: one(chunk)[1], tuple(jnp.asarray(x[1:]) for x in chunks))
        found = jnp.concatenate([found, others.reshape(-1)])
    return value, columns.gathered(found), ended


def _chunk(
    train: FullTrainLoss,
    meta: FullMetaLoss,
    run: Run,
    values: Values,
    horizon: int,
    rule: Rule,
    options: Options,
    chunk: Chunk,
) -> tuple[Array, Array, Run]:
    """The meta loss, the hypergradient f[chunk] of these columns, and the run."""
    kind, begin, end = chunk
    size, first = len(kind), begin[0]  # columns are in the order in which they begin
    if not isinstance(first, np.integer) or first > 0:
        run = plain(train, run, values, horizon, rule, options, first)

    def zeros(tree: PyTree) -> list[Array]:
        return [jnp.zeros((size, *x.shape), x.dtype) for x in reals(tree)]

    def step(t: Array, carry: tuple[Run, Tangents]) -> tuple[Run, Tangents]:
        run, tangents = carry
        active = (begin <= t) & (t < end)
        # λ_t is the value of the window that t lies in: its derivative is 1 for one column, and 0 for the others
        moves = {n: (active & (kind == k)).astype(v.dtype) for k, (n, v) in enumerate(values.items())}
        return _tangent_step(train, rule, options, run, tangents, t, at(values, t, horizon), moves)

    run, (z, rest, _) = jax.lax.fori_loop(
        first, horizon, step, (run, (zeros(run.params), zeros(run.rest), zeros(run.state)))
    )
    value, along = jax.value_and_grad(lambda x: meta(*rejoined((run.params, run.rest), x)))(
        reals((run.params, run.rest))
    )
    # df_V/dλ = Z_T · ∂f_V/∂w_T
    found = jnp.stack([_dots(a, d) for a, d in zip(along, [*z, *rest], strict=True)]).sum(0)
    return value, found, run


def _tangent_step(
    train: FullTrainLoss,
    rule: Rule,
    options: Options,
    run: Run,
    tangents: Tangents,
    t: Array,
    hypers: dict[str, Array],
    moves: dict[str, Array],
) -> tuple[Run, Tangents]:
    """One step of the run and of its tangents: Z = ∂w/∂λ and C = ∂v/∂λ, and those of what losses update besides."""
    z, r, c = tangents
    w, rest, state = reals(run.params), reals(run.rest), reals(run.state)

    def slope(w: list[Array], rest: list[Array]) -> tuple[tuple[list[Array], list[Array]], tuple[Array, PyTree]]:
        at_ = rejoined(run.params, w), rejoined(run.rest, rest)
        (value, moved), g = jax.value_and_grad(train, has_aux=True)(*at_, t)
        return (reals(g), reals(moved)), (value, moved)

    # H Z: a product of the Hessian with every column, forward over reverse
    (g, _), (hz, r), (value, moved) = _jvps(slope, (w, rest), (z, r))
    g, hz = clipped(g, options.clip_gradient), clipped(hz, options.clip_tangent)

    def update(
        g: list[Array], w: list[Array], s: list[Array], hypers: dict[str, Array]
    ) -> tuple[tuple[list[Array], list[Array]], PyTree]:
        here = rejoined(run.params, g), rejoined(run.params, w), rejoined(run.state, s)
        params, next_ = rule.step(*here, hypers)
        return (reals(params), reals(next_)), (params, next_)

    # of SGD: C' = μ C + H Z + ξ Z, + v in the momentum's active column, + w in that of the decay
    #         Z' = Z - α C', - v' in that of the rate
    _, (z, c), _ = _jvps(update, (rule.near(g), w, state, hypers), (hz, z, c, moves))
    _, (params, next_) = update(g, w, state, hypers)
    return Run(params, moved, next_, run.finite & jnp.isfinite(value)), (z, r, c)


def _jvps(f: Callable[..., Any], primals: tuple[Any, ...], tangents: tuple[Any, ...]) -> tuple[Any, Any, Any]:
    """The value of f, its derivative along each of the stacked tangents, and what f returns besides."""

    def one(tangents: tuple[Any, ...]) -> tuple[Any, Any, Any]:
        return jax.jvp(f, primals, tangents, has_aux=True)

    found: tuple[Any, Any, Any] = jax.vmap(one, out_axes=(None, 0, None))(tangents)
    return found


def reals(tree: PyTree) -> list[Array]:
    """The leaves that have derivatives."""
    return [x for x in jax.tree.leaves(tree) if jnp.issubdtype(jnp.result_type(x), jnp.floating)]


def rejoined(tree: PyTree, leaves: list[Array]) -> PyTree:
    """The tree with these in place of its `reals`."""
    new = iter(leaves)
    return jax.tree.map(lambda x: next(new) if jnp.issubdtype(jnp.result_type(x), jnp.floating) else x, tree)


def _dots(a: Array, columns: Array) -> Array:
    """The scalar product of an array with each of the columns on the leading axis."""
    return jnp.tensordot(columns.reshape(columns.shape[0], -1), a.reshape(-1), 1)
