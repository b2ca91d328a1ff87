"""Shared by all commands: where they write, which errors they put in words, and how they end."""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import sys
import traceback
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TextIO, cast

import typer
from typer.core import TyperCommand, TyperGroup

from ..text import console, shown, shown_lines, standard, why

PACKAGE = Path(__file__).parents[1]
# Known errors by name, so that no command must import jax to catch them.
KNOWN = {"ConfigError", "PluginError", "LockError", "OptionError", "RunError", "CheckpointError", "ObserverError"}
KNOWN |= {"InputError"}
LOST, BAD_INPUT, DIFFERS, INTERRUPTED = 1, 2, 3, 130
FULL = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EFBIG}
DEBUG = "--debug"


class InputError(Exception):
    """An argument of the command line cannot be used."""


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

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """The arguments that are left; `--debug` may stand anywhere, so that it works for every command."""
        end = args.index("--") if "--" in args else len(args)
        ours = [arg for arg in args[:end] if arg != DEBUG]
        left: list[str] = super().parse_args(ctx, [DEBUG] * (len(ours) < end) + ours + args[end:])
        return left

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """The command of this name; its help ends with what every command takes."""
        found = super().get_command(ctx, cmd_name)
        for command in [found, *getattr(found, "commands", {}).values()] if found else ():
            command.epilog = f"{DEBUG} shows the full traceback of every fault, too."
        return found

    def invoke(self, ctx: Any) -> Any:
        """The result of the command; errors that the user can mend end it with a message."""
        try:
            with _tracebacks() if ctx.params.get("debug") else contextlib.nullcontext():
                return super().invoke(ctx)
        except KeyboardInterrupt:
            say("interrupted", style="red")
            raise typer.Exit(INTERRUPTED) from None
        except Exception as error:
            if (said := _in_words(error)) is None:
                raise
            say(said, style="red")
            raise typer.Exit(BAD_INPUT) from error


def usable(given: Path | list[Path] | None) -> Path | list[Path] | None:
    """The path or paths as given; InputError for one that the system cannot take, or that no line of text can show."""
    for path in given if isinstance(given, list) else filter(None, [given]):
        if shown(text := os.fsencode(path).decode(errors="replace")) != text:
            raise InputError(f"{shown(path)}: a path must not hold line breaks or control characters")
        try:
            os.lstat(path)
        except (FileNotFoundError, NotADirectoryError):
            pass
        except OSError as error:
            raise InputError(f"{shown(path)}: {why(error)}") from error
    return given


def out(text: str) -> None:
    """Write a line on standard output, as it is."""
    print(text, flush=True)


def say(text: str, style: str = "") -> None:
    """Write a line for people, or several, on standard error."""
    console(standard("stderr"), soft_wrap=True).print(shown_lines(text), style=style)


def note_everything() -> None:
    """From here on, ev3x's log messages of level info are said, too."""
    logger = logging.getLogger("ev3x")
    logger.setLevel(min(logging.INFO, logger.level or logging.INFO))
    _InWords.lowest = logging.INFO


class _InWords(logging.Handler):
    """Says what ev3x and libraries log, in one line each; without it, libraries would write in forms of their own."""

    lowest = logging.WARNING  # level of ev3x's own messages

    def emit(self, record: logging.LogRecord) -> None:
        """Say the first line of the message, and of a library's whose it is."""
        ours, grave = record.name.partition(".")[0] == "ev3x", record.levelno >= logging.WARNING
        if grave or (ours and record.levelno >= self.lowest):
            try:
                text = record.getMessage()
            except Exception:  # its arguments do not fit: no reason to stop whoever logs
                text = str(record.msg)
            kind, whose = "warning: " if grave else "", "" if ours else f"{record.name}: "
            say(kind + whose + text.strip().partition("\n")[0], style="yellow" if grave else "")


def debugging() -> bool:
    """Whether tracebacks are wanted (`--debug`)."""
    return logging.getLogger("ev3x").isEnabledFor(logging.DEBUG)


@contextlib.contextmanager
def _tracebacks() -> Iterator[None]:
    """Prints the full traceback of every fault that ev3x puts in words, and of an error that ends the body."""
    told: list[BaseException | None] = []

    def traced(record: logging.LogRecord) -> bool:
        told.extend(record.exc_info[1:2] if record.exc_info else ())
        return bool(record.exc_info)

    logger, handler = logging.getLogger("ev3x"), logging.StreamHandler()
    handler.addFilter(traced)
    level = logger.level
    logger.setLevel(logging.DEBUG)
    logger.addHandler(handler)
    try:
        yield
    except Exception as error:
        chain: list[BaseException] = []
        cause: BaseException | None = error
        while cause is not None and cause not in chain:
            chain.append(cause)
            cause = cause.__cause__ or cause.__context__
        listed = told and type(error).__name__ == "ConfigError"  # its problems are faults that were told one by one
        if _in_words(error) is not None and not listed and not any(one is other for one in chain for other in told):
            traceback.print_exception(error)
        raise
    finally:
        logger.setLevel(level)
        logger.removeHandler(handler)


@contextlib.contextmanager
def quietly(*, stdout: bool = False) -> Iterator[TextIO]:
    """The real standard output, while notes of libraries are kept out of it.

    Warnings and log messages become single lines on standard error, deprecations are dropped; with `stdout`, whatever
    anyone prints goes to standard error too.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    logging.getLogger("absl").setLevel(logging.ERROR)
    real = standard("stdout") if sys.stdout is None else sys.stdout
    with warnings.catch_warnings(), _logged():
        if not sys.warnoptions:
            warnings.simplefilter("ignore")
            warnings.simplefilter("default", UserWarning)
            warnings.showwarning = _one_line
        with contextlib.redirect_stdout(sys.stderr) if stdout else contextlib.nullcontext():
            yield cast(TextIO, real)


@contextlib.contextmanager
def _logged() -> Iterator[None]:
    root, handler = logging.getLogger(), _InWords()
    root.addHandler(handler)
    try:
        yield
    finally:
        root.removeHandler(handler)


def _one_line(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,
    line: str | None = None,
) -> None:
    say(f"warning: {' '.join(str(message).split())}", style="yellow")


def _in_words(error: Exception) -> str | None:
    """The message, if it alone helps: of our own errors, of bad values that our checks refuse, and of files."""
    if KNOWN & {kind.__name__ for kind in type(error).__mro__ if kind.__module__.startswith("ev3x.")}:
        return str(error)
    if isinstance(error, OSError) and error.filename is not None:
        return f"{shown(error.filename)}: {why(error)}"
    if isinstance(error, OSError) and error.errno in FULL:  # writing names no file
        return f"a file cannot be written: {why(error)}"
    frames = traceback.extract_tb(error.__traceback__)
    ours = isinstance(error, ValueError | TypeError) and Path(frames[-1].filename).is_relative_to(PACKAGE)
    return str(error) if ours else None
