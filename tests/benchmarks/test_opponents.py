"""Every pure-JAX form that the benchmark of the operations times does the operation's work, on small inputs."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats
from opponents import bootstrap, counts, lexicase, moments, pareto, quantiles, ranking

from ev3x.ops import count_stats, pareto_ranks, rank_metrics

pytestmark = pytest.mark.loose_types("plain JAX, as anyone would write it")


@pytest.fixture(autouse=True)
def loose():
    with jax.numpy_rank_promotion("allow"):
        yield


def each(forms, **named):
    """A parameter for every form: (form, what else is said of its group)."""
    return [
        pytest.param(form, *rest, id=f"{group}-{name}")
        for group, (some, *rest) in (forms | named).items()
        for name, form in some.every().items()
    ]


def close(got, want, **tolerance):
    for a, b in zip(got, want, strict=True):
        np.testing.assert_allclose(a, b, **tolerance)


MOMENTS = {
    "own": (moments.OWN, np.float32, slice(0, 2), False),
    "paired": (moments.PAIRED, np.float32, slice(2, 4), False),
    "both": (moments.BOTH, np.float32, slice(0, 4), False),
    "bool own": (moments.BOOL_OWN, bool, slice(0, 2), False),
    "bool both": (moments.BOOL_BOTH, bool, slice(0, 4), False),
    "weighted own": (moments.WEIGHTED_OWN, np.float32, slice(0, 2), True),
    "weighted both": (moments.WEIGHTED_BOTH, np.float32, slice(0, 4), True),
}


@pytest.mark.parametrize(("form", "dtype", "which", "weighted"), each(MOMENTS))
def test_moments_are_those_of_numpy(form, dtype, which, weighted):
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
    close(got, want[which], rtol=1e-5, atol=2e-6)


@pytest.mark.parametrize("n", [4_099, 70_000])
@pytest.mark.parametrize("form", each({"counts": (counts.FORMS,)}))
def test_counts_are_those_of_the_operation(form, n):
    rng = np.random.default_rng(1)
    predictions, *others = (rng.integers(0, 3, s).astype(np.int32) for s in ((9, n), (n,), (n,)))
    close(jax.jit(form)(predictions, *others), count_stats(predictions, *others))


def resampled(form, n, resamples):
    """[resamples, n]: the weights themselves, as means of unit vectors."""
    run = jax.jit(form, static_argnums=2)
    return np.asarray(run(jnp.eye(n), bootstrap.from_seeds(0), resamples))


@pytest.mark.parametrize("form", each({"multinomial": (bootstrap.MULTINOMIAL,)}))
def test_multinomial_weights(form):
    n, resamples = 401, 500
    w = resampled(form, n, resamples) * n
    np.testing.assert_allclose(w, w.round(), atol=1e-3)
    np.testing.assert_allclose(w.sum(1), n, rtol=1e-5)
    check_weights(w.round(), [scipy.stats.binom.pmf(i, n, 1 / n) for i in range(6)])


@pytest.mark.parametrize("form", each({"Poisson": (bootstrap.POISSON,), "hash": (bootstrap.CHEAP,)}))
def test_poisson_weights(form):
    n, resamples = 401, 500
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


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize(("form", "fields"), each({"both": (ranking.BOTH, 2), "AUROC": (ranking.AUROC, 1)}))
def test_rank_metrics_are_those_of_the_operation(form, fields, ties, request):
    if ties and "ties won" in request.node.callspec.id:
        pytest.skip("it says so")
    rng = np.random.default_rng(2)
    labels = rng.random(2_000) < 0.3
    scores = (rng.normal(size=(3, 2_000)) + labels).astype(np.float32)
    if ties:
        scores = scores.round(1)
    got = jax.jit(form)(scores, labels)
    close([got] if fields == 1 else got, rank_metrics(scores, labels)[:fields], rtol=2e-6 if ties else 1e-5)


@pytest.mark.parametrize("form", each({"quantiles": (quantiles.FORMS,)}))
@pytest.mark.parametrize("ties", [False, True])
def test_quantiles_are_those_of_numpy(form, ties):
    q = (0.0, 0.05, 0.5, 0.777, 1.0)
    scores = np.random.default_rng(3).normal(size=(3, 1_002)).astype(np.float32)
    scores = scores.round() if ties else scores
    got = jax.jit(lambda s: form(s, q))(scores)
    np.testing.assert_allclose(got, np.quantile(scores, q, axis=-1).T, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("discrete", [False, True])
@pytest.mark.parametrize("form", each({"lexicase": (lexicase.FORMS,)}))
def test_parents_are_those_of_lexicase(form, discrete, request):
    scores = np.random.default_rng(4).normal(size=(60, 7)).astype(np.float32)
    scores = scores.round() if discrete else scores  # more survivors than short lists hold
    seeds = bootstrap.from_seeds(1)
    natural = "while_loop" in request.node.callspec.id
    parents = 20_000 if natural else 300
    got = np.asarray(jax.jit(form, static_argnums=2)(scores, seeds, parents))
    draws = jax.jit(lexicase.draws, static_argnums=(1, 2))(seeds, 20_000 if natural else 300, 7)
    want = np.array([parent(scores, *draw) for draw in zip(*map(np.asarray, draws), strict=True)])
    if not natural:
        assert (got == want).all()
        return
    a, b = (np.bincount(w, minlength=60) / parents for w in (got, want))  # other draws: as often
    np.testing.assert_allclose(a, b, atol=0.02)


def parent(scores, order, pick):
    """One parent, as the definition reads."""
    pool = np.arange(len(scores))
    for case in np.argsort(order):
        s = scores[:, case]
        margin = np.median(np.abs(s - np.median(s)))
        pool = pool[s[pool] >= s[pool].max() - margin]
    return pool[min(int(np.float32(pick) * np.float32(len(pool))), len(pool) - 1)]


PARETO = {"matrix": (pareto.MATRIX, (2, 3)), "many": (pareto.MANY, (3, 8)), "two": (pareto.STAIRCASE, (2,))}


@pytest.mark.parametrize("discrete", [False, True])
@pytest.mark.parametrize(("form", "objectives"), each(PARETO))
def test_fronts_and_crowding_are_those_of_the_operation(form, objectives, discrete):
    for m in objectives:
        x = np.random.default_rng(5).normal(size=(150, m)).astype(np.float32)
        x = x.round() if discrete else x
        rank, crowding = jax.jit(form)(x)
        want = pareto_ranks(x)
        np.testing.assert_array_equal(rank, want.rank)
        np.testing.assert_allclose(crowding, want.crowding, rtol=1e-5)
