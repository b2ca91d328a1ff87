"""Opponents of score_stats: means and variances of scores, of their differences to the reference, or of both.

`x` is [K, M, n], or [M, n] under a lax.map over candidates; `y` and the weights `w` are [M, n].
"""

from __future__ import annotations

from collections.abc import Callable

import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from .forms import Form, Forms, layouts

Moments = tuple[Array, ...]


def library_var(x: Array) -> Moments:
    """jnp.mean and jnp.var."""
    x = x.astype(jnp.float32)
    return x.mean(-1), x.var(-1, ddof=1)


def two_pass(x: Array) -> Moments:
    """The mean, then the squares of what is left."""
    mean = x.mean(-1)
    d = x - mean[..., None]
    return mean, (d * d).sum(-1) / (x.shape[-1] - 1)


def start(x: Array) -> Array:
    """The mean of the first 128 values: near enough to the mean for sums in one pass."""
    return x[..., :128].mean(-1, keepdims=True)


def finish(shift: Array, total: Array, squares: Array, n: int) -> Moments:
    """Moments from sums of what is left after the shift and of its squares."""
    return shift[..., 0] + total / n, (squares - total * total / n) / (n - 1)


def shifted(x: Array) -> Moments:
    """One pass, two sums over values less a shift."""
    shift = start(x)
    d = x - shift
    return finish(shift, d.sum(-1), (d * d).sum(-1), x.shape[-1])


def sums(*values: Array) -> tuple[Array, ...]:
    """The sums of several arrays over their last axis, in one lax.reduce."""

    def add(a: tuple[Array, ...], b: tuple[Array, ...]) -> tuple[Array, ...]:
        return tuple(i + j for i, j in zip(a, b, strict=True))

    zeros = tuple(np.float32(0) for _ in values)
    found: tuple[Array, ...] = tuple(lax.reduce(values, zeros, add, (values[0].ndim - 1,)))
    return found


def variadic(x: Array) -> Moments:
    """One pass, one lax.reduce with two accumulators."""
    shift = start(x)
    d = x - shift
    total, squares = sums(d, d * d)
    return finish(shift, total, squares, x.shape[-1])


def dots(x: Array) -> Moments:
    """One pass, squares summed by a dot product."""
    shift = start(x)
    d = x - shift
    return finish(shift, d.sum(-1), jnp.einsum("...n,...n->...", d, d), x.shape[-1])


