"""Errors of a plugin's code in words: the message, the place, and the remedy where it is known."""

from __future__ import annotations

import logging
import traceback
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import TypeVar

import pluggy

from . import entry_points
from .discovery import PluginInfo

T = TypeVar("T")
_log = logging.getLogger("ev3x.faults")
_TRACED = "while a round is traced, arrays have no values"
# What to do about errors that many authors meet, by the name of the exception's class.
REMEDIES = {
    "FrozenInstanceError": (
        "components and records are frozen: carry it in the state (an observer: in the handle that `start` returns), "
        "and change records by dataclasses.replace"
    ),
    "TracerBoolConversionError": f"{_TRACED}: use jnp.where, & and | in place of Python's if, and, or",
    "NonConcreteBooleanIndexError": f"{_TRACED}, and shapes are fixed: use jnp.where(mask, x, 0) in place of x[mask]",
    "TracerArrayConversionError": f"{_TRACED}: use jax.numpy in place of numpy",
    "TracerIntegerConversionError": f"{_TRACED}: index a jax array, not a list or a tuple",
    "UnexpectedTracerError": "a traced array was kept beyond its trace: return it in the state, or in the memo",
    "ConcretizationTypeError": f"{_TRACED}: use .astype in place of float(), int() and .item()",
}
_STRICT = "JAX is strict in this process, as `ev3x.testing.distribution` makes it in tests, and users may"
# And by the setting that their text names.
SETTINGS = {
    "jax_numpy_rank_promotion": f"{_STRICT}: give both as many axes, w[None] * x where w lacks the first axis of x",
    "jax_numpy_dtype_promotion": f"{_STRICT}: give both the same type, with .astype or jnp.float32(...)",
}


def cause(error: BaseException, plugin: PluginInfo | None = None, place: str = "") -> str:
    """The message of an error of a plugin's code, with its place and, where it is known, the remedy.

    `place` is the line at fault, if the caller knows it; else it is the innermost one. The full traceback is logged, at
    level debug.
    """
    _log.debug("%s", type(error).__name__, exc_info=error)
    if isinstance(error, SystemExit):
        return f"it called sys.exit({error.code!r}){_place(error, place)}"
    if isinstance(error, SyntaxError):
        return f"{type(error).__name__}: {error.msg} ({error.filename}:{error.lineno})"
    known, said = remedy(error), _words(error)
    # JAX's own errors list the arguments of the whole round, and end with a link.
    said = " ".join((said.partition("\n")[0].rstrip(".") if known else said).split())
    text = f"{type(error).__name__}: {said}" if said else type(error).__name__
    if isinstance(error, ModuleNotFoundError) and error.name and plugin is not None:
        return f"{text}{_missing(error.name, error, plugin)}"
    return f"{text}{'; ' if known else ''}{known}{_place(error, place)}"


def remedy(error: BaseException) -> str:
    """What to do about an error that many authors meet; "" for any other."""
    by_kind = (REMEDIES[kind.__name__] for kind in type(error).__mro__ if kind.__name__ in REMEDIES)
    text = _words(error)
    return next(by_kind, next((do for name, do in SETTINGS.items() if name in text), ""))


def _missing(name: str, error: BaseException, plugin: PluginInfo) -> str:
    """Why the module of this name is missing, and what to do."""
    own = entry_points.module(plugin)
    if name.partition(".")[0] != own.partition(".")[0]:
        return f"; install that package{_place(error, '')}"
    gone, why = entry_points.lost(plugin, name)
    if f"{own}.".startswith(f"{name}."):  # the module of the entry point, or a package around it
        return f": {why}; {entry_points.quoted(plugin) if gone else entry_points.mend(plugin)}"
    return f": {why}{_place(error, '')}"


def _words(error: BaseException) -> str:
    """The message of an error, or a note that even `str` of it raises."""
    try:
        return str(error)
    except Exception:
        return "and it raises when it is asked what is wrong"


def _place(error: BaseException, known: str) -> str:
    """The line that raised, unless it is in ev3x or in pluggy, which check what plugins bring."""
    if known:
        return f" ({known})"
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
