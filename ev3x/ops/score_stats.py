"""Means, variances and paired differences of candidates' scores, with the decisions taken in double."""

import functools
import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax
from jax.typing import ArrayLike

from . import lowering, native

_CAST = "use .astype(jnp.float32)"


class ScoreStats(NamedTuple):
    """Statistics of scores [..., K, M, n] over their n examples; see `score_stats`."""

    mean: Array
    """f32[..., K, M]"""
    variance: Array
    """f32[..., K, M], unbiased: of the examples, not of the mean"""
    difference: Array
    """f32[..., K, M], mean of scores - reference on the same examples"""
    difference_variance: Array
    """f32[..., K, M], unbiased, of the per-example differences"""
    reference_mean: Array
    """f32[..., M]"""
    reference_variance: Array
    """f32[..., M]"""
    weight: Array
    """f32[..., M], sum of the weights (n without weights)"""
    square_weight: Array
    """f32[..., M], sum of the squared weights (n without weights)"""
    above: Array
    """bool[..., K, M], mean - z*se > reference mean + z*se; False where either is NaN"""
    best: Array
    """i32[..., M], argmax over K of mean - z*se; ties: lowest index; -1 if none is finite"""


def score_stats(
    scores: ArrayLike, reference: ArrayLike, weights: ArrayLike | None = None, *, z: float = 1.0
) -> ScoreStats:
    """Returns the ScoreStats of K candidates against one reference, over n examples and M metrics.

    `scores` is float32 or bool [..., K, M, n], `reference` the same dtype [..., M, n], `weights` float32
    [..., M, n], not negative (not checked). Examples of weight 0 do not count, whatever their score.

    With W the sum of the weights and Q of their squares, the variance is sum w (x - mean)^2 / (W - Q/W), that
    is / (W - 1) for weights of 0 and 1, and se = sqrt(variance * Q) / W; z = 0 leaves se out of decisions.

    A NaN or infinite score makes its row's statistics NaN, and no other row's; a NaN row is never above and
    never best. No example: NaN. One example: a mean, and NaN for its variance.

    `z` is static. Works under jit, vmap, scan and while_loop; derivatives are those of `definition`. The
    native CPU code needs its operands in memory: scores that the same jit computes elementwise from others
    are as well off with `definition`, which XLA fuses. Raises ValueError or TypeError at trace time, naming
    the argument.
    """
    arrays = _checked(scores, reference, weights)
    if not (math.isfinite(z) and z >= 0):
        raise ValueError(f"score_stats: `z` must be finite and not negative, got {z!r}")
    return _stats(*arrays, float(z))


def definition(scores: Array, reference: Array, weights: Array | None, z: float) -> ScoreStats:
    """Returns what `score_stats` does, in plain jnp, arguments unchecked: the oracle and the fallback."""
    x, y = scores.astype(jnp.float32), reference.astype(jnp.float32)[..., None, :, :]
    w = None if weights is None else weights[..., None, :, :]

    def counted(v: Array) -> Array:
        return v if w is None else jnp.where(w > 0, v, 0)

    def total(v: Array) -> Array:
        return v.sum(-1) if w is None else (w * v).sum(-1)

    weight = jnp.full(y.shape[:-1], y.shape[-1], jnp.float32) if w is None else w.sum(-1)
    square_weight = weight if w is None else (w * w).sum(-1)
    freedom = weight - square_weight / weight
    several = y.shape[-1] > 1 if w is None else (w > 0).sum(-1) > 1  # with one, freedom is 0 but for rounding
    freedom = jnp.where(several & (freedom > 0), freedom, jnp.nan)

    def rows(x: Array) -> tuple[Array, Array, Array]:
        """(shift, mean - shift, variance): a mean in two parts, so that near ones can be told apart."""
        first = total(counted(x)) / weight
        shift = lax.stop_gradient(jnp.where(jnp.isfinite(first), first, jnp.nan))
        d = counted(x - shift[..., None])
        rest = total(d) / weight
        return shift, rest, jnp.maximum(total(d * d) - weight * rest * rest, 0) / freedom

    def margin(variance: Array) -> Array:
        return z * jnp.sqrt(variance * square_weight) / weight if z else jnp.zeros_like(variance)

    shift, rest, variance = rows(x)
    difference_shift, difference, difference_variance = rows(x - y)
    reference_shift, reference_rest, reference_variance = rows(y)

    # Only small numbers are added to differences of shifts, which are exact for shifts that are near.
    bound = rest - margin(variance)
    above = (shift - reference_shift) + (bound - reference_rest) > margin(reference_variance)
    rough = jnp.where(jnp.isfinite(shift + bound), shift + bound, -jnp.inf)
    near = jnp.take_along_axis(shift, rough.argmax(-2, keepdims=True), -2)
    fine = jnp.where(jnp.isfinite(rough), (shift - near) + bound, -jnp.inf)
    best = jnp.where(jnp.isfinite(rough).any(-2), lax.argmax(fine, fine.ndim - 2, jnp.int32), -1)

    return ScoreStats(
        mean=shift + rest,
        variance=variance,
        difference=difference_shift + difference,
        difference_variance=difference_variance,
        reference_mean=(reference_shift + reference_rest)[..., 0, :],
        reference_variance=reference_variance[..., 0, :],
        weight=weight[..., 0, :],
        square_weight=square_weight[..., 0, :],
        above=above,
        best=best.astype(jnp.int32),
    )


