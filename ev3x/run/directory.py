"""The directory of a run: claimed once, held by one process at a time; its files are never half written.

This module alone writes and reads its files: `config.toml`, `rounds.jsonl` (a row of JSON for each round),
`summary.json`. `checkpoint.py` owns `checkpoints/`.
"""

from __future__ import annotations

import io
import json
import os
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ..core.observe import Row
from ..text import command, draft_of, json_text, shown, why
from ..text import draft as file_draft

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

LOCK, CONFIG, ROUNDS, SUMMARY, CHECKPOINTS = ".lock", "config.toml", "rounds.jsonl", "summary.json", "checkpoints"
_KEYS: dict[str, tuple[type, ...]] = {
    "round": (int,),
    "candidates": (list,),
    "winner": (str, type(None)),
    **dict.fromkeys(("verdict", "why", "move"), (str,)),
    "promoted": (bool,),
    **dict.fromkeys(("confirm", "ledger", "calls"), (dict,)),
}


class RunError(Exception):
    """A run cannot begin or go on; the text says why and what to do."""


def check_run(directory: Path) -> None:
    """Raise RunError unless the directory holds a run."""
    _check_name(directory)
    if not os.path.isfile(directory / CONFIG):  # False for a name that the system cannot take
        raise RunError(f"{shown(directory)} is no run directory: it has no {CONFIG}")


def claim(directory: Path) -> None:
    """Raise RunError unless the directory can hold a new run."""
    _check_name(directory)
    try:
        directory.mkdir(parents=True, exist_ok=True)
        # A process that was killed while it wrote its config leaves the draft.
        if any(path.name not in (LOCK, draft_of(directory / CONFIG).name) for path in directory.iterdir()):
            raise RunError(
                f"{shown(directory)} is not empty: choose another --out, or `{resuming(directory)}` if it is a run"
            )
        with tempfile.TemporaryFile(dir=directory):
            pass
    except OSError as error:
        raise RunError(f"cannot write to {shown(directory)}: {why(error)}; choose another --out") from error


def resuming(directory: Path | None) -> str:
    """The command that goes on with a run."""
    return command("ev3x", "resume", directory)


@contextmanager
def alone(directory: Path) -> Iterator[None]:
    """Hold the run, so that no second process writes to it; the lock ends with the process, however that ends."""
    try:
        with (directory / LOCK).open("ab") as file:
            try:
                if fcntl:
                    fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except (BlockingIOError, PermissionError):
                raise RunError(f"{shown(directory)} is in use by another process") from None
            yield
    except OSError as error:
        if error.filename is None or Path(error.filename) != directory / LOCK:
            raise
        raise RunError(f"cannot write to {shown(directory)}: {why(error)}") from error


@contextmanager
def draft(path: Path) -> Iterator[Path]:
    """A temporary path to write a file to, which replaces `path` once it is complete; RunError if it cannot be written.

    Whatever fails, `path` stays as it was, and the draft goes.
    """
    try:
        with file_draft(path) as new:
            yield new
    except OSError as error:
        raise _unwritten(path, error) from error


def write(path: Path, text: str) -> None:
    """Write a whole file, or leave it as it was."""
    with draft(path) as new:
        new.write_text(text, encoding="utf-8")


def write_rows(directory: Path, rows: Sequence[Row]) -> None:
    """Write the rows of all rounds so far, in place of what the file held."""
    write(directory / ROUNDS, "".join(map(_line, rows)))


def append_rows(directory: Path, rows: Sequence[Row]) -> None:
    """Append the rows of new rounds."""
    try:
        with (directory / ROUNDS).open("a", encoding="utf-8") as file:
            file.writelines(map(_line, rows))
    except OSError as error:
        raise _unwritten(directory / ROUNDS, error) from error


def write_summary(directory: Path, summary: Mapping[str, Any]) -> None:
    """Write summary.json, the result of the run."""
    write(directory / SUMMARY, json_text(summary, indent=2) + "\n")


def read(directory: Path) -> tuple[list[Row], Row]:
    """The rows of a run's rounds, and its summary, empty when there is none yet; RunError says what cannot be read."""
    check_run(directory)
    rows, path, lines = [], directory / ROUNDS, _lines(directory)
    for i, line in enumerate(lines, 1):
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:
            if i == len(lines) and not line.endswith("\n"):  # a run that was killed while it wrote
                break
            raise RunError(f"{path}:{i}: must be the row of a round in JSON: {error}") from error
        if not isinstance(row, dict):
            odd = f"got {line.strip()[:40]}"
        elif lacking := sorted(_KEYS.keys() - row.keys()):
            odd = f"it lacks {', '.join(lacking)}"
        else:
            odd = ", ".join(f"{key} is {row[key]!r:.40}" for key, kinds in _KEYS.items() if type(row[key]) not in kinds)
        if odd:
            raise RunError(f"{path}:{i}: must be the row of a round, as this version of ev3x writes it: {odd}")
        rows.append(row)
    if not rows:
        raise RunError(f"{shown(directory)} has no round yet: there is nothing to explain")
    path = directory / SUMMARY
    text = _text(path)
    try:
        summary = {} if text is None else json.loads(text)
    except (ValueError, RecursionError) as error:
        raise RunError(f"{path}: must be the summary of a run in JSON: {error}") from error
    if not isinstance(summary, dict):
        raise RunError(f"{path}: must be the summary of a run, an object of JSON, got {text!r:.40}")
    return rows, summary


@contextmanager
def as_written(directory: Path) -> Iterator[None]:
    """Turns errors of the body about values deep inside of rows and summary into a RunError: others than ev3x wrote."""
    try:
        yield
    except (AttributeError, KeyError, IndexError, TypeError, ValueError) as error:
        said = f"{type(error).__name__}: {error}"
        files = f"{shown(directory / ROUNDS)} and {SUMMARY}"
        raise RunError(
            f"{files} must be as this version of ev3x writes them; something in them is not: {said}"
        ) from error


def read_as_it_is(directory: Path) -> tuple[list[Any], Any]:
    """The values of all lines of rounds.jsonl, and of summary.json (None when there is none); no JSON: the text."""
    text = _text(directory / SUMMARY)
    rows = [_parsed(line.removesuffix("\n")) for line in _lines(directory)]
    return rows, None if text is None else _parsed(text)


def _unwritten(path: Path, error: OSError) -> RunError:
    return RunError(f"cannot write {shown(path)}: {why(error)}")


def _check_name(directory: Path) -> None:
    """Raise RunError for a path that is no UTF-8 text: checkpoints cannot be stored there."""
    try:
        str(directory.absolute()).encode()
    except UnicodeEncodeError as error:
        text = f"{shown(directory.absolute())}: the path of a run must be UTF-8 text"
        hint = "" if sys.getfilesystemencoding() == "utf-8" else "; with PYTHONUTF8=1, Python takes it for such"
        raise RunError(text + hint) from error


def _lines(directory: Path) -> list[str]:
    return list(io.StringIO(_text(directory / ROUNDS) or ""))


def _text(path: Path) -> str | None:
    """The text of a file, with or without a byte order mark; None when there is none."""
    try:
        return path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        return None
    except OSError as error:
        raise RunError(f"cannot read {shown(path)}: {why(error)}") from error
    except UnicodeDecodeError as error:
        raise RunError(f"{shown(path)}: must be UTF-8 text: {error}") from error


def _parsed(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text


def _line(row: Row) -> str:
    return json.dumps(row, allow_nan=False) + "\n"
