"""Metrics against scikit-learn, scipy and numpy in float64, and at the edges: NaN, ties, one class."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import sklearn.metrics
from scipy import special

from ev3x import Metric, metrics

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
