"""Fixtures of pytest for the authors of plugins: `pytest_plugins = ["ev3x.testing.fixtures"]` in conftest.py."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path

import pytest

from ..core.data import Splits
from ..host import discovery, host
from ..host.discovery import BUILTIN, Index, PluginInfo, builtin
from ..host.host import Host
from .worlds import TinyTask, splits


@dataclasses.dataclass(frozen=True)
class Printed:
    """How a command ended, and what it printed where."""

    exit_code: int
    stdout: str
    stderr: str


class HermeticHost:
    """An ev3x without any installed plugin, in a project directory of its own."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.registered: dict[str, object] = {}

    @property
    def host(self) -> Host:
        """A fresh host with the built-in components and the registered plugins."""
        return Host()

    def register(self, name: str, plugin: object) -> PluginInfo:
        """Make a module, or an instance with hooks, known as the plugin of this name, to hosts and commands."""
        info = self.host.register(name, plugin)
        self.registered[name] = plugin
        return info

    def cli(self, *args: object) -> Printed:
        """What `ev3x ARGS...` does in the project directory, in this process."""
        from typer.testing import CliRunner

        from ..cli import app

        done = CliRunner().invoke(app, [str(arg) for arg in args])
        if done.exception is not None and not isinstance(done.exception, SystemExit):
            raise done.exception
        return Printed(done.exit_code, done.stdout, done.stderr)


@pytest.fixture
def ev3x_task() -> TinyTask:
    """A task that trains in milliseconds: two overlapping classes in the plane."""
    return TinyTask()


@pytest.fixture
def ev3x_splits() -> Splits:
    """Endless splits for that task, with a meta split."""
    return splits()


@pytest.fixture
def ev3x_host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> HermeticHost:
    """A hermetic ev3x: nothing installed is found, plugins come by `register`, commands run by `cli`."""
    hermetic = HermeticHost(tmp_path)
    begin = Host.__init__

    def made(self: Host, *args: object, **kwargs: object) -> None:
        begin(self, *args, **kwargs)  # type: ignore[arg-type]
        for name, plugin in hermetic.registered.items():
            self.register(name, plugin)

    def nothing_installed() -> Index:
        return Index({BUILTIN: builtin()}, {}, {}, (), {})

    for name in [name for name in os.environ if name.startswith("EV3X_") and name != "EV3X_NATIVE"]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("EV3X_CACHE", str(tmp_path / "cache"))
    for module in (discovery, host):
        monkeypatch.setattr(module, "discover", nothing_installed)
    monkeypatch.setattr(Host, "__init__", made)
    monkeypatch.chdir(tmp_path)
    return hermetic
