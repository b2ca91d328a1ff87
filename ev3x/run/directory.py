"""The directory of a run: claimed once, held by one process at a time; its files are never half written.

This module alone writes and reads its files: `config.toml`, `rounds.jsonl` (a row of JSON for each round),
`summary.json`. `checkpoint.py` owns `checkpoints/`.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ..core.observe import Row

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

LOCK, CONFIG, ROUNDS, SUMMARY, CHECKPOINTS = ".lock", "config.toml", "rounds.jsonl", "summary.json", "checkpoints"
_KEYS = frozenset({"round", "candidates", "winner", "verdict", "why", "promoted", "move", "confirm", "ledger", "calls"})


class RunError(Exception):
    """A run cannot begin or go on; the text says why and what to do."""


def check_run(directory: Path) -> None:
    """Raise RunError unless the directory holds a run."""
    if not (directory / CONFIG).is_file():
        raise RunError(f"{directory} is no run directory: it has no {CONFIG}")


def claim(directory: Path) -> None:
    """Raise RunError unless the directory can hold a new run."""
    try:
        directory.mkdir(parents=True, exist_ok=True)
        if any(path.name != LOCK for path in directory.iterdir()):
            raise RunError(
                f"{directory} is not empty: choose another --out, or `ev3x resume {directory}` if it is a run"
            )
        with tempfile.TemporaryFile(dir=directory):
            pass
    except OSError as error:
        raise RunError(f"cannot write to {directory}: {error.strerror}; choose another --out") from error


@contextmanager
def alone(directory: Path) -> Iterator[None]:
    """Hold the run, so that no second process writes to it; the lock ends with the process, however that ends."""
    try:
        with (directory / LOCK).open("a") as file:
            try:
                if fcntl:
                    fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except (BlockingIOError, PermissionError):
                raise RunError(f"{directory} is in use by another process") from None
            yield
    except OSError as error:
        if error.filename is None or Path(error.filename) != directory / LOCK:
            raise
        raise RunError(f"cannot write to {directory}: {error.strerror}") from error


@contextmanager
def draft(path: Path) -> Iterator[Path]:
    """A temporary path to write a file to, which replaces `path` once it is complete."""
    new = path.with_name(path.name + ".new")
    yield new
    os.replace(new, path)


def write(path: Path, text: str) -> None:
    """Write a whole file, or leave it as it was."""
    with draft(path) as new:
        new.write_text(text)


def write_rows(directory: Path, rows: Sequence[Row]) -> None:
    """Write the rows of all rounds so far, in place of what the file held."""
    write(directory / ROUNDS, "".join(map(_line, rows)))


def append_rows(directory: Path, rows: Sequence[Row]) -> None:
    """Append the rows of new rounds."""
    with (directory / ROUNDS).open("a") as file:
        file.writelines(map(_line, rows))


def write_summary(directory: Path, summary: Mapping[str, Any]) -> None:
    """Write summary.json, the result of the run."""
    write(directory / SUMMARY, json.dumps(summary, indent=2) + "\n")


def read(directory: Path) -> tuple[list[Row], Row]:
    """The rows of a run's rounds, and its summary, empty when there is none yet; RunError says what cannot be read."""
    check_run(directory)
    rows, path, lines = [], directory / ROUNDS, _lines(directory)
    for i, line in enumerate(lines, 1):
        try:
            row = json.loads(line)
        except ValueError as error:
            if i == len(lines) and not line.endswith("\n"):  # a run that was killed while it wrote
                break
            raise RunError(f"{path}:{i}: must be the row of a round in JSON: {error}") from error
        if not isinstance(row, dict) or (lacking := sorted(_KEYS - row.keys())):
            lacks = f"it lacks {', '.join(lacking)}" if isinstance(row, dict) else f"got {line.strip()[:40]}"
            raise RunError(f"{path}:{i}: must be the row of a round, as this version of ev3x writes it: {lacks}")
        rows.append(row)
    if not rows:
        raise RunError(f"{directory} has no round yet: there is nothing to explain")
    path = directory / SUMMARY
    try:
        return rows, json.loads(path.read_text()) if path.is_file() else {}
    except ValueError as error:
        raise RunError(f"{path}: must be the summary of a run in JSON: {error}") from error


def read_as_it_is(directory: Path) -> tuple[list[Any], Any]:
    """The values of all lines of rounds.jsonl, and of summary.json (None when there is none); no JSON: the text."""
    path = directory / SUMMARY
    rows = [_parsed(line.removesuffix("\n")) for line in _lines(directory)]
    return rows, _parsed(path.read_text()) if path.is_file() else None


def _lines(directory: Path) -> list[str]:
    path = directory / ROUNDS
    return path.read_text().splitlines(keepends=True) if path.is_file() else []


def _parsed(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text


def _line(row: Row) -> str:
    return json.dumps(row, allow_nan=False) + "\n"
