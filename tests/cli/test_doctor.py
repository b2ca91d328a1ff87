"""`ev3x doctor`: what a person reads about native code, and when it exits with 1."""

import importlib.util
import json
import re
import sys

import pytest
from handlers import handler
from typer.testing import CliRunner

import ev3x
from ev3x import FfiTarget
from ev3x.cli import app
from ev3x.host import discovery, host
from ev3x.ops import native

built = pytest.mark.skipif(importlib.util.find_spec(native.MODULE) is None, reason="installed without native code")


def invoke(*args):
    return CliRunner().invoke(app, ["doctor", *args])


def words(result):
    """The words of every line; how long a self-test took is left out."""
    return [re.sub(r"\b\d+ ms\b", "", line).split() for line in result.stdout.splitlines()]


@pytest.fixture
def registry(monkeypatch):
    """`registry(load, self_tests by name)` stands in place of this process's."""
    monkeypatch.delenv("EV3X_NATIVE", raising=False)

    def replace(load, **self_tests):
        made = native.Registry(load)
        for name, self_test in self_tests.items():
            made.declare(name, self_test)
        monkeypatch.setattr(native, "registry", made)
        return made

    return replace


@pytest.fixture
def plugins(monkeypatch):
    """Modules as installed plugins: `plugins(name=hook)`."""

    def install(**hooks):
        found = {}
        for name, hook in hooks.items():
            module = type(sys)(f"module_of_{name}")
            module.ev3x_ffi_targets = ev3x.hookimpl(hook)
            monkeypatch.setitem(sys.modules, module.__name__, module)
            found[name] = discovery.PluginInfo(name, module.__name__, f"ev3x-{name}", "1.5")
        monkeypatch.setattr(host, "discover", lambda: discovery.Index(found))

    return install


def agrees(target):
    """A self-test that is content."""


def differs(target):
    raise RuntimeError("self-test: `wins` [bold] differs from the definition")


def library(*names, version=(0, 1)):
    return native.Library(
        {name: handler(*version) for name in names}, (0, 1), "13.2", "x86-64-v3", ("baseline", "x86-64-v3")
    )


def raising(error):
    def load():
        raise error

    return load


@built
def test_a_healthy_installation_has_every_target_native(monkeypatch):
    monkeypatch.delenv("EV3X_NATIVE", raising=False)
    result = invoke("--require", "--json")
    assert result.exit_code == 0, result.output
    report = json.loads(result.stdout)
    assert {t["target"] for t in report["targets"]} == set(native.load_library().targets)
    assert {t["state"] for t in report["targets"]} == {"native"} and all(t["seconds"] > 0 for t in report["targets"])
    assert report["versions"]["ev3x"] == ev3x.__version__ and report["devices"]["cpu"]
    assert report["native"]["ffi"] == "0.1" and report["native"]["isa"] in report["native"]["isas"]
    assert report["faults"] == [] and result.stderr == ""


def test_versions_headers_compiler_and_instructions_are_shown(registry):
    registry(lambda: library("ev3x_doctor_a"), ev3x_doctor_a=agrees)
    result = invoke()
    assert result.exit_code == 0
    lines = words(result)
    running = ".".join(map(str, native.runtime_ffi_version()))
    assert ["XLA", "FFI", running, "in", "jaxlib,", "0.1", "in", "the", "headers", "of", "the", "build"] in lines
    assert ["instructions", "x86-64-v3", "(built", "in:", "baseline,", "x86-64-v3)"] in lines
    assert ["compiler", "13.2"] in lines and ["ev3x", ev3x.__version__] in lines
    assert ["ev3x_doctor_a", "ev3x", "cpu", "native", "built", "with", "XLA", "FFI", "0.1"] in lines


def test_without_the_native_module_it_says_so_and_only_require_fails(registry):
    registry(raising(native._NotBuilt("built without native code")), ev3x_doctor_b=agrees)
    result = invoke()
    assert result.exit_code == 0 and result.stderr == ""
    assert ["native", "code", "none:", "built", "without", "native", "code"] in words(result)
    assert ["ev3x_doctor_b", "ev3x", "cpu", "jnp", "built", "without", "native", "code"] in words(result)
    assert invoke("--require").exit_code == 1


def test_a_module_that_does_not_load_is_a_fault(registry):
    registry(raising(ImportError("undefined symbol: [red]xyz")), ev3x_doctor_c=agrees)
    result = invoke()
    assert result.exit_code == 1 and result.stderr == ""
    assert ["native", "code", "none:", "undefined", "symbol:", "[red]xyz"] in words(result)
    assert "jnp" in result.stdout and "ImportError: undefined symbol: [red]xyz" in result.stdout


def test_a_target_that_fails_its_self_test_is_a_fault(registry):
    registry(lambda: library("ev3x_doctor_d"), ev3x_doctor_d=differs)
    result = invoke()
    assert result.exit_code == 1
    assert "RuntimeError: self-test: `wins` [bold] differs from the definition" in result.stdout
    assert invoke("--json").exit_code == 1


def test_a_target_built_for_a_newer_jaxlib_is_a_fault(registry):
    registry(lambda: library("ev3x_doctor_e", version=(0, 99)), ev3x_doctor_e=agrees)
    result = invoke()
    assert result.exit_code == 1 and "built with XLA FFI 0.99, but this jaxlib has 0." in result.stdout


def test_off_loads_nothing_and_only_require_fails(registry, monkeypatch):
    registry(lambda: pytest.fail("loaded"), ev3x_doctor_f=agrees)
    monkeypatch.setenv("EV3X_NATIVE", "off")
    result = invoke()
    assert result.exit_code == 0
    assert ["native", "code", "none:", "EV3X_NATIVE=off"] in words(result)
    assert ["ev3x_doctor_f", "ev3x", "cpu", "jnp", "EV3X_NATIVE=off"] in words(result)
    assert invoke("--require").exit_code == 1


def test_a_misspelt_mode_is_one_message(registry, monkeypatch):
    registry(lambda: library())
    monkeypatch.setenv("EV3X_NATIVE", "always")
    result = invoke()
    assert result.exit_code == 2
    assert "EV3X_NATIVE must be on, off or require, got 'always'" in result.stderr


def test_plugins_are_looked_at_when_they_are_named(registry, plugins):
    made = registry(lambda: library())
    plugins(
        fine=lambda platform: [FfiTarget("ev3x_fine_doctor", handler(0, 1), agrees)],
        bad=lambda platform: [FfiTarget("ev3x_other", handler(0, 1), agrees)],
    )
    assert invoke().exit_code == 0 and made.status() == []
    result = invoke("--plugin", "fine")
    assert result.exit_code == 0
    assert "ev3x_fine_doctor ev3x-fine 1.5 cpu native built with XLA FFI 0.1".split() in words(result)
    result = invoke("--plugin", "fin")
    assert result.exit_code == 1 and result.stderr.startswith("unknown plugin 'fin'; did you mean 'fine'?")
    result = invoke("--all")
    assert result.exit_code == 1
    assert result.stderr.startswith(
        "plugin 'bad' of ev3x-bad 1.5 cannot offer its native targets: ValueError: the names"
    )
    assert "ev3x_fine_doctor" in result.stdout
