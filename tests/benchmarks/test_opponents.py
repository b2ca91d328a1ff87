"""Every pure-JAX form that the benchmark of the operations times does the operation's work, on small inputs.

Of forms that differ in how much they do at a time, one is tested that leaves a remainder or does all at once.
"""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats
from opponents import bootstrap, moments, pareto, ranking
from opponents.forms import Forms

from ev3x.ops import pareto_ranks, rank_metrics

pytestmark = pytest.mark.loose_types("plain JAX, as anyone would write it")


@pytest.fixture(autouse=True)
def loose():
    with jax.numpy_rank_promotion("allow"):
        yield


def each(forms, **named):
    """A parameter for every form: (form, what else is said of its group)."""
    left_out = re.compile("map 1$|batch (1|8|125|250|500)$")
    return [
        pytest.param(form, *rest, id=f"{group}-{name}")
        for group, (some, *rest) in (forms | named).items()
        for name, form in some.every().items()
        if not left_out.search(name)
    ]


def close(got, want, **tolerance):
    for a, b in zip(got, want, strict=True):
        np.testing.assert_allclose(a, b, **tolerance)


MOMENTS = {
    "float32": (moments.BOTH, np.float32, False),
    "bool": (moments.BOOL, bool, False),
    "weighted": (moments.WEIGHTED, np.float32, True),
}


@pytest.mark.parametrize(("form", "dtype", "weighted"), each(MOMENTS))
def test_moments_are_those_of_numpy(form, dtype, weighted):
    rng = np.random.default_rng(0)
    n = 4_096
    x, y = rng.normal(3, 2, (9, 2, n)), rng.normal(3, 2, (2, n))
    x, y = (x > 2.5, y > 2.5) if dtype is bool else (x.astype(dtype), y.astype(dtype))
    w = rng.integers(0, 4, (2, n)).astype(np.float32) if weighted else np.ones((2, n), np.float32)
    total, squares = w.sum(-1, dtype=float), (w * w).sum(-1, dtype=float)
    want = []
    for values in (x.astype(float), x.astype(float) - y):
        mean = (w * values).sum(-1) / total
        want += [mean, (w * (values - mean[..., None]) ** 2).sum(-1) / (total - squares / total)]
    got = jax.jit(form)(x, y, *[w] * weighted)
    close(got, want, rtol=1e-5, atol=2e-6)


def resampled(form, n, resamples):
    """[resamples, n]: the weights themselves, as means of unit vectors."""
    run = jax.jit(form, static_argnums=2)
    return np.asarray(run(jnp.eye(n), bootstrap.from_seeds(0), resamples))


@pytest.mark.parametrize("form", each({"multinomial": (bootstrap.MULTINOMIAL,)}))
def test_multinomial_weights(form):
    n, resamples = 65, 1_000
    w = resampled(form, n, resamples) * n
    np.testing.assert_allclose(w, w.round(), atol=1e-3)
    np.testing.assert_allclose(w.sum(1), n, rtol=1e-5)
    check_weights(w.round(), [scipy.stats.binom.pmf(i, n, 1 / n) for i in range(6)])


@pytest.mark.parametrize("form", each({"Poisson": (bootstrap.POISSON,), "hash": (bootstrap.CHEAP,)}))
def test_poisson_weights(form):
    n, resamples = 65, 1_000
    w = resampled(form, n, resamples)
    w = w / np.where(w > 1e-7, w, 1).min(1, keepdims=True)  # some weight is 1
    np.testing.assert_allclose(w, w.round(), atol=1e-3)
    check_weights(w.round(), [scipy.stats.poisson.pmf(i, 1) for i in range(6)])


def check_weights(w, law):
    """As frequent as the law says, alike at all places, independent from resample to resample."""
    found = np.bincount(w.ravel().astype(int), minlength=6)[:6] / w.size
    np.testing.assert_allclose(found, law, atol=6 * np.sqrt(0.25 / w.size))
    assert np.abs(w.mean(0) - 1).max() < 5.5 / np.sqrt(len(w))
    correlation = np.corrcoef(w[:200])[np.triu_indices(200, 1)]
    assert np.abs(correlation).max() < 5.5 / np.sqrt(w.shape[1])


@pytest.mark.parametrize(("form", "fields"), each({"both": (ranking.BOTH, 2), "AUROC": (ranking.AUROC, 1)}))
def test_rank_metrics_are_those_of_the_operation(form, fields, request):
    rng, run = np.random.default_rng(2), jax.jit(form)
    labels = rng.random(2_000) < 0.3
    scores = (rng.normal(size=(3, 2_000)) + labels).astype(np.float32)
    got = run(scores, labels)
    close([got] if fields == 1 else got, rank_metrics(scores, labels)[:fields], rtol=1e-5)
    if "ties won" not in request.node.callspec.id:
        scores = scores.round(1)
        got = run(scores, labels)
        close([got] if fields == 1 else got, rank_metrics(scores, labels)[:fields], rtol=2e-6)


PARETO = {
    "matrix": (pareto.MATRIX, (2, 3)),
    "many": (Forms({}, {}, pareto.MANY.found), (2, 3, 8)),
    "two": (Forms({}, pareto.STAIRCASE.known, {"running maxima": pareto.STAIRCASE.found["running maxima"]}), (2,)),
}


@pytest.mark.long
@pytest.mark.parametrize(("form", "objectives"), each(PARETO))
def test_fronts_and_crowding_are_those_of_the_operation(form, objectives):
    run = jax.jit(form)
    for m in objectives:
        smooth = np.random.default_rng(5).normal(size=(150, m)).astype(np.float32)
        for x in (smooth, smooth.round()):
            rank, crowding = run(x)
            want = pareto_ranks(x)
            np.testing.assert_array_equal(rank, want.rank)
            np.testing.assert_allclose(crowding, want.crowding, rtol=1e-5)
