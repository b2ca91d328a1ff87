"""Errors of a plugin's code in words: the message, the place, and the remedy where it is known."""

from __future__ import annotations

import traceback
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import TypeVar

import pluggy

from .discovery import PluginInfo

T = TypeVar("T")


def cause(error: BaseException, plugin: PluginInfo | None = None) -> str:
    """The message of an error of a plugin's code, with its place and, where it is known, the remedy."""
    if isinstance(error, SystemExit):
        return f"it called sys.exit({error.code!r}){_place(error)}"
    said = " ".join(_words(error).split())
    text = f"{type(error).__name__}: {said}" if said else type(error).__name__
    if isinstance(error, SyntaxError):
        return f"{type(error).__name__}: {error.msg} ({error.filename}:{error.lineno})"
    if isinstance(error, ModuleNotFoundError) and error.name and plugin is not None:
        module = plugin.value.partition(":")[0]
        if f"{module}.".startswith(f"{error.name}."):
            return f"{text}: its files are gone; reinstall or uninstall {plugin.distribution or plugin.value}"
        return f"{text}; install that package"
    return text + _place(error)


def _words(error: BaseException) -> str:
    """The message of an error, or a note that even `str` of it raises."""
    try:
        return str(error)
    except Exception:
        return "and it raises when it is asked what is wrong"


def _place(error: BaseException) -> str:
    """The line that raised, unless it is in ev3x or in pluggy, which check what plugins bring."""
    frames = [f for f in traceback.extract_tb(error.__traceback__) if not f.filename.startswith("<")]
    checks = (Path(__file__).parent, Path(pluggy.__file__).parent)
    if not frames or any(Path(frames[-1].filename).is_relative_to(folder) for folder in checks):
        return ""
    return f" ({frames[-1].filename}:{frames[-1].lineno})"


def innermost(error: BaseException, owner: Callable[[FrameType, T | None], T | None]) -> T | None:
    """The innermost owner in an error's traceback: the last answer of `owner(frame, owner so far)`."""
    found: T | None = None
    for frame, _ in traceback.walk_tb(error.__traceback__):
        found = owner(frame, found)
    return found
