"""Metrics against scikit-learn, scipy and numpy in float64, and at the edges: NaN, ties, one class."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import sklearn.metrics
from scipy import special
from toys import Shift, Toy, examples, splits

import ev3x
from ev3x import Metric, metrics
from ev3x.builtin.adapters.promote import Promote
from ev3x.builtin.assessors.bootstrap import Bootstrap
from ev3x.builtin.assessors.mean_bounds import MeanBounds
from ev3x.builtin.budgets.per_round import PerRound

PER_EXAMPLE = [metrics.accuracy, metrics.cross_entropy, metrics.brier, metrics.TopK(3)]


@pytest.fixture(params=[1.0, 30.0], ids=["mild", "certain"])
def case(request):
    """Logits in float32, and their labels: half of them the best guess."""
    rng = np.random.default_rng(0)
    logits = (request.param * rng.normal(size=(997, 10))).astype(np.float32)
    y = np.where(rng.random(997) < 0.5, logits.argmax(axis=1), rng.integers(10, size=997)).astype(np.int32)
    return logits, y


def value(fn, logits, y):
    kind = "set" if fn is metrics.calibration_error else "example"
    return np.asarray(jax.jit(lambda a, b: Metric("m", fn, kind)(a, {"y": b}, len(a)))(jnp.asarray(logits), y))


def test_accuracy_and_top_k(case):
    logits, y = case
    assert value(metrics.accuracy, *case).mean() == pytest.approx(sklearn.metrics.accuracy_score(y, logits.argmax(1)))
    for k in (1, 3, 9):
        wanted = sklearn.metrics.top_k_accuracy_score(y, logits, k=k, labels=range(10))
        assert value(metrics.TopK(k), *case).mean() == pytest.approx(wanted)
    assert np.array_equal(value(metrics.TopK(1), *case), value(metrics.accuracy, *case))
    assert value(metrics.TopK(10), *case).all()


def test_cross_entropy_and_brier(case):
    logits, y = case
    log_p = special.log_softmax(logits.astype(np.float64), axis=1)
    np.testing.assert_allclose(value(metrics.cross_entropy, *case), -log_p[np.arange(997), y], rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(
        value(metrics.brier, *case), ((np.exp(log_p) - np.eye(10)[y]) ** 2).sum(1), rtol=1e-5, atol=1e-6
    )
    if np.ptp(logits) < 20:
        wanted = sklearn.metrics.log_loss(y, special.softmax(logits.astype(np.float64), axis=1), labels=range(10))
        assert value(metrics.cross_entropy, *case).mean() == pytest.approx(wanted, rel=1e-5)


def test_calibration_error_is_that_of_the_definition(case):
    logits, y = case
    p = special.softmax(logits.astype(np.float64), axis=1)
    top, right = p.max(axis=1), p.argmax(axis=1) == y
    wanted = 0.0
    for low in range(15):
        inside = (top > low / 15) & (top <= (low + 1) / 15)
        if inside.any():
            wanted += inside.mean() * abs(right[inside].mean() - top[inside].mean())
    assert float(value(metrics.calibration_error, *case)) == pytest.approx(wanted, abs=1e-5)


def test_a_calibrated_model_has_a_small_calibration_error_and_a_boasting_one_a_large_one():
    rng = np.random.default_rng(1)
    logits = rng.normal(size=(20_000, 4)).astype(np.float32)
    p = special.softmax(logits.astype(np.float64), axis=1)
    y = (p.cumsum(axis=1) < rng.random((20_000, 1))).sum(axis=1).clip(0, 3).astype(np.int32)
    assert value(metrics.calibration_error, logits, y) < 0.02
    assert value(metrics.calibration_error, 20 * logits, y) > 0.3


def test_nan_logits_are_never_right_and_their_numbers_are_nan():
    logits = np.array([[np.nan, 1.0], [np.nan, np.nan], [0.0, 1.0]], np.float32)
    y = np.array([0, 0, 1], np.int32)
    assert value(metrics.accuracy, logits, y).tolist() == [0, 0, 1]
    assert value(metrics.TopK(2), logits, y).tolist() == [0, 0, 1]
    for fn in (metrics.cross_entropy, metrics.brier):
        assert np.isnan(value(fn, logits, y)).tolist() == [True, True, False]
    assert np.isnan(value(metrics.calibration_error, logits, y))


def test_one_class_is_known_for_certain():
    logits, y = np.full((3, 1), -7.0, np.float32), np.zeros(3, np.int32)
    for fn, wanted in zip(PER_EXAMPLE, (1, 0, 0, 1), strict=True):
        assert value(fn, logits, y).tolist() == [wanted] * 3
    assert value(metrics.calibration_error, logits, y) == 0


def test_of_equal_logits_the_first_counts():
    logits, y = np.zeros((3, 3), np.float32), np.arange(3, dtype=np.int32)
    assert value(metrics.accuracy, logits, y).tolist() == [1, 0, 0]
    assert value(metrics.TopK(2), logits, y).tolist() == [1, 1, 0]
    np.testing.assert_allclose(value(metrics.cross_entropy, logits, y), np.log(3), rtol=1e-6)
    assert value(metrics.calibration_error, logits, y) == pytest.approx(0, abs=1e-6)


def test_a_constant_is_a_value_for_every_example():
    assert value(metrics.Constant(3.5), np.zeros((2, 3), np.float32), np.zeros(2, np.int32)).tolist() == [3.5, 3.5]
    assert metrics.Constant(2.0) == metrics.Constant(2.0) and hash(metrics.TopK(2)) == hash(metrics.TopK(2))


RANKINGS = {
    metrics.auroc: sklearn.metrics.roc_auc_score,
    metrics.average_precision: sklearn.metrics.average_precision_score,
}


@jax.jit
def _rankings(logits, batch):
    measured = (Metric("m", lambda a, b, fn=fn: fn(a, b, b.get("w")), "set", low=0, high=1) for fn in RANKINGS)
    return [metric(logits, batch, len(batch["y"])) for metric in measured]


def rankings(logits, y, weights=None):
    """The area and the average precision, in one program."""
    batch = {"y": jnp.asarray(y, jnp.int32)} | ({} if weights is None else {"w": jnp.asarray(weights, jnp.float32)})
    return [float(x) for x in _rankings(jnp.asarray(logits), batch)]


def by_scikit_learn(logits, y, weights=None):
    """The same in float64, over the classes that the labels define it for."""
    x = np.asarray(logits, np.float64).reshape(len(y), -1)
    if x.shape[1] > 2:
        columns = dict(enumerate((x - special.logsumexp(_others(x), axis=-1)).T))
    else:
        columns = {1: x[:, -1] - (x[:, 0] if x.shape[1] == 2 else 0)}
    counted = np.ones(len(y), bool) if weights is None else weights > 0
    found = {fn: [] for fn in RANKINGS}
    for c, scores in columns.items():
        there = set((y == c)[counted].tolist())
        for fn, of in RANKINGS.items():
            if there == {True, False} or (there == {True} and fn is metrics.average_precision):
                found[fn].append(of(y == c, scores, sample_weight=weights))
    return [np.mean(values) if values else np.nan for values in found.values()]


def _others(x):
    """[n, C, C]: for each class, the logits with its own left out."""
    return np.where(np.eye(x.shape[1], dtype=bool), -np.inf, x[:, None, :])


@pytest.mark.parametrize("columns", [(), (1,), (2,), (5,)], ids=str)
@pytest.mark.parametrize(
    ("n", "dtype", "weighted"),
    [
        (1, jnp.float32, False),
        (2, jnp.float32, True),
        (257, jnp.bfloat16, False),
        (257, jnp.float32, True),
        (20_001, jnp.float32, False),
        (20_001, jnp.float32, True),
    ],
    ids=["1", "2 weighted", "257 bfloat16", "257 weighted", "20,001", "20,001 weighted"],
)
def test_rankings_are_scikit_learns(columns, n, dtype, weighted):
    rng = np.random.default_rng(2)
    classes = max(2, *columns, 2)
    y = rng.integers(classes, size=n)
    logits = rng.normal(size=(n, *columns))
    logits += np.eye(classes)[y] if columns in ((2,), (5,)) else y.reshape(n, *(1 for _ in columns))
    weights = None
    if weighted:
        weights = np.where(rng.random(n) < 0.2, 0, rng.exponential(size=n)).astype(np.float32)
        weights[0] = 1
    for x in (logits, logits[rng.integers(1 + n // 20, size=n)]):  # the latter with ties
        x = jnp.asarray(x, dtype)
        np.testing.assert_allclose(rankings(x, y, weights), by_scikit_learn(x, y, weights), rtol=2e-5)


def test_rankings_of_one_class_and_of_nan():
    logits, broken = np.array([0.1, 0.5, 0.3], np.float32), np.array([0.1, np.nan, 0.3], np.float32)
    three = np.stack([logits, 2 * logits, broken], 1)
    for weights in (None, np.ones(3)):
        np.testing.assert_array_equal(rankings(logits, [1, 1, 1], weights), [np.nan, 1])
        np.testing.assert_array_equal(rankings(logits, [0, 0, 0], weights), [np.nan, np.nan])
        np.testing.assert_array_equal(rankings(broken, [1, 0, 1], weights), [np.nan, np.nan])
        np.testing.assert_array_equal(rankings(three, [0, 1, 0], weights), [np.nan, np.nan])


def test_what_weighs_nothing_does_not_count_whatever_its_score():
    rng = np.random.default_rng(3)
    logits, y = rng.normal(size=60).astype(np.float32), rng.integers(2, size=60)
    weights = np.where(np.arange(60) < 50, 1, 0)
    wanted = rankings(logits[:50], y[:50])
    np.testing.assert_allclose(rankings(logits, y, weights), wanted, rtol=1e-6)
    logits[50:] = np.nan
    np.testing.assert_allclose(rankings(logits, y, weights), wanted, rtol=1e-6)
    assert np.isnan(rankings(logits, y, np.zeros(60))).all()


def test_rankings_leave_out_classes_that_are_not_there():
    rng = np.random.default_rng(4)
    logits, y = rng.normal(size=(40, 4)).astype(np.float32), np.arange(40) % 2
    np.testing.assert_allclose(rankings(logits, y), by_scikit_learn(logits, y), rtol=1e-5)


def test_probabilities_that_float32_rounds_to_one_are_ranked():
    """A softmax would call the three examples of class 0 equal, to one another and to the first."""
    logits = np.array([[40, -40, 0], [41, -41, 0], [42, -42, 0], [43, -43, 0]], np.float32)
    assert rankings(logits, np.array([1, 0, 0, 0])) == [1.0, 1.0]


def test_a_round_selects_by_the_area_and_the_bootstrap_confirms_it():
    """Measured on the device in one compiled round."""
    area = Metric("auroc", metrics.auroc, "set", low=0, high=1)
    task = Toy((area, Metric("score", lambda logits, batch: logits)))
    method = ev3x.Method(
        (Shift((0.0, 0.5, -0.5)),),
        MeanBounds(block=256),
        Bootstrap(block=512, blocks=1, statistic="auroc", metric="score", resamples=199),
        (Promote(),),
        PerRound(),
    )
    data = splits(assess=ev3x.Assess(examples(1, 256)), decide=ev3x.Decide(examples(2, 512)))
    evolver = ev3x.Evolver(task, method, data)
    start = evolver.init(0)
    _, record = evolver.rounds(start, 1)

    def areas(source):
        x, y = (np.asarray(source.tree[name], np.float64) for name in ("x", "y"))
        weights = np.asarray(start.model.current["params"]["w"], np.float64)
        return [sklearn.metrics.roc_auc_score(y, x @ (weights + by)) for by in (0.0, 0.5, -0.5)]

    got = np.asarray(record.selection.mean)[0, :, 0]
    np.testing.assert_allclose(got, areas(data.assess.source), rtol=1e-5)
    confirmed = np.asarray(record.confirmation.mean)[0, 0, 1]
    assert confirmed == pytest.approx(areas(data.decide.source)[got.argmax()], rel=1e-5)
