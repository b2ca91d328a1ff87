"""The bootstrap confirmation: statistics and intervals as in numpy, scikit-learn and scipy, and how often it errs."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats
import sklearn.metrics
from toys import right

import ev3x
from ev3x import Outcome
from ev3x.builtin.assessors import weighted
from ev3x.builtin.assessors.bootstrap import Bootstrap
from ev3x.stats.intervals import clopper_pearson

TWO = (ev3x.Metric("value", right), ev3x.Metric("size", right))
STATISTICS = {
    "mean": {},
    "median": {},
    "quantile": {"q": 0.8},
    "ratio": {"denominator": "size"},
    "auroc": {"label": "class"},
}


def build(statistic, n=256, **options):
    given = {"block": n, "blocks": 1, "resamples": 499, **STATISTICS[statistic], **options}
    return Bootstrap(statistic=statistic, **given)


def ask(assessor, scores, reference, *, weights=None, labels=None, metrics=TWO, alpha=0.05):
    """The assessment of scores [K, M, n] against a reference [M, n], read in blocks."""
    scores, reference = jnp.asarray(scores, jnp.float32), jnp.asarray(reference, jnp.float32)
    labels = jnp.zeros(reference.shape[-1], bool) if labels is None else jnp.asarray(labels)
    weights = None if weights is None else jnp.asarray(weights, jnp.float32)
    return _ask(assessor, metrics, scores, reference, weights, labels, jnp.float32(alpha))


@functools.partial(jax.jit, static_argnums=(0, 1))
def _ask(assessor, metrics, scores, reference, weights, labels, alpha):
    k, m, n = scores.shape
    question = ev3x.Question(jax.random.key(3), alpha, jnp.ones(m), jnp.ones(k, bool))
    evidence = assessor.begin(k, metrics)
    for i in range(n // assessor.block):
        at = slice(i * assessor.block, (i + 1) * assessor.block)
        w = None if weights is None else jnp.broadcast_to(weights[None, at], (m, assessor.block))
        block = ev3x.Block(scores[..., at], reference[:, at], w, {"class": labels[at]}, jnp.int32(i))
        evidence = assessor.observe(evidence, block, question, metrics)
    return assessor.conclude(evidence, question, metrics)


def draw(seed, n, gain=0.0, k=1):
    """Scores of k contenders and a reference with skewed values, and labels that the first metric predicts."""
    rng = np.random.default_rng(seed)
    labels = rng.random(n) < 0.4
    size = rng.gamma(4.0, 1.0, n)
    reference = np.stack([rng.gamma(2.0, 1.0, n) + labels, size])
    scores = np.repeat(reference[None], k, 0)
    scores[:, 0] += rng.normal(gain, 0.7, (k, n)) * (1 + labels)
    return scores.astype(np.float32), reference.astype(np.float32), labels


def auroc(score, label, axis=-1):
    """By ranks (Mann & Whitney 1947), along an axis."""
    ranks = scipy.stats.rankdata(score, axis=axis)
    positive = label.sum(axis)
    wins = (ranks * label).sum(axis) - positive * (positive + 1) / 2
    return wins / (positive * (label.shape[axis] - positive))


ORACLE = {
    "mean": lambda v, size, label, axis=-1: v.mean(axis),
    "median": lambda v, size, label, axis=-1: np.median(v, axis),
    "quantile": lambda v, size, label, axis=-1: np.quantile(v, 0.8, axis),
    "ratio": lambda v, size, label, axis=-1: v.sum(axis) / size.sum(axis),
    "auroc": lambda v, size, label, axis=-1: auroc(v, label, axis),
}


@pytest.mark.parametrize("n", [1, 2, 41, 700])
@pytest.mark.parametrize("q", [0.1, 0.5, 0.97])
def test_weighted_quantiles_are_numpys_of_repeated_values(n, q):
    rng = np.random.default_rng(n)
    values, weights = rng.normal(size=(3, n)).round(1).astype(np.float32), rng.poisson(1.0, (50, n))
    mask = rng.random(n) < 0.8
    mask[0], weights[:, 0] = True, np.maximum(weights[:, 0], 1)
    weights = weights * mask
    got = weighted.quantiles(jnp.asarray(values), jnp.asarray(mask), q, 0)(jnp.asarray(weights, jnp.float32))
    want = [[np.quantile(np.repeat(row, w), q) for row in values] for w in weights]
    np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("n", [2, 32, 33, 700])
def test_weighted_areas_are_scikit_learns(n):
    rng = np.random.default_rng(n)
    values, weights = rng.normal(size=(3, n)).round(1).astype(np.float32), rng.poisson(1.0, (20, n))
    labels, mask = rng.random(n) < 0.4, rng.random(n) < 0.8
    labels[:2], mask[:2], weights[:, :2] = (True, False), True, np.maximum(weights[:, :2], 1)
    weights = weights * mask
    got = weighted.aurocs(jnp.asarray(values), jnp.asarray(mask), jnp.asarray(labels))(
        jnp.asarray(weights, jnp.float32)
    )
    want = [[sklearn.metrics.roc_auc_score(labels, row, sample_weight=w) for row in values] for w in weights]
    np.testing.assert_allclose(got, want, rtol=1e-5)


@pytest.mark.parametrize("statistic", STATISTICS)
def test_what_is_told_of_the_tested_metric_is_the_statistic(statistic):
    scores, reference, labels = draw(1, 256, 0.1, k=2)
    mask = np.arange(256) < 230
    got = ask(build(statistic, 128, blocks=2), scores, reference, weights=mask, labels=labels)
    kept = [x[..., mask] for x in (scores, reference, labels)]
    own = [ORACLE[statistic](*s, kept[2]) for s in kept[0].astype(np.float64)]
    other = ORACLE[statistic](*kept[1].astype(np.float64), kept[2])
    np.testing.assert_allclose(got.mean[:, 0], own, rtol=1e-5)
    assert float(got.reference[0]) == pytest.approx(other, rel=1e-5)
    np.testing.assert_allclose(got.difference[:, 0], np.array(own) - other, rtol=1e-3, atol=1e-6)
    np.testing.assert_allclose(got.mean[:, 1], kept[0][:, 1].mean(-1), rtol=1e-5)
    assert int(got.examples) == 230 and np.isnan(got.p_values[:, 1]).all()


@pytest.mark.parametrize(
    ("statistic", "interval", "n"),
    [
        ("mean", "percentile", 150),
        ("ratio", "bca", 150),
        *(
            pytest.param(*case, marks=pytest.mark.long)
            for case in [
                ("median", "bca", 150),
                ("auroc", "bca", 150),
                ("mean", "bca", 1100),
                ("median", "percentile", 1100),
            ]
        ),
    ],
)
def test_intervals_are_those_of_scipy(statistic, interval, n):
    """Both are drawn: each end has a standard error of 1/50 of the statistic's from 9,999 resamples."""
    scores, reference, labels = draw(5, n, 0.1)
    got = ask(build(statistic, n, interval=interval, resamples=9_999), scores, reference, labels=labels)

    def difference(a, b, size, label, axis=-1):
        return ORACLE[statistic](a, size, label, axis) - ORACLE[statistic](b, size, label, axis)

    found = scipy.stats.bootstrap(
        tuple(x.astype(np.float64) for x in (scores[0, 0], reference[0], reference[1], labels)),
        difference,
        paired=True,
        vectorized=True,
        confidence_level=0.9,
        method=interval,
        n_resamples=9_999,
        batch=1000,
        random_state=np.random.default_rng(0),
    )
    ends = [got.difference_lower[0, 0], got.difference_upper[0, 0]]
    np.testing.assert_allclose(ends, found.confidence_interval, atol=0.12 * found.standard_error)
    if interval == "percentile":
        share = (found.bootstrap_distribution <= 0).mean()
        assert float(got.p_value[0]) == pytest.approx(share, abs=4 * np.sqrt(2 * (share + 1e-4) / 9_999))


