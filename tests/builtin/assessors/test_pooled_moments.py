"""Pooled moments of blocks against float64 numpy on all examples at once."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import ev3x
from ev3x.stats.moments import Pooled, begin, observe, pool

B, K, M, N = 4, 3, 2, 257


def pooled(scores, reference, weights):
    return Pooled(**_pooled(scores, reference, weights))


@jax.jit
def _pooled(scores, reference, weights):
    moments = begin(scores.shape[0], *scores.shape[1:3])
    for i in range(scores.shape[0]):
        w = None if weights is None else weights[i]
        moments = observe(moments, ev3x.Block(scores[i], reference[i], w, None, jnp.int32(i)))
    return vars(pool(moments))


def flat(x):
    """[B, ..., n] -> [..., B * n] in float64."""
    return np.concatenate(list(np.asarray(x, np.float64)), axis=-1)


@np.errstate(all="ignore")
def oracle(x, w):
    """The weighted mean, and its standard error by the definition in score_stats."""
    w = np.broadcast_to(w, x.shape)
    x, total, squares = np.where(w > 0, x, 0), w.sum(-1), (w * w).sum(-1)
    mean = (w * x).sum(-1) / total
    variance = (w * (x - mean[..., None]) ** 2).sum(-1) / (total - squares / total)
    return mean, np.where((w > 0).sum(-1) > 1, np.sqrt(variance * squares) / total, np.nan)


def agree(got, scores, reference, weights=None, tiny=1e-6):
    """Where float32 cannot hold a mean of 1e4 better than 1e-3, nobody asks for more; differences are exact."""
    x, y = flat(scores), flat(reference)
    w = np.ones_like(y) if weights is None else flat(weights)
    for name, values in (("", x), ("difference", x - y[None]), ("reference", y)):
        mean, error = oracle(values, w if values.ndim == w.ndim else w[None])
        got_mean, got_error = getattr(got, name or "mean"), getattr(got, f"{name}_error" if name else "error")
        scale = np.abs(values[np.isfinite(values)]).max()
        np.testing.assert_allclose(got_mean, mean, rtol=2e-6, atol=tiny * scale, err_msg=name)
        np.testing.assert_allclose(got_error, error, rtol=2e-3, atol=tiny * scale * 1e-2, err_msg=name)
    np.testing.assert_allclose(got.examples, w.sum(-1) ** 2 / (w * w).sum(-1), rtol=1e-5)
    assert (np.asarray(got.counted) == ((w == 0) | (w == 1)).all(-1)).all()


def draw(seed, b=B, n=N, mean=0.0, sd=1.0):
    rng = np.random.default_rng(seed)
    reference = rng.normal(mean, sd, (b, M, n)).astype(np.float32)
    scores = (reference[:, None] + rng.normal(0.1 * sd, sd, (b, K, M, n))).astype(np.float32)
    return rng, scores, reference


@pytest.mark.parametrize("n", [1, 2, 3, 100, 1025])
@pytest.mark.parametrize("b", [1, 3])
def test_blocks_of_any_size_pool_to_the_moments_of_all_examples(b, n):
    _, scores, reference = draw(n, b, n)
    agree(pooled(scores, reference, None), scores, reference)


quick = settings(deadline=None, max_examples=25)


@quick
@given(seed=st.integers(0, 10**6), mean=st.sampled_from([0.0, 1.0, -1e4, 1e4]), sd=st.sampled_from([1e-2, 1.0]))
def test_large_means_with_a_small_spread_lose_nothing(seed, mean, sd):
    _, scores, reference = draw(seed, mean=mean, sd=sd)
    agree(pooled(scores, reference, None), scores, reference)


@quick
@given(
    seed=st.integers(0, 10**6),
    sizes=st.lists(st.integers(0, N), min_size=B, max_size=B).filter(lambda s: sum(s) > 0),
    mean=st.sampled_from([0.0, 1e4]),
    kind=st.sampled_from(["mask", "weights"]),
)
def test_unequal_blocks_masks_and_weights_count_as_they_should(seed, sizes, mean, kind):
    rng, scores, reference = draw(seed, mean=mean, sd=1e-2 if mean else 1.0)
    weights = (np.arange(N) < np.array(sizes)[:, None]).astype(np.float32)[:, None].repeat(M, axis=1)
    if kind == "weights":
        weights *= rng.uniform(0.1, 3, weights.shape).astype(np.float32)
    scores[np.broadcast_to(weights[:, None] == 0, scores.shape)] = np.nan  # what is left out may be anything
    agree(pooled(scores, reference, weights), scores, reference, weights)


def test_slots_that_were_not_reached_do_not_count():
    _, scores, reference = draw(0)
    moments = begin(B, K, M)
    for i in range(2):
        moments = observe(moments, ev3x.Block(scores[i], reference[i], None, None, jnp.int32(i)))
    agree(pool(moments), scores[:2], reference[:2])


def test_evidence_merges_by_leafwise_sums():
    _, scores, reference = draw(1)
    parts = []
    for half in (range(2), range(2, B)):
        moments = begin(B, K, M)
        for i in half:
            moments = observe(moments, ev3x.Block(scores[i], reference[i], None, None, jnp.int32(i)))
        parts.append(moments)
    agree(pool(jax.tree.map(jnp.add, *parts)), scores, reference)


def test_a_bad_score_spoils_its_own_row_only():
    _, scores, reference = draw(2)
    scores[1, 0, 1, 5] = np.nan
    got = pooled(scores, reference, None)
    bad = ~np.isfinite(np.asarray(got.mean))
    assert bad.tolist() == [[False, True], [False, False], [False, False]]
    assert (np.isnan(np.asarray(got.difference)) == bad).all()
