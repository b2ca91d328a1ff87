"""Shared by all commands: where they write, which errors they put in words, and how they end."""

from __future__ import annotations

import contextlib
import os
import sys
import traceback
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TextIO

import typer
from typer.core import TyperCommand, TyperGroup

PACKAGE = Path(__file__).parents[1]
# Known errors by name, so that no command must import jax to catch them.
KNOWN = {"ConfigError", "PluginError", "LockError", "OptionError", "RunError", "CheckpointError", "ObserverError"}
BAD_INPUT, DIFFERS, INTERRUPTED = 2, 3, 130


class _Quick:
    """A command with a default for `--help`: without one, Typer imports pydantic (0.1 s) to convert the value."""

    def get_help_option(self, ctx: Any) -> Any:
        """The `--help` option, with a value."""
        option = super().get_help_option(ctx)  # type: ignore[misc]
        if option is not None:
            option.default = False
        return option


class Quick(_Quick, TyperCommand):
    """A command that starts without importing pydantic."""


class QuickGroup(_Quick, TyperGroup):
    """A group that starts without importing pydantic."""


class Guarded(QuickGroup):
    """A group whose commands end with a message, not a traceback, when the user can do something about it."""

    def invoke(self, ctx: Any) -> Any:
        """The result of the command; errors that the user can mend end it with a message."""
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            say("interrupted", style="red")
            raise typer.Exit(INTERRUPTED) from None
        except Exception as error:
            if not _in_words(error):
                raise
            say(str(error), style="red")
            raise typer.Exit(BAD_INPUT) from error


def out(text: str) -> None:
    """Write a line on standard output, as it is."""
    print(text, flush=True)


def say(text: str, style: str = "") -> None:
    """Write a line for people on standard error."""
    from rich.console import Console

    Console(stderr=True, highlight=False, soft_wrap=True).print(text, style=style, markup=False)


def note_everything() -> None:
    """From here on, ev3x's log messages of level info go to standard error."""
    import logging

    logger = logging.getLogger("ev3x")
    logger.setLevel(logging.INFO)
    logger.addHandler(logging.StreamHandler())


@contextlib.contextmanager
def quietly(*, stdout: bool = False) -> Iterator[TextIO]:
    """The real standard output, while notes of libraries are kept out of it.

    Warnings become single lines on standard error, deprecations are dropped; with `stdout`, whatever anyone prints goes
    to standard error too.
    """
    import logging

    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    logging.getLogger("absl").setLevel(logging.ERROR)
    real = sys.stdout
    with warnings.catch_warnings():
        if not sys.warnoptions:
            warnings.simplefilter("ignore")
            warnings.simplefilter("default", UserWarning)
            warnings.showwarning = _one_line
        with contextlib.redirect_stdout(sys.stderr) if stdout else contextlib.nullcontext():
            yield real


def _one_line(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,
    line: str | None = None,
) -> None:
    say(f"warning: {message}", style="yellow")


def _in_words(error: Exception) -> bool:
    """Whether the message alone helps: our own kinds of error, and bad values that our own checks refuse."""
    if KNOWN & {kind.__name__ for kind in type(error).__mro__ if kind.__module__.startswith("ev3x.")}:
        return True
    frames = traceback.extract_tb(error.__traceback__)
    return isinstance(error, ValueError | TypeError) and Path(frames[-1].filename).is_relative_to(PACKAGE)