def test_the_p_value_is_the_smallest_level_whose_interval_leaves_out_zero():
    scores, reference, _ = draw(0, 256)
    scores[0, 0] += 2 * (scores - reference)[0, 0].std() / 16 - (scores - reference)[0, 0].mean()
    p = float(ask(build("mean", interval="bca", resamples=1999), scores, reference).p_value[0])
    assert 0.002 < p < 0.2
    for factor in (0.97, 1.03):
        assessor = build("mean", interval="bca", resamples=1999, level=p * factor)
        assert (float(ask(assessor, scores, reference).difference_lower[0, 0]) > 0) == (factor > 1)


@pytest.mark.parametrize(("statistic", "sign"), [("mean", 1), ("median", -1), ("auroc", 1)])
def test_the_verdict_follows_from_the_shift_and_the_margin(statistic, sign):
    rng = np.random.default_rng(0)
    labels = rng.random(256) < 0.5
    reference = np.stack([rng.normal(size=256) + labels, np.ones(256)])
    noise = rng.normal(0, 0.02, 256)
    better = 0.5 * labels if statistic == "auroc" else 0.5
    scores = np.stack([reference + np.array([[1.0], [0.0]]) * (x + noise - noise.mean()) for x in (better, -better, 0)])
    wide = dataclasses.replace(TWO[0], margin=0.1, maximize=sign > 0)
    got = ask(build(statistic), scores, reference, labels=labels, metrics=(wide, TWO[1]))
    expected = [Outcome.BETTER, Outcome.WORSE][::sign]
    assert got.outcome.tolist() == [*expected, Outcome.EQUIVALENT] and int(got.winner) == (0 if sign > 0 else 1)


