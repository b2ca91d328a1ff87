"""The directory of a run: claimed once, held by one process at a time, its files whole or not there."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

LOCK = ".lock"


class RunError(Exception):
    """A run that cannot begin or go on; the text says why and what to do."""


def check_run(directory: Path) -> None:
    """Raise RunError unless the directory holds a run."""
    if not (directory / "config.toml").is_file():
        raise RunError(f"{directory} is no run directory: it has no config.toml")


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
    """Hold the run, so that no second process writes to it; the lock goes with the process, however that ends."""
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
    """Where to write a file that takes the place of `path` once it is whole."""
    new = path.with_name(path.name + ".new")
    yield new
    os.replace(new, path)


def write(path: Path, text: str) -> None:
    """Write a whole file, or leave it as it was."""
    with draft(path) as new:
        new.write_text(text)
