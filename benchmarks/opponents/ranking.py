"""Opponents of rank_metrics: (AUROC, average precision) of scores f32[K, n] for labels bool[n]."""

from __future__ import annotations

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from .forms import Form, Forms, mapped

Metrics = tuple[Array, ...]
Running = Callable[..., Array]


def ordered(x: Array) -> Array:
    """i32: compares like the float32 (an involution on the bits)."""
    bits = lax.bitcast_convert_type(jnp.where(x == 0, 0.0, x), jnp.int32)  # for -0 (x + 0.0 is simplified to x)
    return bits ^ ((bits >> 31) & 0x7FFFFFFF)


def so_far(running: Running, combine: Running, x: Array) -> Array:
    """A running sum or maximum of what is not negative, in blocks of 256: fewer passes than XLA's over all."""
    n = x.shape[-1]
    x = jnp.pad(x, [(0, 0)] * (x.ndim - 1) + [(0, -n % 256)]).reshape(*x.shape[:-1], -1, 256)
    x = running(x, axis=x.ndim - 1)
    before = running(x[..., -1], axis=x.ndim - 2)
    before = jnp.pad(before, [(0, 0)] * (before.ndim - 1) + [(1, 0)])[..., :-1]
    return combine(x, before[..., None]).reshape(*x.shape[:-2], -1)[..., :n]


def from_sorted(last: Array, labels: Array, blocks: bool = False) -> Metrics:
    """Both metrics by descending thresholds; `last` says where a group of equal scores ends."""

    def highest(a: Array) -> Array:
        return so_far(lax.cummax, jnp.maximum, a) if blocks else lax.cummax(a, axis=a.ndim - 1)

    ones = labels.astype(jnp.int32)
    hits = so_far(lax.cumsum, jnp.add, ones) if blocks else ones.cumsum(-1)
    size = hits.shape[-1]
    place = jnp.arange(1, size + 1, dtype=jnp.int32)
    before = [highest(jnp.where(last, a, 0)) for a in (hits, jnp.broadcast_to(place, hits.shape))]
    hits_before, place_before = (jnp.pad(a, [(0, 0)] * (a.ndim - 1) + [(1, 0)])[..., :-1] for a in before)
    total = hits[..., -1]
    gained = (hits - hits_before).astype(jnp.float32)
    precision = hits.astype(jnp.float32) / place.astype(jnp.float32)
    misses = (place - place_before).astype(jnp.float32) - gained
    area = misses * (0.5 * hits.astype(jnp.float32) + 0.5 * hits_before.astype(jnp.float32))
    auroc, average = (jnp.where(last, a, 0).sum(-1) for a in (area, gained * precision))
    right = total.astype(jnp.float32)
    return auroc / (right * (size - total).astype(jnp.float32)), average / right


def ends(keys: Array) -> Array:
    """bool: the next key is another one."""
    return jnp.concatenate([keys[..., 1:] != keys[..., :-1], jnp.ones((*keys.shape[:-1], 1), bool)], -1)


def natural(scores: Array, labels: Array) -> Metrics:
    """An argsort, then scores and labels taken in that order."""
    order = jnp.argsort(-scores, axis=-1)
    return from_sorted(ends(jnp.take_along_axis(scores, order, -1)), labels[order])


def pairs(scores: Array, labels: Array) -> Metrics:
    """One sort of (score, label) pairs."""
    y = jnp.broadcast_to(labels, scores.shape)
    x, y = lax.sort((-scores, y), dimension=scores.ndim - 1, num_keys=1)
    return from_sorted(ends(x), y)


def packed(scores: Array, labels: Array, blocks: bool = False) -> Metrics:
    """One sort of int32 with the label in the lowest bit: scores that differ in that bit only become ties."""
    keys = (~ordered(scores) & -2) | labels.astype(jnp.int32)
    keys = lax.sort(keys, dimension=keys.ndim - 1)
    return from_sorted(ends(keys >> 1), (keys & 1) == 1, blocks)


def wide(scores: Array, labels: Array, blocks: bool = False) -> Metrics:
    """One sort of int64 with the label in the lowest bit: exact. It needs 64-bit types, for this part only."""
    flipped = ~ordered(scores)
    with jax.enable_x64(True):
        keys = flipped.astype(jnp.int64) * np.int64(2) + labels.astype(jnp.int64)
        keys = lax.sort(keys, dimension=keys.ndim - 1)
        last, right = ends(keys >> np.int64(1)), (keys & np.int64(1)) == np.int64(1)
    return from_sorted(last, right, blocks)


def searched(scores: Array, labels: Array) -> Metrics:
    """Two sorts of int32, of all and of the positives, and four binary searches for each positive: exact."""
    size = scores.shape[-1]
    keys, top = ordered(scores), np.int32(2**31 - 1)

    def one(keys: Array) -> Metrics:
        every, right = lax.sort(keys), lax.sort(jnp.where(labels, keys, top))
        total = labels.sum(dtype=jnp.int32)
        real = jnp.arange(size) < total
        below, up_to = (jnp.searchsorted(every, right, side=s) for s in ("left", "right"))
        right_below, right_up_to = (jnp.searchsorted(right, right, side=s) for s in ("left", "right"))
        wins = (below - right_below).astype(jnp.float32) / 2 + (up_to - right_up_to).astype(jnp.float32) / 2
        precision = (total - right_below).astype(jnp.float32) / (size - below).astype(jnp.float32)
        sums = (jnp.where(real, a, 0).sum() for a in (wins, precision))
        positives, negatives = total.astype(jnp.float32), (size - total).astype(jnp.float32)
        auroc, average = sums
        return auroc / positives / negatives, average / positives

    return lax.map(one, keys)


def only_auroc(scores: Array, labels: Array) -> Array:
    """The sum of the positives' places in one sort of int32, label in the lowest bit. Ties count as won."""
    keys = (ordered(scores) & -2) | labels.astype(jnp.int32)
    hit = (lax.sort(keys, dimension=keys.ndim - 1) & 1) == 1
    size, total = scores.shape[-1], labels.sum(dtype=jnp.int32).astype(jnp.float32)
    places = jnp.where(hit, jnp.arange(1, size + 1, dtype=jnp.float32) / size, 0).sum(-1) * size
    return (places - total * (total + 1) / 2) / (total * (size - total))


def ranked(scores: Array, labels: Array) -> Array:
    """AUROC from average ranks."""
    ranks = jax.scipy.stats.rankdata(scores, axis=-1)
    size, total = scores.shape[-1], labels.sum(dtype=jnp.int32).astype(jnp.float32)
    places = jnp.where(labels, ranks / size, 0).sum(-1) * size
    return (places - total * (total + 1) / 2) / (total * (size - total))


def rows(forms: dict[str, Form]) -> dict[str, Form]:
    """All rows at once, and one by one."""
    return forms | {f"{name}, map 1": mapped(form, 1) for name, form in forms.items()}


BOTH = Forms(
    {"argsort": natural},
    rows({"pairs": pairs, "packed int32": packed}),
    rows(
        {
            "packed int64": wide,
            "packed int64, blocks": functools.partial(wide, blocks=True),
            "packed int32, blocks": functools.partial(packed, blocks=True),
        }
    )
    | {"int32, searched": searched},
)
AUROC = Forms({"average ranks": ranked}, rows({"packed int32, ties won": only_auroc}))