def test_a_metric_that_is_minimised_is_the_other_way_round():
    scores, reference, _ = draw(2, 256, 0.3)
    turned = (dataclasses.replace(TWO[0], maximize=False), TWO[1])
    one, other = ask(build("median"), scores, reference), ask(build("median"), -scores, -reference, metrics=turned)
    assert float(one.p_value[0]) == pytest.approx(float(other.p_value[0]))
    assert int(one.outcome[0]) == int(other.outcome[0]) == Outcome.BETTER


def test_no_p_value_is_below_what_the_resamples_can_tell():
    scores, reference, _ = draw(0, 256, 2.0)
    assessor = build("median", interval="bca", resamples=99)
    got = ask(assessor, scores, reference, alpha=0.01)
    assert float(got.p_value[0]) == pytest.approx(0.01) and int(got.outcome[0]) == Outcome.BETTER
    assert int(ask(assessor, scores, reference, alpha=0.0099).outcome[0]) == Outcome.UNDECIDED


def test_evidence_adds_in_any_order():
    scores, reference, labels = (jnp.asarray(x) for x in draw(1, 256, 0.1, k=2))
    assessor = build("auroc", 128, blocks=2)
    question = ev3x.Question(jax.random.key(0), jnp.float32(0.05), jnp.ones(2), jnp.ones(2, bool))

    def of(*indices):
        evidence = assessor.begin(2, TWO)
        for i in indices:
            at = slice(i * 128, (i + 1) * 128)
            block = ev3x.Block(scores[..., at], reference[:, at], None, {"class": labels[at]}, jnp.int32(i))
            evidence = assessor.observe(evidence, block, question, TWO)
        return evidence

    together = of(0, 1)
    for other in (of(1, 0), assessor.merge(of(1), of(0))):
        jax.tree.map(np.testing.assert_array_equal, together, other)


@pytest.mark.parametrize("statistic", ["mean", "median", "auroc"])
def test_masked_scores_and_broken_contenders_are_out_of_sight(statistic):
    scores, reference, labels = draw(1, 256, 0.3, k=2)
    mask, assessor = np.arange(256) < 200, build(statistic, 128, blocks=2)
    clean = ask(assessor, scores, reference, weights=mask, labels=labels)
    for bad in (np.nan, -np.inf):
        hidden = np.where(mask, scores, bad)
        masked = ask(assessor, hidden, reference, weights=mask, labels=labels)
        jax.tree.map(np.testing.assert_array_equal, clean, masked)
        broken = scores.copy()
        broken[1, 0, 7] = bad
        got = ask(assessor, broken, reference, weights=mask, labels=labels)
        assert int(got.outcome[1]) == Outcome.WORSE and np.isneginf(got.value[1]) and int(got.winner) == 0
        assert (float(got.p_value[0]), int(got.outcome[0])) == (float(clean.p_value[0]), int(clean.outcome[0]))
        lost = reference.copy()
        lost[0, 7] = bad
        nobody = ask(assessor, scores, lost, weights=mask, labels=labels)
        assert nobody.outcome.tolist() == [Outcome.UNDECIDED] * 2 and nobody.p_value.tolist() == [1.0] * 2


@pytest.mark.parametrize("weights", [np.full(256, 0.5), np.arange(256) < 39])
def test_other_weights_and_too_few_examples_prove_nothing(weights):
    scores, reference, _ = draw(1, 256, 3.0)
    got = ask(build("median"), scores, reference, weights=weights)
    assert int(got.outcome[0]) == Outcome.UNDECIDED and float(got.p_value[0]) == 1.0
    assert np.isinf([got.difference_lower[0, 0], got.difference_upper[0, 0]]).all()


