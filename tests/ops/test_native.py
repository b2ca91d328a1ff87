"""Bringing up native targets: what is refused, what falls back, and what it says."""

import dataclasses
import functools
import importlib
import os
import re
import subprocess
import sys
import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from handlers import handler

from ev3x import FfiTarget
from ev3x.ops import choose, native, score_stats, self_tests

module = importlib.import_module("ev3x.ops.score_stats")
TARGET = "ev3x_score_stats"
built = pytest.mark.skipif(importlib.util.find_spec(native.MODULE) is None, reason="installed without native code")


@pytest.fixture(autouse=True)
def _by_default(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is asked of native code here is what each test says; CI asks for it everywhere."""
    monkeypatch.delenv("EV3X_NATIVE", raising=False)


def library(**targets):
    """A library with these handlers."""
    return native.Library(targets, (0, 1), "", "baseline", ("baseline",))


def bundled(target):
    return native.load_library().targets[target]


def agrees(target):
    """A self-test that is content."""


def tried_as(target):
    """The self-test of score_stats, of a target by another name."""
    call = functools.partial(module._call, z=1.0, target=target)
    self_test = dataclasses.replace(self_tests.bundled[TARGET], call=call)
    return lambda _: self_test(TARGET)


def registry(load, *names, self_test=agrees):
    made = native.Registry(load)
    for name in names:
        made.declare(name, self_test)
    return made


def plugin(*targets, name="toy"):
    """A source with these targets, as a host attaches it."""
    return native.Offers(f"plugin '{name}' of ev3x-{name} 1.5", f"ev3x-{name} 1.5", lambda platform: targets)


def offered(*sources):
    """A registry with the bundled targets of `ev3x.ops` left out."""
    made = native.Registry(raising(native._NotBuilt("built without native code")))
    for source in sources:
        made.attach(source)
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
    assert {record.owner for record in records} == {"ev3x"}
    assert re.fullmatch(r"built with XLA FFI 0\.\d", records[0].reason) and records[0].seconds > 0


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
    text = "^ev3x: native code is not used, the jnp definitions are: ImportError: undefined symbol: xyz$"
    with pytest.warns(native.NativeWarning, match=text):
        assert not made.ensure("t")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert not made.ensure("t")  # said once,
        assert not made.ensure("u")  # and for the whole module
    assert [(record.state, record.fault) for record in made.status()] == [("jnp", True)] * 2
    assert calls == [1]


@pytest.mark.parametrize("version", [(0, 99), (1, 0)])
def test_newer_headers_than_the_running_jaxlib_are_refused_before_registration(version, monkeypatch):
    monkeypatch.setattr(jax.ffi, "register_ffi_target", lambda *_, **__: pytest.fail("registered"))
    made = registry(lambda: library(t=handler(*version)), "t")
    text = (
        rf"native target t is not used, its jnp definition is: RuntimeError: built with XLA FFI {version[0]}\."
        rf"{version[1]}, but this jaxlib has 0\.\d: upgrade jaxlib, or reinstall ev3x without --no-build-isolation"
    )
    with pytest.warns(native.NativeWarning, match=text):
        assert not made.ensure("t")
    made = offered(plugin(FfiTarget("ev3x_toy_new", handler(*version), agrees)))
    with pytest.warns(native.NativeWarning, match=r"or get ev3x-toy 1\.5 built with older headers"):
        assert not made.ensure("ev3x_toy_new")


def test_what_is_no_handler_is_refused_before_registration():
    made = offered(plugin(FfiTarget("ev3x_toy_object", object(), agrees)))
    with pytest.warns(
        native.NativeWarning, match="TypeError: a handler must be a PyCapsule, or a dict of them by stage"
    ):
        assert not made.ensure("ev3x_toy_object")


def test_a_misspelt_platform_is_refused():
    with pytest.raises(ValueError, match=r"platform must be one of \('cpu', 'CUDA', 'ROCM'\), got 'cuda'"):
        native.ensure("t", "cuda")


def test_of_a_platform_that_is_not_here_nobody_is_asked(monkeypatch):
    monkeypatch.setattr(native, "here", lambda platform: platform == "cpu")
    monkeypatch.setenv("EV3X_NATIVE", "require")
    source = native.Offers("plugin", "ev3x-toy 1.5", lambda platform: pytest.fail(platform))
    assert not offered(source).ensure("ev3x_toy_gpu", "CUDA")


@built
def test_another_handler_under_a_taken_name_is_refused():
    assert native.ensure(TARGET)
    made = registry(lambda: library(**{TARGET: bundled("ev3x_rank_metrics")}), TARGET)
    with pytest.warns(native.NativeWarning, match=f"native target {TARGET} is not used.*"):
        assert not made.ensure(TARGET)


@built
def test_the_self_test_refuses_a_wrong_handler():
    made = registry(
        lambda: library(ev3x_test_wrong=bundled("ev3x_rank_metrics")),
        "ev3x_test_wrong",
        self_test=tried_as("ev3x_test_wrong"),
    )
    with pytest.warns(native.NativeWarning, match="ev3x_test_wrong is not used, its jnp definition is: "):
        assert not made.ensure("ev3x_test_wrong")


@built
def test_brought_up_within_a_trace():
    made = registry(
        lambda: library(ev3x_test_traced_f32=bundled(TARGET)),
        "ev3x_test_traced_f32",
        self_test=tried_as("ev3x_test_traced_f32"),
    )

    @jax.jit
    @jax.vmap
    def double(x):
        assert made.ensure("ev3x_test_traced_f32")
        return 2 * x

    np.testing.assert_array_equal(double(np.arange(3.0, dtype=np.float32)), [0, 2, 4])


def test_require_is_an_error_with_the_reason(monkeypatch):
    made = registry(raising(native._NotBuilt("built without native code")), "t")
    monkeypatch.setenv("EV3X_NATIVE", "require")
    text = "^EV3X_NATIVE=require, but native code cannot be used for 't': built without native code$"
    with pytest.raises(native.NativeError, match=text):
        made.ensure("t")


def test_where_it_is_required_every_missing_target_is_named_with_its_reason():
    made = registry(lambda: library(u=handler(0, 99)), "t", "u", "v")
    with pytest.raises(native.NativeError) as error, native.using("require"):
        assert [made.ensure(name) for name in "tuv"] == [False] * 3
    assert str(error.value).startswith(
        "native = \"require\", but native code cannot be used for 't', 'v': RuntimeError: the native module does not "
        "hold it: it is not of these sources; install ev3x again; 'u': RuntimeError: built with XLA FFI 0.99, but "
    )


def test_what_is_said_nearer_stands_above_the_environment(monkeypatch):
    made = registry(raising(native._NotBuilt("built without native code")), "t")
    monkeypatch.setenv("EV3X_NATIVE", "require")
    with native.using("off"):
        assert not made.ensure("t")
        assert made.status()[0].reason == 'native = "off"'
        with native.using("auto"):  # as outside
            assert not made.ensure("t")
    with pytest.raises(native.NativeError, match="EV3X_NATIVE=require, but"), native.using("auto"):
        made.ensure("t")
    monkeypatch.setenv("EV3X_NATIVE", "off")
    with pytest.raises(native.NativeError, match='native = "require", but'), native.using("require"):
        made.ensure("t")


def test_an_error_of_what_is_traced_is_not_hidden():
    made = registry(raising(native._NotBuilt("built without native code")), "t")
    with pytest.raises(ZeroDivisionError), native.using("require"):
        made.ensure("t")
        raise ZeroDivisionError


def test_a_mode_that_is_none_is_refused():
    text = "native must be one of 'auto', 'off', 'require', got 'on'"
    with pytest.raises(ValueError, match=text), native.using("on"):
        pass


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


@built
def test_a_plugins_target_works_from_end_to_end(monkeypatch):
    """Its own name for a handler that is there; the operation asks by name and knows no host."""
    tested = []
    target = FfiTarget("ev3x_toy_areas", bundled("ev3x_rank_metrics"), tested.append)
    monkeypatch.setattr(native, "registry", offered(plugin(target)))
    areas = importlib.import_module("ev3x.ops.rank_metrics")

    @jax.jit
    def op(*operands):
        call = functools.partial(areas._call, target="ev3x_toy_areas")
        return choose("ev3x_toy_areas", call, areas.definition, *operands)

    labels = jnp.array([False, True, True])
    scores = jnp.stack([labels, ~labels]).astype(jnp.float32)
    assert "ev3x_toy_areas" in op.lower(scores, labels).as_text()
    assert op(scores, labels).auroc.tolist() == [1, 0]
    assert tested == ["ev3x_toy_areas"]
    record = native.status()[0]
    assert (record.target, record.state, record.owner) == ("ev3x_toy_areas", "native", "ev3x-toy 1.5")


def test_a_self_test_that_fails_leaves_the_definition():
    def differs(name):
        raise RuntimeError("self-test: `wins` differs from the definition")

    made = offered(plugin(FfiTarget("ev3x_toy_wrong", handler(0, 1), differs)))
    text = (
        "ev3x: native target ev3x_toy_wrong of ev3x-toy 1.5 is not used, its jnp definition is: "
        "RuntimeError: self-test: `wins` differs from the definition"
    )
    with pytest.warns(native.NativeWarning, match=re.escape(text)):
        assert not made.ensure("ev3x_toy_wrong")
    assert made.status()[0].fault


def test_a_self_test_that_exits_is_a_fault_like_another():
    made = offered(plugin(FfiTarget("ev3x_toy_exit", handler(0, 1), lambda name: sys.exit(3))))
    with pytest.warns(
        native.NativeWarning, match="ev3x_toy_exit of ev3x-toy 1.5 is not used, its jnp definition is: SystemExit: 3"
    ):
        assert not made.ensure("ev3x_toy_exit")


def test_a_self_test_that_asks_for_its_own_target_is_told_so():
    made = offered()
    made.attach(plugin(FfiTarget("ev3x_toy_loop", handler(0, 1), made.ensure)))
    text = "a self-test asks for a native target: it must compare the custom call itself"
    with pytest.warns(native.NativeWarning, match=text):
        assert not made.ensure("ev3x_toy_loop")


def test_a_name_that_two_plugins_offer_is_used_by_neither():
    one, two = (plugin(FfiTarget("ev3x_a_b_c", handler(0, 1), agrees), name=name) for name in ("a", "a-b"))
    made = offered(one, two)
    text = (
        "native target ev3x_a_b_c of ev3x-a 1.5, ev3x-a-b 1.5 is not used, its jnp definition is: "
        "offered by plugin 'a' of ev3x-a 1.5 "
        "and by plugin 'a-b' of ev3x-a-b 1.5; uninstall one of them"
    )
    with pytest.warns(native.NativeWarning, match=re.escape(text)):
        assert not made.ensure("ev3x_a_b_c")
    assert made.status()[0].owner == "ev3x-a 1.5, ev3x-a-b 1.5"


def test_a_clash_that_shows_later_ends_the_use_of_the_name():
    made = offered(plugin(FfiTarget("ev3x_late_x", handler(0, 1), agrees), name="late"))
    assert made.ensure("ev3x_late_x")
    made.attach(plugin(FfiTarget("ev3x_late_x", handler(0, 1), agrees), name="later"))
    with pytest.warns(native.NativeWarning, match="offered by plugin 'late' of .* and by plugin 'later' of "):
        assert not made.ensure("ev3x_late_x")


def test_a_bundled_name_is_not_for_plugins():
    made = registry(raising(native._NotBuilt("built without native code")), "ev3x_score_stats")
    made.attach(plugin(FfiTarget("ev3x_score_stats", handler(0, 1), agrees), name="score"))
    text = "offered by ev3x and by plugin 'score' of ev3x-score 1.5; uninstall one of them"
    with pytest.warns(native.NativeWarning, match=text):
        assert not made.ensure("ev3x_score_stats")


def test_a_target_that_nobody_offers_is_no_fault_and_may_come_later(monkeypatch):
    made = offered()
    assert not made.ensure("ev3x_toy_late")
    monkeypatch.setenv("EV3X_NATIVE", "require")
    with pytest.raises(native.NativeError, match="'ev3x_toy_late': no plugin that has been loaded offers it"):
        made.ensure("ev3x_toy_late")
    made.attach(plugin(FfiTarget("ev3x_toy_late", handler(0, 1), agrees)))
    assert made.ensure("ev3x_toy_late")


def test_a_plugin_is_asked_once_per_platform():
    asked = []
    source = native.Offers("plugin", "ev3x-toy 1.5", lambda platform: asked.append(platform) or [])
    made = offered(source, source)
    made.status()
    made.status()
    assert asked == ["cpu"]
