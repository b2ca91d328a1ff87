"""Means, variances and paired differences of candidates' scores, with the decisions taken in double.

`score_stats` takes all examples at once, `ScoreMoments` some after others: begin, observe, merge, conclude.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax
from jax.typing import ArrayLike

from ..values import plain
from . import arguments, lowering
from .self_tests import Operands, StoredTest, declare

_STATS, _MOMENTS = "ev3x_score_stats", "ev3x_score_moments"
_RESULTS = ("km",) * 4 + ("m",) * 4 + ("km", "m")
_PARTS = ("km",) * 5 + ("m",) * 6
_DTYPES = ("float32", "bfloat16", "bool")
# As csrc/score_stats/score_stats.h has them: what is beyond counts as not finite, for its sums may overflow or not.
_MOST_MEAN, _MOST_SQUARES = 2.0**60, 2.0**120


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


class ScoreMoments(NamedTuple):
    """What is known of scores after some of their examples; see `score_moments`.

    A mean is the sum of two floats, so that means that are near can be told apart.
    """

    mean: Array
    """f32[..., K, M]"""
    mean_rest: Array
    """f32[..., K, M]"""
    squares: Array
    """f32[..., K, M], sum of w (x - mean)^2"""
    difference: Array
    """f32[..., K, M], mean of scores - reference"""
    difference_squares: Array
    """f32[..., K, M]"""
    reference_mean: Array
    """f32[..., M]"""
    reference_rest: Array
    """f32[..., M]"""
    reference_squares: Array
    """f32[..., M]"""
    weight: Array
    """f32[..., M], sum of the weights"""
    square_weight: Array
    """f32[..., M], sum of the squared weights"""
    examples: Array
    """i32[..., M], how many weights are not zero; in parts that were combined, at least 2 if more than one"""

    @classmethod
    def begin(cls, candidates: int, metrics: int) -> ScoreMoments:
        """Returns the ScoreMoments of no example: merged with others, it leaves them as they are."""
        own, column = jnp.zeros((candidates, metrics), jnp.float32), jnp.zeros(metrics, jnp.float32)
        return ScoreMoments(
            own, own, own, own, own, column, column, column, column, column, jnp.zeros(metrics, jnp.int32)
        )

    def observe(self, scores: ArrayLike, reference: ArrayLike, weights: ArrayLike | None = None) -> ScoreMoments:
        """Returns the ScoreMoments with those of more examples; arguments as in `score_stats`."""
        return self.merge(score_moments(scores, reference, weights))

    def merge(self, other: ScoreMoments) -> ScoreMoments:
        """Returns the ScoreMoments of the examples of both."""
        both: ScoreMoments = jax.tree.map(lambda *parts: jnp.stack(parts), self, other)
        merged: ScoreMoments = jax.tree.map(lambda x: x[0], both.combine(lambda part: part.sum(0, keepdims=True)))
        return merged

    def combine(self, total: Callable[[Array], Array]) -> ScoreMoments:
        """Returns the ScoreMoments of the examples of all parts that this one holds.

        `total` adds up over the parts: `lambda x: x.sum(0, keepdims=True)` for parts along a leading axis, which
        stays, or `lambda x: lax.psum(x, axis_name)` for one on each device. Means are combined about a common
        shift (Chan, Golub & LeVeque 1983, eq. 2.1), in float32, without cancellation. NaN stays in its row.
        """
        weight, square_weight = total(self.weight), total(self.square_weight)
        # `conclude` asks only whether there were two, and the sum over parts stays far from 2^31.
        examples = total(jnp.minimum(self.examples, 2))
        read = self.weight > 0

        def pool(
            mean: Array, rest: Array, squares: Array, w: Array, read: Array, all_: Array
        ) -> tuple[Array, Array, Array]:
            mean, rest, squares = (jnp.where(read, x, 0) for x in (mean, rest, squares))
            divisor = jnp.where(all_ > 0, all_, 1)  # of nothing, 0: `conclude` makes it NaN
            share, whole = w * _unit(all_), divisor * _unit(all_)
            shift = total(share * mean) / whole
            # The difference of means that are near is exact; the small rest, added to one of them, would be lost.
            off = (mean - shift) + rest
            excess = total(share * off) / whole
            return shift, excess, total(squares + w * jnp.square(off - excess))

        own = (self.weight[..., None, :], read[..., None, :], weight[..., None, :])
        mean, mean_rest, squares = pool(self.mean, self.mean_rest, self.squares, *own)
        none = jnp.zeros_like(self.difference)
        difference, difference_rest, difference_squares = pool(self.difference, none, self.difference_squares, *own)
        reference, reference_rest, reference_squares = pool(
            self.reference_mean, self.reference_rest, self.reference_squares, self.weight, read, weight
        )
        return ScoreMoments(
            mean,
            mean_rest,
            squares,
            difference + difference_rest,
            difference_squares,
            reference,
            reference_rest,
            reference_squares,
            weight,
            square_weight,
            examples,
        )

    def conclude(self, z: float = 1.0) -> ScoreStats:
        """Returns the ScoreStats that `score_stats` gives for all the examples together."""
        weight, square_weight = self.weight, self.square_weight
        freedom = weight - square_weight / weight
        # With one example, freedom is 0 but for rounding.
        freedom = jnp.where((self.examples > 1) & (freedom > 0), freedom, jnp.nan)

        # An infinite score makes its row NaN, whichever way the mean came out of merging; so does one that is beyond.
        def known(mean: Array, squares: Array, w: Array) -> Array:
            return jnp.where((w > 0) & (jnp.abs(mean) < _MOST_MEAN) & (squares < _MOST_SQUARES), mean, jnp.nan)

        # Not 0 * sqrt(variance) for z = 0: a single example has no variance, yet its mean decides.
        def margin(variance: Array, w: Array, q: Array) -> Array:
            return z * standard_error(variance, w, q) if z else jnp.zeros_like(variance)

        w, q, f = (x[..., None, :] for x in (weight, square_weight, freedom))
        shift, difference = known(self.mean, self.squares, w), known(self.difference, self.difference_squares, w)
        reference_shift = known(self.reference_mean, self.reference_squares, weight)
        # The mean's own NaN, whatever came of the squares of infinities.
        variance = jnp.where(jnp.isnan(shift), jnp.nan, self.squares / f)
        difference_variance = jnp.where(jnp.isnan(difference), jnp.nan, self.difference_squares / f)
        reference_variance = jnp.where(jnp.isnan(reference_shift), jnp.nan, self.reference_squares / freedom)

        # Only small numbers are added to differences of shifts, which are exact for shifts that are near.
        bound = self.mean_rest - margin(variance, w, q)
        bar = margin(reference_variance, weight, square_weight)
        above = (shift - reference_shift[..., None, :]) + (bound - self.reference_rest[..., None, :]) > bar[
            ..., None, :
        ]
        # Bounds of large means that are near may be one float. Those of the leaders are told apart by what they have
        # over the shift of one of them; who is far below rounds as before, and does not win by it.
        rough = jnp.where(jnp.isfinite(shift + bound), shift + bound, -jnp.inf)
        leading = jnp.where(rough == rough.max(-2, keepdims=True), shift, -jnp.inf)
        near = leading.max(-2, keepdims=True)
        fine = jnp.where(jnp.isfinite(rough), (shift - near) + bound, -jnp.inf)
        best = jnp.where(jnp.isfinite(rough).any(-2), lax.argmax(fine, fine.ndim - 2, jnp.int32), -1)

        return ScoreStats(
            mean=shift + self.mean_rest,
            variance=variance,
            difference=difference,
            difference_variance=difference_variance,
            reference_mean=reference_shift + self.reference_rest,
            reference_variance=reference_variance,
            weight=weight,
            square_weight=square_weight,
            above=above,
            best=best.astype(jnp.int32),
        )


def score_stats(
    scores: ArrayLike, reference: ArrayLike, weights: ArrayLike | None = None, *, z: float = 1.0
) -> ScoreStats:
    """Returns the ScoreStats of K candidates against one reference, over n examples and M metrics.

    `scores` is float32, bfloat16 or bool [..., K, M, n], `reference` the same dtype [..., M, n], `weights`
    float32 [..., M, n], not negative (not checked), 0 or from 1e-15 to 1e15. Examples of weight 0 do not count,
    whatever their score.

    With W the sum of the weights and Q of their squares, the variance is sum w (x - mean)^2 / (W - Q/W), that
    is / (W - 1) for weights of 0 and 1, and se = sqrt(variance * Q) / W; z = 0 leaves se out of decisions.

    A NaN or infinite score makes its row's statistics NaN, and no other row's; a NaN row is never above and
    never best. So is a row whose mean is 2^60 (1.15e18) or more in size, or whose sum w (x - mean)^2 is 2^120 (1.3e36)
    or more. No example: NaN. One example: a mean, and NaN for its variance.

    `z` is static. The native CPU code reads its operands from memory; what computes them in the same jit is not fused
    with it. That is the faster way all the same, but for real-valued scores of 100 MB and more that are computed
    elementwise (docs/measurements.md).

    Works under jit, vmap, scan and while_loop. Operands that are sharded over candidates, metrics, examples or
    leading axes stay where they are: only moments travel. Derivatives are those of `definition`. Raises
    ValueError or TypeError at trace time, naming the argument.
    """
    arrays = _checked("score_stats", scores, reference, weights)
    z = plain(z)
    if isinstance(z, bool) or not isinstance(z, int | float) or not (math.isfinite(z) and z >= 0):
        raise ValueError(f"score_stats: `z` must be finite and not negative, got {z!r}")
    return _stats(*arrays, float(z))


def score_moments(scores: ArrayLike, reference: ArrayLike, weights: ArrayLike | None = None) -> ScoreMoments:
    """Returns the ScoreMoments of these examples; arguments and transformations as in `score_stats`."""
    return _moments(*_checked("score_moments", scores, reference, weights))


def definition(scores: Array, reference: Array, weights: Array | None, z: float) -> ScoreStats:
    """Returns what `score_stats` does, in plain jnp, arguments unchecked: the oracle and the fallback."""
    return _define_moments(scores, reference, weights).conclude(z)


def _define_moments(scores: Array, reference: Array, weights: Array | None = None) -> ScoreMoments:
    """Returns what `score_moments` does, in plain jnp, arguments unchecked."""
    x, y = scores.astype(jnp.float32), reference.astype(jnp.float32)[..., None, :, :]
    w = None if weights is None else weights[..., None, :, :]

    def counted(v: Array) -> Array:
        return v if w is None else jnp.where(w > 0, v, 0)

    def total(v: Array) -> Array:
        if weights is None:
            return v.sum(-1)
        # On the CPU up to ten times as fast as a sum of products, and as exact.
        exact = lax.Precision.HIGHEST  # accelerators round the factors of a product otherwise
        return jnp.einsum("...kmci,...mci->...kmc", _blocks(v), _blocks(weights), precision=exact).sum(-1)

    weight = jnp.full(y.shape[:-1], y.shape[-1], jnp.float32) if w is None else w.sum(-1)
    square_weight = weight if w is None else (w * w).sum(-1)
    examples = jnp.full(y.shape[:-1], y.shape[-1]) if w is None else (w > 0).sum(-1)

    def rows(x: Array) -> tuple[Array, Array, Array]:
        divisor, unit = jnp.where(weight > 0, weight, 1), _unit(weight)
        # Two passes: the second, about the mean as the first has rounded it, finds what the rounding took (`rest`) and
        # corrects the squares for it. Whatever the shift, the results are the same: no derivative goes through it.
        first = total(counted(x) * unit[..., None]) / (divisor * unit)
        shift = lax.stop_gradient(jnp.where(jnp.isfinite(first), first, jnp.nan))
        d = counted(x - shift[..., None])
        rest = total(d) / divisor
        return shift, rest, jnp.maximum(total(d * d) - weight * rest * rest, 0)

    shift, rest, squares = rows(x)
    difference_shift, difference_rest, difference_squares = rows(x - y)
    reference_parts = (a[..., 0, :] for a in (*rows(y), weight, square_weight, examples.astype(jnp.int32)))
    return ScoreMoments(shift, rest, squares, difference_shift + difference_rest, difference_squares, *reference_parts)


def standard_error(variance: Array, weight: Array, square_weight: Array) -> Array:
    """The standard error of a mean, without the product of variance and weights: that may overflow."""
    return jnp.sqrt(variance) * (jnp.sqrt(square_weight) / weight)


def _unit(weight: Array) -> Array:
    """A power of two that makes a sum of weights 1/2 to 1, so that weighted means do not overflow on their way."""
    return jnp.ldexp(jnp.float32(1), -jnp.frexp(lax.stop_gradient(weight))[1])


def _blocks(x: Array, size: int = 512) -> Array:
    """[..., n] as [..., blocks, size], filled up with zeros; a single block has its own size."""
    # Rounding errors of a sum grow with the terms in a row: here at most `size` and then n / size, instead of n.
    n = x.shape[-1]
    if n <= size:
        return x[..., None, :]
    filled = jnp.pad(x, [(0, 0)] * (x.ndim - 1) + [(0, -n % size)])
    return filled.reshape(*x.shape[:-1], -1, size)


@functools.partial(jax.custom_jvp, nondiff_argnums=(3,))
def _stats(scores: Array, reference: Array, weights: Array | None, z: float) -> ScoreStats:
    operands = (scores, reference) if weights is None else (scores, reference, weights)
    portable = functools.partial(_portable, z=z)
    spread = _spread(len(operands), _RESULTS, functools.partial(_call_across, z=z), joined="kn")
    return lowering.choose(_STATS, functools.partial(_call, z=z), portable, *operands, spread=spread)


def _portable(scores: Array, reference: Array, weights: Array | None = None, *, z: float) -> ScoreStats:
    return definition(scores, reference, weights, z=z)


@_stats.defjvp
def _stats_jvp(z: float, primals: tuple[Array, ...], tangents: tuple[Array, ...]) -> tuple[ScoreStats, ScoreStats]:
    return jax.jvp(functools.partial(definition, z=z), primals, tangents)


@jax.custom_jvp
def _moments(scores: Array, reference: Array, weights: Array | None) -> ScoreMoments:
    operands = (scores, reference) if weights is None else (scores, reference, weights)
    spread = _spread(len(operands), _PARTS, _call_moments_across, joined="n")
    return lowering.choose(_MOMENTS, _call_moments, _define_moments, *operands, spread=spread)


@_moments.defjvp
def _moments_jvp(primals: tuple[Array, ...], tangents: tuple[Array, ...]) -> tuple[ScoreMoments, ScoreMoments]:
    return jax.jvp(_define_moments, primals, tangents)


def _spread(operands: int, results: tuple[str, ...], across: Callable[..., Any], joined: str) -> lowering.Spread:
    return lowering.Spread(("kmn", "mn", "mn")[:operands], results, joined=joined, across=across, targets=(_MOMENTS,))


def _call(*operands: Array, z: float, target: str = _STATS) -> ScoreStats:
    row, column = operands[0].shape[:-1], operands[1].shape[:-1]
    fields = [(row, jnp.float32)] * 4 + [(column, jnp.float32)] * 4 + [(row, jnp.bool_), (column, jnp.int32)]
    results = [jax.ShapeDtypeStruct(shape, dtype) for shape, dtype in fields]
    return ScoreStats(*lowering.custom_call(target, results, *operands, z=np.float64(z)))


def _call_moments(*operands: Array) -> ScoreMoments:
    row, column = operands[0].shape[:-1], operands[1].shape[:-1]
    fields = [(row, jnp.float32)] * 5 + [(column, jnp.float32)] * 5 + [(column, jnp.int32)]
    results = [jax.ShapeDtypeStruct(shape, dtype) for shape, dtype in fields]
    return ScoreMoments(*lowering.custom_call(_MOMENTS, results, *operands))


def _call_moments_across(axes: Mapping[str, Any], *parts: Array) -> ScoreMoments:
    """Of examples that are split over the mesh axes axes["n"]: sums travel."""
    moments = _call_moments(*parts)
    return moments.combine(lambda x: lax.psum(x, axes["n"])) if "n" in axes else moments


def _call_across(axes: Mapping[str, Any], *parts: Array, z: float) -> ScoreStats:
    """The same, of candidates that may be split over axes["k"]: their moments travel too, for the best of all."""
    moments = _call_moments_across(axes, *parts)
    if "k" not in axes:
        return moments.conclude(z)

    # Moments travel and each device concludes for all candidates: bounds alone could not tell near ones apart.
    def everyone(x: Array, letters: str) -> Array:
        return lax.all_gather(x, axes["k"], axis=x.ndim - 2, tiled=True) if letters == "km" else x

    def own(x: Array, letters: str) -> Array:
        size = parts[0].shape[-3]
        return lax.dynamic_slice_in_dim(x, lax.axis_index(axes["k"]) * size, size, x.ndim - 2) if letters == "km" else x

    stats = ScoreMoments(*map(everyone, moments, _PARTS)).conclude(z)
    return ScoreStats(*map(own, stats, _RESULTS))


def _checked(
    op: str, scores: ArrayLike, reference: ArrayLike, weights: ArrayLike | None
) -> tuple[Array, Array, Array | None]:
    x = arguments.first(op, "scores", scores, "K >= 1, M, n", _DTYPES)
    column = functools.partial(arguments.other, op, shape=(*x.shape[:-3], *x.shape[-2:]), shape_is=arguments.SHARED)
    y = column("reference", reference, dtype=x.dtype.name, dtype_is=" like `scores`")
    return x, y, None if weights is None else column("weights", weights, dtype="float32")


def _cases() -> dict[str, Operands]:
    """Operands for every kernel: ties, NaN and infinity, weights of 0; parts of vectors, of blocks and of pieces."""
    rng = StoredTest.numbers()

    def draw(*shape: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        column = (shape[0], *shape[2:])
        x, y = 4 * rng.random_sample(shape), 4 * rng.random_sample(column)
        return x, y, (rng.randint(0, 20, column) / 10).astype(np.float32)

    def cast(dtype: str, *arrays: np.ndarray) -> Operands:
        return tuple(a > 1.8 if dtype == "bool" else a.astype(jnp.dtype(dtype)) for a in arrays)

    x, y, w = draw(2, 3, 2, 37)
    x[:, 1] = x[:, 0]
    x[1, 2, 0, 5], x[1, 0, 1, 7], y[0, 1, 3] = np.nan, np.inf, np.nan
    w[1, 0, 5], w[1, 1, 3:] = 0, 0  # the first hides a NaN
    cases: dict[str, Operands] = {}
    for dtype in _DTYPES:
        cases[dtype] = cast(dtype, x, y)
        cases[f"{dtype}, weighted"] = (*cases[dtype], w)
    # One piece, one block, and a part of one. What is left out runs through the loops of these.
    x, y, w = draw(1, 2, 1, 65_536 + 4_096 + 37)
    cases["long float32"], cases["long bool"] = cast("float32", x, y), cast("bool", x, y)
    cases["long float32, weighted"] = (*cases["long float32"], w)
    return cases


def _whole(m: ScoreMoments) -> dict[str, Array]:
    """The moments with each mean as one float: its two parts may be cut anywhere."""
    whole = {"mean": m.mean + m.mean_rest, "reference_mean": m.reference_mean + m.reference_rest}
    return {name: value for name, value in (m._asdict() | whole).items() if not name.endswith("_rest")}


_approximate = functools.partial(StoredTest, cases=_cases, rtol=1e-4, atol=1e-5)
declare(_approximate(_STATS, functools.partial(_call, z=1.0), functools.partial(_portable, z=1.0)))
declare(_approximate(_MOMENTS, _call_moments, _define_moments, view=_whole))