def test_areas_need_both_classes():
    scores, reference, _ = draw(1, 256, 3.0)
    for few in (np.arange(256) < 19, np.arange(256) >= 19):
        assert float(ask(build("auroc"), scores, reference, labels=few).p_value[0]) == 1.0


def test_identical_models_are_equivalent_within_any_margin():
    _, reference, _ = draw(1, 256)
    metrics = (dataclasses.replace(TWO[0], margin=0.01), TWO[1])
    got = ask(build("median", interval="bca"), reference[None], reference, metrics=metrics)
    assert int(got.outcome[0]) == Outcome.EQUIVALENT and float(got.p_value[0]) == 1.0


def test_own_bounds_are_percentiles_in_the_range_of_the_statistic():
    scores, reference, labels = draw(1, 256, 0.1)
    ranged = (dataclasses.replace(TWO[0], low=-9.0, high=0.0), TWO[1])
    got = ask(build("auroc"), scores - 9, reference - 9, labels=labels, metrics=ranged)
    assert 0.5 < got.lower[0, 0] < got.mean[0, 0] < got.upper[0, 0] <= 1
    found = scipy.stats.bootstrap((scores[0, 0],), np.median, confidence_level=0.9, method="percentile", random_state=0)
    got = ask(build("median", resamples=9_999), scores, reference)
    want = np.clip(found.confidence_interval, -np.inf, np.inf)
    np.testing.assert_allclose([got.lower[0, 0], got.upper[0, 0]], want, atol=0.12 * found.standard_error)


def test_large_means_keep_their_differences():
    rng = np.random.default_rng(0)
    reference = (1e4 + rng.normal(size=(2, 256))).astype(np.float32)
    scores = (reference + rng.normal(0.0, 0.05, 256) + 0.01).astype(np.float32)
    apart = (scores.astype(np.float64) - reference)[0]
    got = ask(build("mean", resamples=9_999), scores[None], reference)
    assert float(got.difference[0, 0]) == pytest.approx(apart.mean(), abs=1e-4)
    found = scipy.stats.bootstrap((apart,), np.mean, confidence_level=0.9, method="percentile", random_state=0)
    ends = [got.difference_lower[0, 0], got.difference_upper[0, 0]]
    np.testing.assert_allclose(ends, found.confidence_interval, atol=0.12 * found.standard_error)


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"statistic": "quantile"}, "q: is for statistic = 'quantile', which needs it; got None"),
        ({"q": 0.5}, "q: is for statistic = 'quantile', which needs it; got 0.5 and statistic = 'median'"),
        ({"statistic": "quantile", "q": 1.0}, "q: must be below 1, got 1.0"),
        ({"statistic": "ratio"}, "denominator: is for statistic = 'ratio', which needs it; got None"),
        ({"denominator": "size"}, "denominator: is for statistic = 'ratio'"),
        ({"resamples": 18}, "resamples: must be at least 1 / level - 1 = 19, got 18"),
        ({"level": 0.5}, "level: must be below 0.5, got 0.5"),
    ],
)
def test_bad_options_are_refused(options, text):
    with pytest.raises(ValueError, match=f"^Bootstrap: {text}"):
        Bootstrap(**options)


@pytest.mark.parametrize(
    ("options", "text"),
    [
        (
            {"metric": "sets"},
            "metric 'sets' is set-level: it has one value a block, and examples are what is resampled",
        ),
        ({"metric": "price"}, "metric 'price' is constant"),
        ({"metric": "valeu"}, "unknown metric 'valeu'; did you mean 'value'"),
        ({"statistic": "ratio", "denominator": "value"}, "denominator: must be another metric than 'value'"),
        (
            {"statistic": "quantile", "q": 0.99, "block": 512, "blocks": 2},
            r"block \* blocks must be at least 2000 to prove anything, got 1024",
        ),
    ],
)
def test_metrics_that_cannot_be_resampled_are_refused(options, text):
    metrics = (*TWO, ev3x.Metric("sets", right, kind="set"), ev3x.Metric("price", right, constant=True))
    with pytest.raises(ValueError, match=f"^bootstrap: {text}"):
        Bootstrap(**options).accept(metrics)


