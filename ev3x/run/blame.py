"""Finds the plugin at fault: an error of a plugin's code, or of what it returned, names that plugin."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

from ..component import Component
from ..core.contract import BoundaryError
from ..host.discovery import BUILTIN, PluginInfo
from ..host.faults import cause, innermost
from ..host.host import PluginError
from .setup import Setup

_Culprit = tuple[PluginInfo, str, str]  # the plugin, the label of its component, the function


@contextmanager
def blaming(setup: Setup, kept: Callable[[], str] | None = None) -> Iterator[None]:
    """Turns an error raised by a plugin, or because of it, into a PluginError that names it and says what is kept."""
    try:
        yield
    except (Exception, SystemExit) as error:
        if (said := _said(setup, error)) is None:
            raise
        rounds = kept() if kept else ""
        more = f"; {rounds}" if rounds and rounds not in said else ""
        raise PluginError(said + more) from error


def in_words(error: BaseException) -> str:
    """The message of an error; for a callback that raised on the host, its own error and place, not XLA's text."""
    lines = [line.strip() for line in str(error).strip().splitlines()]
    places = [line for line in lines if line.startswith("File ")]
    return f"a callback raised {lines[-1]} ({places[-1]})" if places else str(error)


def _said(setup: Setup, error: BaseException) -> str | None:
    """The sentence that names the plugin at fault; None if no plugin is."""
    if isinstance(error, BoundaryError):
        owner = setup.whose(error.who.label)
        return f"{owner}: {error}" if owner else None
    if found := _culprit(setup, error):
        plugin, part, function = found
        who = f"{part!r} failed in `{function}`" if part else f"`{function}` failed"
        return f"{plugin}: {who}: {cause(error)}"
    files = re.findall(r'File "([^"]+)", line', str(error))
    home = _home(setup, files[-1]) if files else None
    return f"{home}: {in_words(error)}" if home else None


def _culprit(setup: Setup, error: BaseException) -> _Culprit | None:
    """The plugin whose code is innermost in an error's traceback, its component's label (if any), and the function."""

    def owner(frame: FrameType, found: _Culprit | None) -> _Culprit | None:
        code = frame.f_code
        if (label := _label(setup, frame)) and (plugin := setup.whose(label)):
            return plugin, label, code.co_name
        if (home := _home(setup, code.co_filename)) and (found is None or home != found[0]):
            return home, "", code.co_name
        return found

    return innermost(error, owner)


def _label(setup: Setup, frame: FrameType) -> str | None:
    """The label of the component whose method runs in this frame; None if there is none."""
    owner = frame.f_locals.get("self")
    if not isinstance(owner, Component):
        return None
    return next((label for label, component in setup.components().items() if component == owner), None)


def _home(setup: Setup, file: str) -> PluginInfo | None:
    """The plugin that a file belongs to."""
    return next((p for p in setup.plugins if p.name != BUILTIN and _holds(p, Path(file))), None)


def _holds(plugin: PluginInfo, file: Path) -> bool:
    """Whether a file belongs to the plugin: to the package of its entry point, or to its module."""
    if not plugin.distribution and plugin.location == file:
        return True
    name = plugin.value.partition(":")[0].strip()
    module = sys.modules.get(name)
    if module is not None and not hasattr(module, "__path__"):
        if module.__file__ and Path(module.__file__) == file:
            return True
        module = sys.modules.get(name.rpartition(".")[0])
    return any(file.is_relative_to(folder) for folder in getattr(module, "__path__", ()))
