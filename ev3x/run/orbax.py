"""What Orbax and its threads log, and whether they ask for locks."""

from __future__ import annotations

import contextlib
import functools
import importlib
import logging
import re
import sys
import threading
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ..text import shown, why
from .directory import held_by_file


class _Held(logging.Filter):
    """Keeps what Orbax logs off the screen, and the errors among it for later."""

    def __init__(self) -> None:
        super().__init__()
        self.errors: list[str] = []

    def filter(self, record: logging.LogRecord) -> bool:
        if record.levelno >= logging.ERROR:
            self.errors.append(shown(record.getMessage())[:200])
        return False


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Hides Orbax's reports. What it logs as an error is a warning, unless the body raises: then that error says it."""
    _spare_after_effects()
    logger, held = logging.getLogger("absl"), _Held()
    left_behind = of_the_main_thread in logger.filters
    logger.removeFilter(of_the_main_thread)  # it would drop what is held
    logger.addFilter(held)
    try:
        yield
    except BaseException:
        left_behind = True
        raise
    finally:
        if left_behind:
            logger.addFilter(of_the_main_thread)
        logger.removeFilter(held)
    for text in held.errors:
        warnings.warn(f"Orbax reports: {text}", stacklevel=3)


def of_the_main_thread(record: logging.LogRecord) -> bool:
    """False for what threads log that Orbax left behind when it gave up: why it did is told by the error itself."""
    return record.thread == threading.main_thread().ident


@contextlib.contextmanager
def locked_by(run: Path) -> Iterator[None]:
    """Lets Orbax ask for no locks in the body where the file system has none: there, a file of the run holds it.

    Orbax has no option for that; one that is built otherwise than the known ones refuses such a place in its own words.
    """
    module: Any = None
    if held_by_file(run):
        with contextlib.suppress(ImportError):
            module = importlib.import_module("orbax.checkpoint._src.serialization.tensorstore_utils")
    original = getattr(module, "get_ts_context", None)
    if original is None:
        yield
        return
    tensorstore = importlib.import_module("tensorstore")

    def without_locks(*args: Any, **options: Any) -> Any:
        return tensorstore.Context({"file_io_locking": {"mode": "none"}}, original(*args, **options))

    module.get_ts_context = without_locks
    try:
        yield
    finally:
        module.get_ts_context = original


@functools.cache
def _spare_after_effects() -> None:
    """From here on, reads that Orbax began and then gave up, because one failed, end without some sixty tracebacks."""
    before = sys.unraisablehook

    def hook(unraisable: Any) -> None:
        if str(unraisable.exc_value) != "Event loop is closed":
            before(unraisable)

    sys.unraisablehook = hook
    logging.getLogger("asyncio").addFilter(lambda r: "tensorstore" not in str(r.exc_info and r.exc_info[1]))


def said(error: Exception) -> str:
    """What Orbax says of a failure, without the places in its sources."""
    if isinstance(error, OSError):
        return why(error)
    first = str(error).strip().partition("\n")[0]
    return shown(re.sub(r"\s*\[(source locations|tensorstore_spec)=.*", "", first)) or type(error).__name__
