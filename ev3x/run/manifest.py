"""The manifest of a run that has ended: the digest of each of its files. A run that goes on has none."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import stat
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from ..text import is_draft, shown, why
from .directory import CONFIG, HELD, LOCK, ROUNDS, SUMMARY, RunError, check_run, hollow, opened, whole, write

MANIFEST = "manifest.json"
LINK = "a link"


@dataclasses.dataclass(frozen=True)
class Fault:
    """A file that is not as it was when the run ended."""

    file: str
    what: str


@dataclasses.dataclass(frozen=True)
class Verified:
    """How many files are as they were, which are not, and the digest of the manifest; None where there is none."""

    sound: int
    faults: tuple[Fault, ...]
    digest: str | None


def seal(directory: Path) -> None:
    """Write the manifest of all files as they are now."""
    _write(directory, {path: _digest(directory / path) for path in _files(directory)})


def reseal(directory: Path, path: Path) -> None:
    """Enter this file, which was written after the run had ended; does nothing for one outside of the run."""
    place = os.path.relpath(path, directory)
    known = _read(directory)
    if isinstance(known, dict) and place in _files(directory):
        _write(directory, known | {place: _digest(path)})


def unseal(directory: Path) -> None:
    """Remove the manifest: the run goes on."""
    try:
        (directory / MANIFEST).unlink(missing_ok=True)
        for path in directory.iterdir():  # a killed process leaves drafts
            if is_draft(path.name, (CONFIG, ROUNDS, SUMMARY, MANIFEST)):
                path.unlink(missing_ok=True)
    except OSError as error:
        raise RunError(f"cannot remove {shown(directory / MANIFEST)}: {why(error)}") from error


def sealed(directory: Path) -> bool:
    """Whether the run has ended, and was not resumed since."""
    return os.path.isfile(directory / MANIFEST)


def verify(directory: Path) -> Verified:
    """Which files are as they were when the run ended. Reads every file, believes none, and writes nothing."""
    known = _read(directory)
    if known is None:
        check_run(directory)
        return Verified(0, (), None)
    if isinstance(known, Fault):
        return Verified(0, (known,), None)
    there, faults, sound = set(_files(directory)), [], 0
    for path in sorted(known.keys() | there):
        if path not in there:
            faults.append(Fault(path, "is missing"))
        elif path not in known:
            faults.append(Fault(path, "is not of this run: the manifest does not have it"))
        elif _digest(directory / path) != known[path]:
            faults.append(Fault(path, "is not what it was when the run ended"))
        else:
            sound += 1
    return Verified(sound, tuple(faults), _of(known))


def altered(directory: Path, names: Sequence[str]) -> list[str]:
    """Which of these files are not as they were when the run ended; none of a run that goes on.

    With a manifest that is not what was written, that alone.
    """
    known = _read(directory)
    if isinstance(known, Fault):
        return [MANIFEST]
    return [name for name in names if known and _digest(directory / name) != known.get(name)]


def altered_in(directory: Path, folder: str) -> list[str]:
    """The same of all files in a folder of the run, those that are gone or new included."""
    known = _read(directory)
    names = {*known, *_files(directory)} if isinstance(known, dict) else ()
    return altered(directory, sorted(name for name in names if Path(name).parts[:1] == (folder,)))


def _files(directory: Path) -> Iterator[str]:
    """The paths of all files in a run but its lock and its manifest; links are files, and are not followed."""
    for folder, inner, names in os.walk(directory):
        links = [name for name in inner if os.path.islink(os.path.join(folder, name))]
        for name in sorted([*names, *links]):
            path = os.path.relpath(os.path.join(folder, name), directory)
            if path not in (LOCK, HELD, MANIFEST):
                yield path


def _digest(path: Path) -> str:
    """The digest of a regular file; of others, that they are none, and of one that is mostly holes, that."""
    try:
        facts = path.lstat()
        if not stat.S_ISREG(facts.st_mode):
            return LINK if stat.S_ISLNK(facts.st_mode) else "not a file"
        if hollow(path, facts):
            return "holes"
        with open(path, "rb", opener=opened) as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except FileNotFoundError:
        return "not a file"
    except OSError as error:
        raise RunError(f"cannot read {shown(path)}: {why(error)}") from error


def _write(directory: Path, files: dict[str, str]) -> None:
    write(directory / MANIFEST, json.dumps({"files": files, "digest": _of(files)}, indent=1, sort_keys=True) + "\n")


def _read(directory: Path) -> dict[str, str] | Fault | None:
    """The digests by path; None without a manifest, a fault when it is not what was written."""
    if not sealed(directory):
        return None
    text = whole(directory / MANIFEST)
    try:
        found: Any = json.loads(text or b"")
        if found.keys() == {"files", "digest"} and _of(found["files"]) == found["digest"]:
            return dict(found["files"])
    except (ValueError, TypeError, AttributeError, RecursionError):
        pass
    return Fault(MANIFEST, "is not what was written, so nothing can be compared with it")


def _of(files: dict[str, str]) -> str:
    return hashlib.sha256(json.dumps(files, sort_keys=True).encode()).hexdigest()
