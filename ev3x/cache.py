"""The folder of cached files, all of which can be made again: of one user, whole, and checked when they are read."""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Iterator
from pathlib import Path

from .text import ITSELF, draft, is_draft

ENDING = ".kept"
LARGEST = 2**28  # bytes of a file: much more than any has
_HEAD = b"ev3x cache 1, sha256 "  # then the digest of all that follows the line
_LINE = len(_HEAD) + 64 + 1


def directory() -> Path:
    """The cache folder: $EV3X_CACHE, else $XDG_CACHE_HOME/ev3x, else ~/.cache/ev3x. It may be missing or read-only.

    A user without a home, as in many containers, gets a path that cannot exist: reading finds nothing there, and
    writing raises OSError.
    """
    if own := os.environ.get("EV3X_CACHE"):
        return Path(own)
    if shared := os.environ.get("XDG_CACHE_HOME"):
        return Path(shared) / "ev3x"
    try:
        return Path.home() / ".cache" / "ev3x"
    except RuntimeError:
        return Path(os.devnull) / "ev3x"


def write(path: Path, content: bytes) -> None:
    """Keep the content in a file of the cache, which this user alone can read; OSError when that cannot be."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with draft(path, mode=0o600) as new:
        new.write_bytes(_HEAD + hashlib.sha256(content).hexdigest().encode() + b"\n" + content)


def read(path: Path) -> bytes | None:
    """The content that was kept in a file, None when there is none; ValueError says why it is not to be believed.

    Nobody but this user and root may have written it, and it must be what its digest says.
    """
    try:
        handle = os.open(path, os.O_RDONLY | ITSELF)
    except (FileNotFoundError, NotADirectoryError):
        return None
    with open(handle, "rb") as file:
        facts = os.fstat(handle)
        if not stat.S_ISREG(facts.st_mode):
            raise ValueError("it is no file")
        if hasattr(os, "geteuid") and facts.st_uid not in (os.geteuid(), 0):
            raise ValueError(f"it belongs to another user ({facts.st_uid})")
        if os.name == "posix" and facts.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
            raise ValueError("other users may write to it")
        if facts.st_size > LARGEST:
            raise ValueError(f"it has {facts.st_size:,} bytes, more than {LARGEST:,}")
        text = file.read()
    head, content = text[:_LINE], text[_LINE:]
    if head != _HEAD + hashlib.sha256(content).hexdigest().encode() + b"\n":
        raise ValueError("its digest is not that of its content")
    return content


def files() -> Iterator[Path]:
    """The files of the cache that ev3x made: results, notes of plugins that were being loaded, and unfinished ones."""
    for folder in (directory(), directory() / "loading"):
        try:
            names = sorted(path.name for path in folder.iterdir())
        except OSError:
            continue
        for name in names:
            path = folder / name
            ours = name.endswith((ENDING, ".txt" if folder.name == "loading" else ENDING)) or is_draft(name)
            if (ours or name.startswith("mnist1d-teacher-")) and (path.is_symlink() or path.is_file()):
                yield path
