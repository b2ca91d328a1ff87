"""Finds the plugin at fault: an error of a plugin's code, or of what it returned, names that plugin."""

from __future__ import annotations

import dataclasses
import re
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

from ..component import Component
from ..core.contract import BoundaryError
from ..core.task import Metric, MetricError
from ..host.discovery import BUILTIN, PluginInfo
from ..host.faults import cause
from ..host.host import PluginError
from .setup import Setup


@dataclasses.dataclass(frozen=True)
class _Culprit:
    """The plugin at fault, what of it was called by whom, and the last line of the plugin's own code before it failed.

    `part` is the label of its component; empty for code that belongs to no component.
    """

    plugin: PluginInfo
    part: str
    what: str
    place: str = ""


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
    if not places:
        return str(error)
    metric = re.fullmatch(rf"\S*{MetricError.__name__}: (metric .+?): (\w+: .*)", lines[-1])
    who, said = (f"{metric[1]}: ", metric[2]) if metric else ("", lines[-1])
    return f"{who}a callback raised {said} ({places[-1]})"


def _said(setup: Setup, error: BaseException) -> str | None:
    """The sentence that names the plugin at fault; None if no plugin is."""
    if isinstance(error, BoundaryError):
        owner = setup.whose(error.who.label)
        return f"{owner}: {error}" if owner else None
    if found := _culprit(setup, error):
        who = f"{found.part!r} failed in {found.what}" if found.part else f"{found.what} failed"
        return f"{found.plugin}: {who}: {cause(error, place=found.place)}"
    files = re.findall(r'File "([^"]+)", line', str(error))
    home = _home(setup, files[-1]) if files else None
    return f"{home}: {in_words(error)}" if home else None


def _culprit(setup: Setup, error: BaseException) -> _Culprit | None:
    """The plugin whose code is innermost in an error's traceback; code that Python generated is nobody's."""
    found: _Culprit | None = None
    for frame, line in traceback.walk_tb(error.__traceback__):
        file, owner = frame.f_code.co_filename, _self(frame)
        if file.startswith("<"):  # the __setattr__ of a frozen dataclass, say
            continue
        home = _home(setup, file)
        if isinstance(owner, Metric):
            if plugin := setup.whose("task"):
                found = _Culprit(plugin, "task", f"metric {owner.name!r}")
        elif (label := _label(setup, owner)) and (plugin := setup.whose(label)):
            method = frame.f_code.co_name
            if found is None or found.part != label or hasattr(_role(owner), method):
                found = _Culprit(plugin, label, f"`{method}`")
        elif home and (found is None or home != found.plugin):
            found = _Culprit(home, "", f"`{frame.f_code.co_name}`")
        if found and home == found.plugin:
            found = dataclasses.replace(found, place=f"{file}:{line}")
    return found


def _self(frame: FrameType) -> object:
    """The object whose method runs in this frame, None for a function; a function within a method is not a method."""
    return frame.f_locals.get("self") if frame.f_code.co_varnames[:1] == ("self",) else None


def _label(setup: Setup, owner: object) -> str | None:
    """The label of this component in the run; None if it is none."""
    if not isinstance(owner, Component):
        return None
    return next((label for label, component in setup.components().items() if component == owner), None)


def _role(component: object) -> type:
    """The class that says what components of this role do: the last but `Component` itself."""
    kinds = [kind for kind in type(component).__mro__ if issubclass(kind, Component)]
    return kinds[-2] if len(kinds) > 1 else Component


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
