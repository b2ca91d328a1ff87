"""jax.export of programs with native operations: with its leave, or without native code."""

import jax
import numpy as np
import pytest

from ev3x.ops import native, score_stats

X = np.random.default_rng(0).normal(size=(3, 1, 50)).astype(np.float32)
needs_native = pytest.mark.skipif(not native.ensure("ev3x_score_stats"), reason="native targets are not in use here")


def exported(**options):
    return jax.export.export(jax.jit(lambda x, y: score_stats(x, y)), **options)(X, X[0])


@needs_native
def test_native_targets_must_be_allowed_by_name():
    with pytest.raises(ValueError, match="ev3x_score_stats"):
        exported()


@needs_native
def test_an_allowed_target_is_called_where_ev3x_has_registered_it():
    allowed = [jax.export.DisabledSafetyCheck.custom_call("ev3x_score_stats")]
    again = exported(disabled_checks=allowed)
    jax.tree.map(np.testing.assert_array_equal, tuple(again.call(X, X[0])), tuple(score_stats(X, X[0])))


def test_without_native_code_a_program_runs_anywhere(monkeypatch):
    monkeypatch.setenv("EV3X_NATIVE", "off")
    again = exported(platforms=["cpu", "cuda", "tpu"])
    for got, want in zip(again.call(X, X[0]), score_stats(X, X[0]), strict=True):
        np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-6)