@functools.partial(jax.custom_jvp, nondiff_argnums=(3,))
def _stats(scores: Array, reference: Array, weights: Array | None, z: float) -> ScoreStats:
    target = _target(scores, weights)
    operands = (scores, reference) if weights is None else (scores, reference, weights)
    return lowering.choose(target, functools.partial(_call, target, z=z), functools.partial(_portable, z=z), *operands)


def _portable(scores: Array, reference: Array, weights: Array | None = None, *, z: float) -> ScoreStats:
    return definition(scores, reference, weights, z=z)


@_stats.defjvp
def _stats_jvp(z: float, primals: tuple[Array, ...], tangents: tuple[Array, ...]) -> tuple[ScoreStats, ScoreStats]:
    return jax.jvp(functools.partial(definition, z=z), primals, tangents)


def _target(scores: Array, weights: Array | None) -> str:
    weighted = "" if weights is None else "weighted_"
    return f"ev3x_score_stats_{weighted}{'bool' if scores.dtype == jnp.bool_ else 'f32'}"


def _call(target: str, *operands: Array, z: float) -> ScoreStats:
    row = operands[0].shape[:-1]
    column = operands[1].shape[:-1]

    fields = [(row, jnp.float32)] * 4 + [(column, jnp.float32)] * 4 + [(row, jnp.bool_), (column, jnp.int32)]
    results = [jax.ShapeDtypeStruct(shape, dtype) for shape, dtype in fields]
    return ScoreStats(*lowering.custom_call(target, results, *operands, z=np.float64(z)))


def _checked(scores: ArrayLike, reference: ArrayLike, weights: ArrayLike | None) -> tuple[Array, Array, Array | None]:
    x, y = jnp.asarray(scores), jnp.asarray(reference)
    if x.ndim < 3 or x.shape[-3] < 1:
        raise ValueError(f"score_stats: `scores` must have shape (..., K >= 1, M, n), got {x.shape}")
    if x.dtype not in (jnp.float32, jnp.bool_):
        raise TypeError(f"score_stats: `scores` must be float32 or bool, got {x.dtype}; {_CAST}")
    column = (*x.shape[:-3], *x.shape[-2:])
    expected = f"must have shape {column} (scores without the candidate axis)"
    if y.shape != column:
        raise ValueError(f"score_stats: `reference` {expected}, got {y.shape}")
    if y.dtype != x.dtype:
        raise TypeError(f"score_stats: `reference` must be {x.dtype} like `scores`, got {y.dtype}")
    if weights is None:
        return x, y, None
    w = jnp.asarray(weights)
    if w.shape != column:
        raise ValueError(f"score_stats: `weights` {expected}, got {w.shape}")
    if w.dtype != jnp.float32:
        raise TypeError(f"score_stats: `weights` must be float32, got {w.dtype}; {_CAST}")
    return x, y, w


def _self_test(target: str) -> None:
    """Returns if the native target agrees with the definition on a small input; else RuntimeError."""
    rng = np.random.default_rng(0)
    scores = rng.normal(3, 2, (2, 3, 2, 37)).astype(np.float32)
    reference = rng.normal(3, 2, (2, 2, 37)).astype(np.float32)
    operands: list[np.ndarray] = [scores, reference]
    if target.endswith("bool"):
        operands = [scores > 2.5, reference > 3.5]
    if "weighted" in target:
        operands.append(rng.uniform(0, 2, reference.shape).astype(np.float32).round(1))
    call, portable = functools.partial(_call, target, z=1.0), functools.partial(_portable, z=1.0)
    lowering.agree(call, portable, operands, ScoreStats._fields, rtol=1e-4, atol=1e-5)


for _name in ("f32", "bool", "weighted_f32", "weighted_bool"):
    native.declare(f"ev3x_score_stats_{_name}", _self_test)