def blocks(x: Array) -> Moments:
    """Shifted sums of blocks of 2,048 that stay in the cache, column by column."""
    n = x.shape[-1]
    size = 2048
    if n <= size or n % size:
        return shifted(x)
    shift = start(x)

    def add(i: Array, carry: Moments) -> Moments:
        d = lax.dynamic_slice_in_dim(x, i * size, size, x.ndim - 1) - shift
        return carry[0] + d.sum(-1), carry[1] + (d * d).sum(-1)

    zero = jnp.zeros(x.shape[:-1], jnp.float32)
    total, squares = lax.fori_loop(0, n // size, add, (zero, zero))
    return finish(shift, total, squares, n)


def both(form: Form) -> Form:
    """Moments of the scores and of the differences to the reference."""
    return lambda x, y: (*form(x), *form(x - y))


def four_sums(x: Array, y: Array) -> Moments:
    """Scores and differences in one lax.reduce with four accumulators."""
    n, e = x.shape[-1], x - y
    first, second = start(x), start(e)
    d, e = x - first, e - second
    a, b, c, f = sums(d, d * d, e, e * e)
    return (*finish(first, a, b, n), *finish(second, c, f, n))


TUNED: dict[str, Callable[[Array], Moments]] = {
    "var": library_var,
    "two-pass": two_pass,
    "shifted": shifted,
    "one reduce": variadic,
}


_forms = layouts({name: both(form) for name, form in TUNED.items()} | {"four sums": four_sums})
_natural = {"mean and var": _forms.pop("var")}
BOTH = Forms(_natural, _forms, layouts({"dots": both(dots)}, (1,)) | {"blocks": both(blocks)})


# bool: moments from counts.


def cast(ones: Array) -> Array:
    """A sum of the cast to int32."""
    return ones.sum(-1, dtype=jnp.int32)


def popcount(ones: Array) -> Array:
    """Four bytes at a time, their ones counted."""
    if ones.shape[-1] % 4:
        return cast(ones)
    words = lax.bitcast_convert_type(ones.astype(jnp.uint8).reshape(*ones.shape[:-1], -1, 4), jnp.uint32)
    return lax.population_count(words).astype(jnp.int32).sum(-1)


def lanes(rounds: int) -> Callable[[Array], Array]:
    """So many rounds of bytes added to 64 lanes of bytes before anything is widened."""

    def count(ones: Array) -> Array:
        n, step = ones.shape[-1], 64 * rounds
        t = ones.astype(jnp.uint8)
        if n % step:
            t = jnp.pad(t, [(0, 0)] * (t.ndim - 1) + [(0, -n % step)])
        t = t.reshape(*t.shape[:-1], -1, rounds, 64)
        return lax.reduce(t, np.uint8(0), lax.add, (t.ndim - 2,)).astype(jnp.int32).sum((-2, -1))

    return count


COUNTS: dict[str, Callable[[Array], Array]] = {
    "cast": cast,
    "popcount": popcount,
    "byte lanes 16": lanes(16),
    "byte lanes 128": lanes(128),
}


def share(count: Callable[[Array], Array]) -> Callable[[Array], Moments]:
    """Mean and variance of 0 and 1 from the number of ones."""

    def moments(x: Array) -> Moments:
        n = x.shape[-1]
        p = count(x).astype(jnp.float32) / n
        return p, p * (1 - p) * (n / (n - 1))

    return moments


def signs(count: Callable[[Array], Array]) -> Form:
    """Also those of the differences: as many discordant pairs as x ^ y has ones."""
    own_moments = share(count)

    def moments(x: Array, y: Array) -> Moments:
        n = x.shape[-1]
        mean, variance = own_moments(x)
        difference = mean - own_moments(y)[0]
        discordant = count(x ^ y).astype(jnp.float32) / n
        return mean, variance, difference, (discordant - difference * difference) * (n / (n - 1))

    return moments


def cast_first(x: Array, y: Array) -> Moments:
    """Both moments of the cast to float32."""
    a, b = x.astype(jnp.float32), y.astype(jnp.float32)
    return both(library_var)(a, b)


BOOL = Forms({"mean and var": cast_first}, layouts({n: signs(c) for n, c in COUNTS.items()}, (8,)))


# Weights.


def weighted_natural(x: Array, w: Array) -> Moments:
    """Products and sums, as the formula stands."""
    total, squares = w.sum(-1), (w * w).sum(-1)
    mean = (w * x).sum(-1) / total
    return mean, (w * (x - mean[..., None]) ** 2).sum(-1) / (total - squares / total)


def weighted_finish(shift: Array, first: Array, second: Array, w: Array) -> Moments:
    """Moments from weighted sums of what is left after the shift and of its squares."""
    total, squares = w.sum(-1), (w * w).sum(-1)
    rest = first / total
    return shift[..., 0] + rest, (second - total * rest * rest) / (total - squares / total)


def weighted_dots(x: Array, w: Array) -> Moments:
    """Two dot products with the weights. They sum in one float32 per lane: 2e-4 off for four million examples."""
    shift = start(x)
    d = x - shift
    first, second = (jnp.einsum("...mn,mn->...m", a, w) for a in (d, d * d))
    return weighted_finish(shift, first, second, w)


def weighted_reduce(x: Array, w: Array) -> Moments:
    """One lax.reduce with two accumulators."""
    shift = start(x)
    d = x - shift
    first, second = sums(w * d, w * d * d)
    return weighted_finish(shift, first, second, w)


def weighted(form: Form) -> Form:
    """Of the scores and of the differences."""
    return lambda x, y, w: (*form(x, w), *form(x - y, w))


_tuned = layouts({n: weighted(f) for n, f in {"dots": weighted_dots, "one reduce": weighted_reduce}.items()})
WEIGHTED = Forms({"products and sums": weighted(weighted_natural)}, _tuned)
