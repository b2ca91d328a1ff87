"""Opponents of bootstrap_means: f32[resamples, K] means of resampled scores f32[K, n].

`seeds` is u32[2], the data of a threefry key.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import scipy.stats
from jax import Array, lax, random

from .forms import Forms

THRESHOLDS = [round(65536 * p) for p in scipy.stats.poisson.cdf(np.arange(8), 1)]


def keys(seeds: Array, resamples: int) -> Array:
    """A key for each resample."""
    return random.split(random.wrap_key_data(seeds, impl="threefry2x32"), resamples)


# Exact multinomial weights.


def natural(scores: Array, seeds: Array, resamples: int) -> Array:
    """For each resample, the mean of scores taken at random indices."""
    n = scores.shape[-1]
    return lax.map(lambda key: scores[:, random.randint(key, (n,), 0, n)].mean(-1), keys(seeds, resamples))


def take(scores: Array, seeds: Array, resamples: int, batch: int) -> Array:
    """Rows of the transposed scores taken at random indices."""
    n, rows = scores.shape[-1], scores.T

    def one(key: Array) -> Array:
        return rows[random.randint(key, (n,), 0, n)].mean(0)

    return lax.map(one, keys(seeds, resamples), batch_size=batch)


def scatter(scores: Array, seeds: Array, resamples: int, batch: int) -> Array:
    """How often each index is drawn, counted by a scatter; then a product with the scores."""
    n = scores.shape[-1]

    def one(key: Array) -> Array:
        drawn = random.randint(key, (n,), 0, n)
        return scores @ jnp.zeros(n, jnp.float32).at[drawn].add(1.0) / n

    return lax.map(one, keys(seeds, resamples), batch_size=batch)


def topped_up(scores: Array, seeds: Array, resamples: int, batch: int) -> Array:
    """Poisson weights of a rate a little below 1, then single draws up to n: exact, with few scattered counts.

    Poisson weights of a known sum are multinomial. The rate's six standard deviations make a sum above n, which
    would be one draw too many, a matter of 1e-9.
    """
    n = scores.shape[-1]
    rate = 1 - min(0.5, 6 / math.sqrt(n))
    most = math.ceil((1 - rate) * n + 6 * math.sqrt(n))
    thresholds = [round(2**16 * p) for p in scipy.stats.poisson.cdf(np.arange(8), rate)]

    def one(key: Array) -> Array:
        first, second = random.split(key)
        w = weights(random.bits(first, ((n + 1) // 2,), jnp.uint32), thresholds)[:n]
        missing = n - w.sum().astype(jnp.int32)
        drawn = random.randint(second, (most,), 0, n)
        w = w.at[drawn].add((jnp.arange(most) < missing).astype(jnp.float32))
        return scores @ w / n

    return lax.map(one, keys(seeds, resamples), batch_size=batch)


# Poisson weights.


def weights(bits: Array, thresholds: list[int]) -> Array:
    """Two weights out of every word: how many thresholds its halves reach."""
    halves = jnp.concatenate([bits & 0xFFFF, bits >> 16], -1).astype(jnp.int32)
    reached = [(halves >= t).astype(jnp.float32) for t in thresholds if t < 65536]
    return functools.reduce(jnp.add, reached)


def thresholds(scores: Array, seeds: Array, resamples: int, batch: int) -> Array:
    """Random bits against the distribution function; a product with the scores for a batch of resamples."""
    n = scores.shape[-1]

    def one(key: Array) -> Array:
        w = weights(random.bits(key, ((n + 1) // 2,), jnp.uint32), THRESHOLDS)[:n]
        return scores @ w / w.sum()

    return lax.map(one, keys(seeds, resamples), batch_size=batch)


def counter(scores: Array, seeds: Array, resamples: int, batch: int) -> Array:
    """The same; one draw of random bits for the batch, and one matrix product."""
    n = scores.shape[-1]
    columns = jnp.concatenate([scores, jnp.ones((1, n), jnp.float32)]).T

    def some(key: Array) -> Array:
        w = weights(random.bits(key, (batch, (n + 1) // 2), jnp.uint32), THRESHOLDS)[:, :n]
        return w @ columns

    steps = -(-resamples // batch)
    sums = lax.map(some, keys(seeds, steps)).reshape(steps * batch, -1)[:resamples]
    return sums[:, :-1] / sums[:, -1:]


def mixed(x: Array) -> Array:
    """A bijection of uint32 (C. Wellons' hash prospector)."""
    x = (x ^ (x >> 16)) * np.uint32(0x21F0AAAD)
    x = (x ^ (x >> 15)) * np.uint32(0xD35A2D97)
    return x ^ (x >> 15)


def cheap(scores: Array, seeds: Array, resamples: int, batch: int) -> Array:
    """The same with a hash of the counter for random bits: a weaker generator than threefry, and a cheaper one."""
    n = scores.shape[-1]
    half = (n + 1) // 2
    columns = jnp.concatenate([scores, jnp.ones((1, n), jnp.float32)]).T

    def some(step: Array) -> Array:
        row = mixed(mixed((step * batch + jnp.arange(batch)).astype(jnp.uint32) ^ seeds[0]) + seeds[1])
        bits = mixed(lax.iota(jnp.uint32, half) ^ row[:, None])
        return weights(bits, THRESHOLDS)[:, :n] @ columns

    steps = -(-resamples // batch)
    sums = lax.map(some, jnp.arange(steps)).reshape(steps * batch, -1)[:resamples]
    return sums[:, :-1] / sums[:, -1:]


def batches(name: str, form: Callable[..., Array], *sizes: int) -> dict[str, Callable[..., Array]]:
    """The form with each batch size."""
    return {f"{name}, batch {b}": functools.partial(form, batch=b) for b in sizes}


MULTINOMIAL = Forms(
    {"take": natural},
    batches("scattered counts", scatter, 1, 8, 40, 125) | batches("rows taken", take, 1, 8, 40),
    batches("Poisson, topped up", topped_up, 1, 8, 40, 125),
)
POISSON = Forms(
    {"take": natural},
    batches("thresholds", thresholds, 8, 40, 125, 250, 500) | batches("thresholds, one draw", counter, 8, 40, 125, 250),
)
FEW = Forms(
    POISSON.natural, batches("thresholds", thresholds, 40, 125) | batches("thresholds, one draw", counter, 40, 125)
)
CHEAP = Forms({"take": natural}, batches("thresholds on a hash", cheap, 8, 40, 125, 250))


def from_seeds(seed: int) -> Array:
    """Seeds for any of them."""
    return jax.random.key_data(jax.random.key(seed, impl="threefry2x32"))
