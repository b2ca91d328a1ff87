"""Parents by lexicase selection: for each of them all candidates meet the cases in a random order of its own."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax
from jax.typing import ArrayLike

from . import lowering, native
from .bits import TINY, flush, mix

_TARGET = "ev3x_lexicase"
_LAYOUT = lowering.Layout(("kc", "s", "k"), ("p",), whole="kcs")


def lexicase(
    scores: ArrayLike,
    seeds: ArrayLike,
    parents: int,
    *,
    epsilon: float | None = None,
    eligible: ArrayLike | None = None,
) -> Array:
    """Returns i32[..., parents], the winners' indices among K candidates; -1 where nobody is eligible.

    `scores` is float32 [..., K, C], the larger the better, on C cases; `seeds` uint32 [..., 2], for instance
    jax.random.bits(key, (2,)); `eligible` bool [..., K], everybody by default. `parents` and `epsilon` are
    static.

    For each parent, the cases come in a random order. On each, those within `epsilon` of the best that is
    still in remain, until one does or the cases are used up; then one of the rest is drawn. `epsilon=None`
    is epsilon-lexicase with the semi-dynamic threshold (La Cava et al. 2016, section 3.2): epsilon is each
    case's median absolute deviation, over all eligible candidates with a finite score. `epsilon=0` is plain
    lexicase selection (Spector 2012; Helmuth et al. 2015).

    NaN counts as minus infinity; subnormal values count as zero. The same seeds give the same parents, in
    native code and in `definition`, whatever the number of threads; parent p's do not depend on how many
    follow.

    The native CPU code holds two further copies of the scores and drops candidates as they lose;
    `definition` holds a [parents, K] mask over all cases that any of the parents needs. Works under jit,
    vmap, scan and while_loop. Operands that are sharded over leading axes stay where they are. Indices have
    no derivative: nothing flows back to the scores. Raises ValueError or TypeError at trace time, naming the
    argument.
    """
    arrays = _checked(scores, seeds, eligible)
    if isinstance(parents, bool) or not isinstance(parents, int | np.integer) or parents < 0:
        raise ValueError(f"lexicase: `parents` must be an integer and not negative, got {parents!r}")
    if parents >= 2**31:
        raise ValueError(f"lexicase: `parents` must be below 2**31, got {parents}")
    if epsilon is not None and not (math.isfinite(epsilon) and epsilon >= 0):
        raise ValueError(f"lexicase: `epsilon` must be None, or finite and not negative, got {epsilon!r}")
    margin = None if epsilon is None else _flushed(epsilon)
    call = functools.partial(_call, parents=int(parents), epsilon=margin)
    portable = functools.partial(definition, parents=int(parents), epsilon=margin)
    return lowering.choose(_TARGET, call, portable, *arrays, layout=_LAYOUT)


def definition(scores: Array, seeds: Array, eligible: Array, parents: int, epsilon: float | None) -> Array:
    """Returns what `lexicase` does, in plain jnp, arguments unchecked: the oracle and the fallback."""
    *batch, candidates, cases = scores.shape
    if candidates == 0:
        return jnp.full((*batch, parents), -1, jnp.int32)
    a, b = (seeds[..., i, None] for i in (0, 1))
    stream = mix(mix(lax.broadcasted_iota(jnp.uint32, (*batch, parents), len(batch)) ^ a) + b)

    def random(t: Array) -> Array:
        return mix(stream ^ mix(mix(t.astype(jnp.uint32) ^ b ^ np.uint32(0x9E3779B9)) + a))

    x = jnp.where(jnp.isnan(scores), -jnp.inf, flush(scores))
    x = jnp.where(eligible[..., None], x, -jnp.inf).swapaxes(-1, -2)  # [..., cases, K]
    margin = _deviations(x, eligible) if epsilon is None else jnp.full(x.shape[:-1], epsilon, jnp.float32)

    def meet(state: tuple[Array, Array, Array]) -> tuple[Array, Array, Array]:
        """All parents meet their case number t; `order` is shuffled up to there (Fisher and Yates)."""
        t, order, pool = state
        drawn = t + (random(t) % (cases - t).astype(jnp.uint32)).astype(jnp.int32)[..., None]
        case = jnp.take_along_axis(order, drawn, -1)
        here = lax.dynamic_index_in_dim(order, t, order.ndim - 1)
        order = jnp.put_along_axis(order, drawn, here, -1, inplace=False)
        score = jnp.take_along_axis(x, case, -2)
        best = jnp.where(pool, score, -jnp.inf).max(-1, keepdims=True)
        least = jnp.where(jnp.isinf(best), best, flush(best - jnp.take_along_axis(margin, case[..., 0], -1)[..., None]))
        return t + 1, order, pool & (score >= least)

    def undecided(state: tuple[Array, Array, Array]) -> Array:
        t, _, pool = state
        return (t < cases) & (pool.sum(-1) > 1).any()

    pool = jnp.broadcast_to(eligible[..., None, :], (*batch, parents, candidates))
    order = jnp.broadcast_to(lax.iota(jnp.int32, cases), (*batch, parents, cases))
    order, pool = (lowering.varying(a, scores, seeds, eligible) for a in (order, pool))
    if cases:
        pool = lax.while_loop(undecided, meet, (jnp.int32(0), order, pool))[2]

    count = pool.sum(-1, dtype=jnp.int32)
    drawn = (random(jnp.int32(cases)) % jnp.maximum(count, 1).astype(jnp.uint32)).astype(jnp.int32)
    before = pool.astype(jnp.int32).cumsum(-1)
    winner = lax.argmax(pool & (before == drawn[..., None] + 1), pool.ndim - 1, jnp.int32)
    return jnp.where(count > 0, winner, -1)


def _flushed(x: float) -> float:
    return 0.0 if abs(np.float32(x)) < TINY else float(np.float32(x))


def _deviations(x: Array, eligible: Array) -> Array:
    """f32[..., cases], median absolute deviation of the finite scores of eligible candidates; 0 without any."""
    counts = eligible[..., None, :] & jnp.isfinite(x)
    number = counts.sum(-1, dtype=jnp.int32, keepdims=True)

    def median(values: Array) -> Array:
        ascending = jnp.sort(jnp.where(counts, values, jnp.inf), axis=-1)
        middle = (jnp.maximum(number - 1, 0) // 2, number // 2)
        low, high = (jnp.take_along_axis(ascending, at, -1) for at in middle)
        return flush(flush(0.5 * low) + flush(0.5 * high))

    centre = median(x)
    deviation = median(flush(jnp.abs(x - centre)))
    return jnp.where(number > 0, deviation, 0)[..., 0]


def _call(scores: Array, seeds: Array, eligible: Array, parents: int, epsilon: float | None) -> Array:
    result = jax.ShapeDtypeStruct((*scores.shape[:-2], parents), jnp.int32)
    given = np.float32(-1 if epsilon is None else epsilon)
    return lowering.custom_call(_TARGET, [result], scores, seeds, eligible, epsilon=given)[0]


def _checked(scores: ArrayLike, seeds: ArrayLike, eligible: ArrayLike | None) -> tuple[Array, Array, Array]:
    x, s = jnp.asarray(scores), jnp.asarray(seeds)
    if x.ndim < 2:
        raise ValueError(f"lexicase: `scores` must have shape (..., K, C), got {x.shape}")
    if x.dtype != jnp.float32:
        raise TypeError(f"lexicase: `scores` must be float32, got {x.dtype}; use .astype(jnp.float32)")
    lowering.check_sizes("lexicase", "scores", K=x.shape[-2], C=x.shape[-1])
    if s.shape != (*x.shape[:-2], 2):
        raise ValueError(f"lexicase: `seeds` must have shape {(*x.shape[:-2], 2)}, got {s.shape}")
    if s.dtype != jnp.uint32:
        raise TypeError(f"lexicase: `seeds` must be uint32, got {s.dtype}; jax.random.bits(key, (2,)) gives such")
    allowed = jnp.ones(x.shape[:-1], bool) if eligible is None else jnp.asarray(eligible)
    if allowed.shape != x.shape[:-1]:
        raise ValueError(f"lexicase: `eligible` must have shape {x.shape[:-1]}, got {allowed.shape}")
    if allowed.dtype != jnp.bool_:
        raise TypeError(f"lexicase: `eligible` must be bool, got {allowed.dtype}")
    return lax.stop_gradient(x), s, allowed


def _self_test(target: str) -> None:
    """Returns if the native target agrees with the definition on small inputs; else RuntimeError."""
    rng = np.random.default_rng(0)
    scores = rng.normal(size=(2, 11, 7)).astype(np.float32).round(1)
    seeds = rng.integers(0, 2**32, (2, 2), dtype=np.uint32)
    operands = [scores, seeds, rng.random((2, 11)) < 0.8]
    for epsilon in (None, 0.0):
        call, portable = (functools.partial(f, parents=20, epsilon=epsilon) for f in (_call, definition))
        lowering.agree(call, portable, operands, ["winners"])


native.declare(_TARGET, _self_test)
