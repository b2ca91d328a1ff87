"""Nondominated fronts and crowding distances: the two numbers by which NSGA-II orders candidates."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax
from jax.typing import ArrayLike

from . import arguments, lowering
from .bits import flush
from .self_tests import Operands, StoredTest, declare

_TARGET = "ev3x_pareto_ranks"
_SPREAD = lowering.Spread(("km",), ("k", "k"), whole="km")


class ParetoRanks(NamedTuple):
    """Where each of K candidates stands among the others; see `pareto_ranks`."""

    rank: Array
    """i32[..., K], number of the front from 0; K for a candidate with a NaN"""
    crowding: Array
    """f32[..., K], crowding distance within the front; 0 for a candidate with a NaN"""


def pareto_ranks(objectives: ArrayLike) -> ParetoRanks:
    """Returns the ParetoRanks of K candidates by M objectives, each of them the larger the better.

    `objectives` is float32 [..., K, M]. A candidate dominates another if it is nowhere worse and somewhere
    better; equal ones do not dominate each other. Front 0 is dominated by nobody, front 1 by front 0 only,
    and so on. The crowding distance sums over the objectives the gap between a candidate's two neighbours
    in its front, divided by the front's range. Equal values stand in the order of their indices; the first
    and the last of a front in any objective, constant ones included, are infinitely far. An objective whose
    range in the front is zero or not finite adds nothing. Subnormal values count as zero. To prefer: lower
    rank, then larger crowding (Deb et al. 2002, sections III-A and III-B).

    The native CPU code needs O(K log K) steps for M <= 2, K^2 M / 64 word operations beyond; `definition`
    holds a K x K matrix of float32 and multiplies it once per front. Works under jit, vmap, scan and
    while_loop. Objectives that are sharded over leading axes stay where they are. Not differentiable:
    raises TypeError under grad, `lax.stop_gradient` on the argument says that none is wanted. Raises
    ValueError or TypeError at trace time, naming the argument.
    """
    return _ranks(arguments.first("pareto_ranks", "objectives", objectives, "K, M >= 1"))


def definition(objectives: Array) -> ParetoRanks:
    """Returns what `pareto_ranks` does, in plain jnp, arguments unchecked: the oracle and the fallback."""
    x = flush(objectives)
    valid = ~jnp.isnan(x).any(-1)
    rank = _peel(x, valid)
    return ParetoRanks(rank, jnp.where(valid, _crowd(x, rank), 0))


def _peel(x: Array, valid: Array) -> Array:
    """i32[..., K]: front by front, those that none of the remaining dominates."""
    better, worse = x[..., :, None, :], x[..., None, :, :]
    # NaN compares false, so that such rows neither dominate nor are dominated.
    dominates = ((better >= worse).all(-1) & (better > worse).any(-1)).astype(jnp.float32)

    def peel(state: tuple[Array, Array, Array]) -> tuple[Array, Array, Array]:
        front, remaining, rank = state
        # Sums of zeros and ones: right about zero in any precision.
        dominators = jnp.matmul(remaining.astype(jnp.float32)[..., None, :], dominates)[..., 0, :]
        peeled = remaining & (dominators == 0)
        return front + 1, remaining & ~peeled, jnp.where(peeled, front, rank)

    unranked = lowering.varying(jnp.full(valid.shape, valid.shape[-1], jnp.int32), valid)
    return lax.while_loop(lambda state: state[1].any(), peel, (jnp.int32(0), valid, unranked))[2]


def _crowd(x: Array, rank: Array) -> Array:
    """f32[..., K], with no regard to NaN: those stand in a front of their own."""
    values = jnp.swapaxes(x, -1, -2)
    front, index = (jnp.broadcast_to(a, values.shape) for a in (rank[..., None, :], jnp.arange(x.shape[-2])))
    axis, size = values.ndim - 1, values.shape[-1]
    if not size:
        return jnp.zeros(rank.shape, jnp.float32)
    front, values, index = lax.sort((front, values, index.astype(jnp.int32)), dimension=axis, num_keys=2)

    edge = jnp.ones((*front.shape[:-1], 1), bool)
    change = front[..., 1:] != front[..., :-1]
    first, last = jnp.concatenate([edge, change], axis), jnp.concatenate([change, edge], axis)
    at = jnp.broadcast_to(jnp.arange(size), front.shape)
    begin = lax.cummax(jnp.where(first, at, 0), axis=axis)
    end = lax.cummin(jnp.where(last, at, size - 1), axis=axis, reverse=True)
    highest, lowest = jnp.take_along_axis(values, end, axis), jnp.take_along_axis(values, begin, axis)
    span = flush(highest - lowest)
    gap = flush(jnp.roll(values, -1, axis) - jnp.roll(values, 1, axis))
    counts = (span > 0) & (span < jnp.inf)
    share = jnp.where(counts, gap, 0) / jnp.where(counts, span, 1)
    share = jnp.where(first | last, jnp.inf, share)
    _, back = lax.sort((index, share), dimension=axis, num_keys=1)
    return back.sum(-2)


@jax.custom_jvp
def _ranks(objectives: Array) -> ParetoRanks:
    return lowering.choose(_TARGET, _call, definition, objectives, spread=_SPREAD)


@_ranks.defjvp
def _ranks_jvp(primals: tuple[Array], tangents: tuple[Array]) -> tuple[ParetoRanks, ParetoRanks]:
    raise TypeError(
        "pareto_ranks is not differentiable; pass lax.stop_gradient(objectives) where no derivative is wanted"
    )


def _call(objectives: Array) -> ParetoRanks:
    shape = objectives.shape[:-1]
    results = [jax.ShapeDtypeStruct(shape, jnp.int32), jax.ShapeDtypeStruct(shape, jnp.float32)]
    return ParetoRanks(*lowering.custom_call(_TARGET, results, objectives))


def _cases() -> dict[str, Operands]:
    """Operands for both ways of ranking, with ties, equal candidates and NaN."""
    rng = StoredTest.numbers()
    cases: dict[str, Operands] = {}
    for shape in ((2, 23, 1), (2, 23, 2), (2, 23, 3), (1, 140, 3)):  # from 128 candidates on they are sorted by digits
        x = rng.randint(-3, 4, shape).astype(np.float32)
        x[0, 5, 0] = np.nan
        cases["{} x {} x {}".format(*shape)] = (x,)
    return cases


declare(StoredTest(_TARGET, _call, definition, _cases, rtol=1e-6))
