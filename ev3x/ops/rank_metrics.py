"""Area under the ROC curve and average precision of candidates' scores, exact on ties."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax
from jax.typing import ArrayLike

from . import arguments, lowering
from .bits import flush
from .self_tests import Operands, StoredTest, declare

_TARGET = "ev3x_rank_metrics"
_SPREAD = lowering.Spread(("kn", "n"), ("k", "k"), whole="n")


class RankMetrics(NamedTuple):
    """How well K candidates' scores order n examples by their label; see `rank_metrics`."""

    auroc: Array
    """f32[..., K], chance that a positive scores higher than a negative, ties counting one half"""
    average_precision: Array
    """f32[..., K], precision averaged over the positives, each at the threshold that just lets it in"""


def rank_metrics(scores: ArrayLike, labels: ArrayLike) -> RankMetrics:
    """Returns the RankMetrics of K candidates' scores for the positives among n examples.

    `scores` is float32 [..., K, n], the larger the more likely positive, `labels` bool [..., n], True for a
    positive. Both agree with scikit-learn's roc_auc_score and average_precision_score (the step-wise sum, no
    interpolation), equal scores forming one threshold. NaN: both without positives, `auroc` without negatives,
    and both of a row with a NaN among its scores; infinite scores have their place. Subnormal scores count as
    zero.

    The native CPU code counts in integers and sums in double; `definition` sums in float32. Works under jit,
    vmap, scan and while_loop. Scores that are sharded over candidates or leading axes stay where they are.
    Ranks are constant almost everywhere: no derivative flows back to the scores. Raises ValueError or
    TypeError at trace time, naming the argument.
    """
    x = arguments.first("rank_metrics", "scores", scores, "K, n")
    row = (*x.shape[:-2], x.shape[-1])
    y = arguments.other("rank_metrics", "labels", labels, row, "bool", shape_is=arguments.SHARED)
    return lowering.choose(_TARGET, _call, definition, lax.stop_gradient(x), y, spread=_SPREAD)


def definition(scores: Array, labels: Array, weights: Array | None = None) -> RankMetrics:
    """Returns what `rank_metrics` does, in plain jnp, arguments unchecked: the oracle and the fallback.

    It also knows weights, float32 [..., n], not negative: an example of weight 2 is two, one of weight 0 is none,
    whatever its scores.
    """
    axis, size = scores.ndim - 1, scores.shape[-1]
    if size == 0:
        return RankMetrics(*[jnp.full(scores.shape[:-1], jnp.nan, jnp.float32)] * 2)
    known = ~jnp.isnan(scores)
    if weights is not None:
        known |= weights[..., None, :] == 0
    x = flush(scores)
    operands = [x, *(jnp.broadcast_to(a[..., None, :], x.shape) for a in (labels, weights) if a is not None)]
    x, y, *given = lax.sort(operands, dimension=axis, num_keys=1)
    mass = given[0] if given else jnp.ones_like(y, jnp.int32)
    none = jnp.zeros_like(mass)
    positives, negatives = jnp.where(y, mass, none), jnp.where(y, none, mass)

    # Positives and negatives below the tie group of each place, and up to its end.
    edge, change = jnp.ones((*x.shape[:-1], 1), bool), x[..., 1:] != x[..., :-1]
    first, last = jnp.concatenate([edge, change], axis), jnp.concatenate([change, edge], axis)
    met, missed = (a.cumsum(-1, dtype=a.dtype) for a in (positives, negatives))
    total, rest = met[..., -1:], missed[..., -1:]

    def at_begin(a: Array) -> Array:  # for what never falls along the axis
        return lax.cummax(jnp.where(first, a, none), axis=axis)

    def average(a: Array) -> Array:  # over the positives; NaN without any
        counted = jnp.where(positives > 0, positives.astype(jnp.float32) * a, 0)
        return counted.sum(-1) / total[..., 0].astype(jnp.float32)

    positives_below, negatives_below = at_begin(met - positives), at_begin(missed - negatives)
    negatives_up_to = lax.cummin(jnp.where(last, missed, rest), axis=axis, reverse=True)
    halves = 0.5 * negatives_below.astype(jnp.float32) + 0.5 * negatives_up_to.astype(jnp.float32)
    wins = halves / rest.astype(jnp.float32)
    hits, falls = total - positives_below, rest - negatives_below
    precision = hits.astype(jnp.float32) / (hits + falls).astype(jnp.float32)
    defined = known.all(-1)
    return RankMetrics(*(jnp.where(defined, average(a), jnp.nan) for a in (wins, precision)))


def _call(scores: Array, labels: Array, target: str = _TARGET) -> RankMetrics:
    result = jax.ShapeDtypeStruct(scores.shape[:-1], jnp.float32)
    return RankMetrics(*lowering.custom_call(target, [result, result], scores, labels))


def _cases() -> dict[str, Operands]:
    """Operands with ties, NaN, infinities, -0 and one class only, as long as each way of sorting takes."""
    rng = StoredTest.numbers()
    cases: dict[str, Operands] = {}
    for rows, n in ((2, 41), (1, 700), (1, 10_000)):  # few, and more than 128 and 4,096 of one class
        scores, labels = (6 * rng.random_sample((rows, 3, n)) - 3).round(1), rng.random_sample((rows, n)) < 0.4
        scores[:, 0, :4], scores[0, 1, 5] = (-0.0, 0.0, np.inf, -np.inf), np.nan
        cases[f"{n}"] = (scores.astype(np.float32), labels)
    ascending = np.arange(18, dtype=np.float32).reshape(2, 1, 9)
    return cases | {"one class": (ascending, np.repeat([[False], [True]], 9, axis=1))}


declare(StoredTest(_TARGET, _call, definition, _cases, rtol=1e-5))
