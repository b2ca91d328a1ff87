"""Bringing up native targets: what is refused, what falls back, and what it says."""

import importlib
import os
import subprocess
import sys
import warnings

import jax
import numpy as np
import pytest

from ev3x.ops import native, score_stats

module = importlib.import_module("ev3x.ops.score_stats")
TARGET = "ev3x_score_stats"
built = pytest.mark.skipif(importlib.util.find_spec(native.MODULE) is None, reason="installed without native code")


@pytest.fixture(autouse=True)
def _by_default(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is asked of native code here is what each test says; CI asks for it everywhere."""
    monkeypatch.delenv("EV3X_NATIVE", raising=False)


def library(**targets):
    """A library with the capsules named, under other names."""
    bundled = native.load_library()
    renamed = {name: native.FfiTarget(name, bundled.targets[source].capsule) for name, source in targets.items()}
    return native.Library(renamed, bundled.ffi_version, bundled.compiler)


def registry(load, *names, self_test=lambda target: None):
    made = native.Registry(load)
    for name in names:
        made.declare(name, self_test)
    return made


def raising(error):
    def load():
        raise error

    return load


@built
def test_every_bundled_target_is_declared_and_native():
    records = native.status()
    assert {record.target for record in records} == set(native.load_library().targets)
    assert {record.state for record in records} == {"native"}
    assert "XLA FFI" in records[0].reason


def test_a_target_is_declared_once():
    with pytest.raises(ValueError, match="'ev3x_score_stats' is already declared"):
        native.declare(TARGET, lambda target: None)


def test_absent_module_is_said_in_the_status_without_a_warning():
    made = registry(raising(native._NotBuilt("built without native code")), "t")
    assert not made.ensure("t")
    assert made.status() == [native.TargetStatus("t", "cpu", "jnp", "built without native code")]


def test_a_module_that_does_not_load_is_not_taken_for_absent():
    calls = []

    def load():
        calls.append(1)
        raise ImportError("undefined symbol: xyz")

    made = registry(load, "t", "u")
    with pytest.warns(RuntimeWarning, match="native target t is not used.*ImportError: undefined symbol: xyz"):
        assert not made.ensure("t")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert not made.ensure("t")  # said once
    with pytest.warns(RuntimeWarning, match="native target u"):
        assert [record.state for record in made.status()] == ["jnp", "jnp"]
    assert calls == [1]


@pytest.mark.parametrize("built_with", [(0, 99), (1, 0)])
def test_newer_headers_than_the_running_jaxlib_are_refused_before_registration(built_with):
    made = registry(lambda: native.Library({"t": native.FfiTarget("t", object())}, built_with, ""), "t")
    with pytest.warns(RuntimeWarning, match=rf"built with XLA FFI {built_with[0]}\.{built_with[1]}, but this jaxlib"):
        assert not made.ensure("t")


def test_older_headers_are_accepted():
    native.check_version((0, 1), (0, 3))


def test_a_misspelt_platform_is_refused():
    target = native.FfiTarget("t", object(), platform="cuda")
    made = registry(lambda: native.Library({"t": target}, (0, 1), ""), "t")
    with pytest.warns(RuntimeWarning, match=r"platform must be one of \('cpu', 'CUDA', 'ROCM'\), got 'cuda'"):
        assert not made.ensure("t")


@built
def test_another_handler_under_a_taken_name_is_refused():
    assert native.ensure(TARGET)
    made = registry(lambda: library(**{TARGET: "ev3x_count_stats"}), TARGET)
    with pytest.warns(RuntimeWarning, match="not used"):
        assert not made.ensure(TARGET)


@built
def test_the_self_test_refuses_a_wrong_handler():
    made = registry(
        lambda: library(ev3x_test_wrong="ev3x_count_stats"),
        "ev3x_test_wrong",
        self_test=module._self_test,
    )
    with pytest.warns(RuntimeWarning, match="ev3x_test_wrong is not used, its jnp definition is: "):
        assert not made.ensure("ev3x_test_wrong")


@built
@pytest.mark.parametrize("field", module.ScoreStats._fields)
def test_the_self_test_looks_at_every_field(field, monkeypatch):
    original = module.definition

    def wrong(*arguments, z):
        stats = original(*arguments, z=z)
        value = getattr(stats, field)
        return stats._replace(**{field: ~value if value.dtype == bool else value + 1})

    monkeypatch.setattr(module, "definition", wrong)
    with pytest.raises(RuntimeError, match=f"self-test: `{field}` differs from the definition"):
        module._self_test(TARGET)


@built
def test_brought_up_within_a_trace():
    made = registry(lambda: library(ev3x_test_traced_f32=TARGET), "ev3x_test_traced_f32", self_test=module._self_test)

    @jax.jit
    @jax.vmap
    def double(x):
        assert made.ensure("ev3x_test_traced_f32")
        return 2 * x

    np.testing.assert_array_equal(double(np.arange(3.0, dtype=np.float32)), [0, 2, 4])


def test_require_is_an_error_with_the_reason(monkeypatch):
    made = registry(raising(native._NotBuilt("built without native code")), "t")
    message = "native target 't' is required but not usable: built without native code"
    with pytest.raises(native.NativeError, match=message):
        made.ensure("t", require=True)
    monkeypatch.setenv("EV3X_NATIVE", "require")
    with pytest.raises(native.NativeError, match=message):
        made.ensure("t")


def test_off_uses_the_definition_and_loads_nothing(monkeypatch):
    monkeypatch.setenv("EV3X_NATIVE", "off")
    made = registry(raising(AssertionError("loaded")), "t")
    assert not made.ensure("t")
    assert made.status() == [native.TargetStatus("t", "cpu", "jnp", "EV3X_NATIVE=off")]
    x = np.ones((2, 1, 8), np.float32)
    text = jax.jit(lambda x, y: score_stats(x, y)).lower(x, x[0]).as_text()
    assert "ev3x_score_stats" not in text


def test_a_misspelt_mode_is_an_error(monkeypatch):
    monkeypatch.setenv("EV3X_NATIVE", "always")
    with pytest.raises(ValueError, match="EV3X_NATIVE must be on, off or require, got 'always'"):
        native.ensure(TARGET)


def test_in_a_fresh_process_the_first_trace_brings_it_up_and_leaves_the_configuration_alone():
    code = """
import jax, numpy as np
before = dict(jax.config.values)
from ev3x.ops import score_stats, native
f = jax.jit(lambda x, y: score_stats(x, y).best)
best = f(np.eye(4, dtype=np.float32)[:, None], np.zeros((1, 4), np.float32))
print(best, dict(jax.config.values) == before)
"""
    environment = os.environ | {"EV3X_NATIVE": "require" if importlib.util.find_spec(native.MODULE) else "on"}
    done = subprocess.run([sys.executable, "-W", "error", "-c", code], env=environment, capture_output=True, text=True)
    assert (done.stdout, done.returncode) == ("[0] True\n", 0), done.stderr