def test_labels_must_be_there_one_for_each_example():
    scores, reference, labels = draw(0, 256)
    with pytest.raises(ValueError, match="label: the batch must have 'y', got class; name what has the labels"):
        ask(build("auroc", label="y"), scores, reference, labels=labels)
    with pytest.raises(ValueError, match=r"label: 'class' must be one per example, \(256,\), got \(256, 2\)"):
        ask(build("auroc"), scores, reference, labels=np.stack([labels] * 2, 1))


def test_what_is_assumed_is_said():
    for statistic, words in {
        "quantile": "value, 0.8-quantile",
        "ratio": "value / size, ratio",
        "auroc": "AUROC",
    }.items():
        text = "; ".join(build(statistic).assumes(TWO))
        for each in (words, "approximate (percentile bootstrap)", "no p-value is below 1/500", "independent"):
            assert each in text


def test_the_metric_that_is_named_is_the_one_that_is_tested():
    scores, reference, _ = draw(0, 256, 0.5)
    assessor = build("median", metric="size")
    got = ask(assessor, scores[:, ::-1], reference[::-1])
    assert assessor.leads(TWO) == 1 and np.isnan(got.p_values).tolist() == [[True, False]]
    assert int(got.outcome[0]) == Outcome.BETTER


def skewed(key, gain, n):
    """Log-likelihoods of two models that agree on four examples in five."""
    own, fresh, copy = jax.random.split(key, 3)
    old, new = -jax.random.exponential(own, (n,)), -jax.random.exponential(fresh, (n,))
    values = old, jnp.where(jax.random.uniform(copy, (n,)) < 0.8, old, new) + gain
    return *values, jnp.ones(n), jnp.zeros(n, bool)


def rates(key, gain, n):
    """Clicks of a gamma-distributed number of views."""
    views, own, fresh = jax.random.split(key, 3)
    size = jax.random.gamma(views, 4.0, (n,))
    return (
        *(size * jax.random.uniform(k, (n,)) * (1 + g) for k, g in ((own, 0), (fresh, gain))),
        size,
        jnp.zeros(n, bool),
    )


def classes(key, gain, n):
    """Scores that tell the classes apart, half of their noise in common."""
    label, both, own, fresh = jax.random.split(key, 4)
    labels, shared = jax.random.bernoulli(label, 0.3, (n,)), jax.random.normal(both, (n,))
    noise = (shared + jax.random.normal(k, (n,)) for k in (own, fresh))
    old, new = (x + jnp.where(labels, 1 + g, 0.0) for x, g in zip(noise, (0, gain), strict=True))
    return old, new, jnp.ones(n), labels


@functools.partial(jax.jit, static_argnums=(0, 1, 3, 4))
def promotions(assessor, world, gain, repeats, at_once=20):
    """How often a contender is called better at level 0.05."""

    def once(key):
        old, new, size, labels = world(key, gain, assessor.block)
        scores, reference = jnp.stack([new, size])[None], jnp.stack([old, size])
        question = ev3x.Question(key, jnp.float32(0.05), jnp.ones(2), jnp.ones(1, bool))
        block = ev3x.Block(scores, reference, None, {"class": labels}, jnp.int32(0))
        evidence = assessor.observe(assessor.begin(1, TWO), block, question, TWO)
        return assessor.conclude(evidence, question, TWO).outcome[0] == Outcome.BETTER

    keys = jax.random.split(jax.random.key(1), (repeats // at_once, at_once))
    return jax.lax.map(jax.vmap(once), keys).sum()


@pytest.mark.parametrize(
    ("statistic", "world", "gain"),
    [
        pytest.param("median", skewed, 0.4, marks=pytest.mark.long),
        ("ratio", rates, 0.3),
        pytest.param("auroc", classes, 1.0, marks=pytest.mark.long),
    ],
)
def test_who_is_no_better_is_promoted_at_the_stated_rate_and_true_gains_are_found(statistic, world, gain):
    assessor = build(statistic, 200, resamples=99)
    hits = int(promotions(assessor, world, jnp.float32(0.0), 400))
    low, high = clopper_pearson(hits, 400, 0.005)
    assert low <= 0.05 and high > 0.02, f"promoted {hits / 400:.4f} [{low:.4f}, {high:.4f}]"
    assert int(promotions(assessor, world, jnp.float32(gain), 400)) >= 360
