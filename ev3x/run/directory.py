"""The directory of a run: claimed once, held by one process at a time; its files are never half written.

This module alone writes and reads its files: `config.toml`, `rounds.jsonl` (a row of JSON for each round),
`summary.json`. `checkpoint.py` owns `checkpoints/`.
"""

from __future__ import annotations

import codecs
import contextlib
import errno
import json
import os
import socket
import stat
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

from ..core.observe import Row
from ..text import ITSELF as _OURS
from ..text import command, is_draft, json_text, json_value, shown, why
from ..text import draft as file_draft
from .shapes import check_row, check_summary

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

LOCK, CONFIG, ROUNDS, SUMMARY, CHECKPOINTS = ".lock", "config.toml", "rounds.jsonl", "summary.json", "checkpoints"
HELD = ".held"  # in place of the lock, where the file system has none
NO_LOCKS = {errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EIO, errno.EINVAL}
# Bytes of a file that need not be on disk, beside so many for each that is, since some file systems compress.
HOLLOW, MOST = 2**24, 100
LONGEST = 2**24  # bytes of a row or a summary: thousands of candidates fit

_held: dict[Path, os.stat_result] = {}  # the lock of each run that this process holds


class RunError(Exception):
    """A run cannot begin or go on; the text says why and what to do."""


def check_run(directory: Path) -> None:
    """Raise RunError unless the directory holds a run, and nothing in it leads out of it.

    Whoever gave away a run may have put links there: through them, other files would be read, overwritten and deleted.
    """
    _check_name(directory)
    if not os.path.lexists(directory / CONFIG):  # False for a name that the system cannot take
        raise RunError(f"{shown(directory)} is no run directory: it has no {CONFIG}")
    for path in (directory / name for name in (CONFIG, ROUNDS, SUMMARY, LOCK, HELD)):
        _check_kind(path, stat.S_ISREG, "a file")
    _check_kind(directory / CHECKPOINTS, stat.S_ISDIR, "a folder")
    for at, folders, files in os.walk(directory / CHECKPOINTS):
        for name in folders:
            _check_kind(Path(at, name), stat.S_ISDIR, "a folder")
        for name in files:
            _check_kind(Path(at, name), stat.S_ISREG, "a file")


def claim(directory: Path) -> None:
    """Raise RunError unless the directory can hold a new run."""
    _check_name(directory)
    check_path(directory)
    try:
        directory.mkdir(parents=True, exist_ok=True)
        # A process that was killed while it wrote its config leaves the draft.
        if any(path.name not in (LOCK, HELD) and not is_draft(path.name, (CONFIG,)) for path in directory.iterdir()):
            raise RunError(
                f"{shown(directory)} is not empty: choose another --out, or `{resuming(directory)}` if it is a run"
            )
        with tempfile.TemporaryFile(dir=directory):
            pass
    except OSError as error:
        raise RunError(f"cannot write to {shown(directory)}: {why(error)}; choose another --out") from error


def check_path(directory: Path) -> None:
    """Raise RunError for a path that the library of the checkpoints takes for a pattern, and so for other files."""
    if found := sorted(set(str(directory.absolute())) & set("*?[")):
        where = shown(directory.absolute())
        text = (
            f"{where}: the path of a run must not hold {' or '.join(found)}, because checkpoints cannot be stored there"
        )
        raise RunError(f"{text}; choose another path")


def resuming(directory: Path | None) -> str:
    """The command that goes on with a run."""
    return command("ev3x", "resume", directory)


@contextmanager
def alone(directory: Path) -> Iterator[None]:
    """Hold the run, so that no second process writes to it; the lock ends with the process, however that ends.

    While it is held, whatever writes to the run makes sure that the directory is still the one that was locked. Where
    the file system has no locks, a file holds the run, with a warning: it stays when the process is killed.
    """
    try:
        with open(directory / LOCK, "ab", opener=opened) as file, contextlib.ExitStack() as stack:
            try:
                if fcntl:
                    fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except (BlockingIOError, PermissionError):
                raise RunError(f"{shown(directory)} is in use by another process") from None
            except OSError as error:
                if error.errno not in NO_LOCKS:
                    raise RunError(f"cannot lock {shown(directory)}: {why(error)}") from error
                stack.enter_context(_held_by_file(directory, error))
            _held[directory] = os.fstat(file.fileno())
            try:
                yield
            finally:
                del _held[directory]
    except OSError as error:
        if error.filename is None or Path(error.filename) not in (directory / LOCK, directory / HELD):
            raise
        raise RunError(f"cannot write to {shown(directory)}: {why(error)}") from error


def check_place(directory: Path) -> None:
    """Raise OSError unless a run that this process holds is where it was: libraries would write to a new directory."""
    if (locked := _held.get(directory)) is not None:
        try:
            same = os.path.samestat(os.lstat(directory / LOCK), locked)
        except FileNotFoundError:
            same = False
        if not same:
            raise OSError(errno.ENOENT, "the directory of the run was removed, moved or replaced while the run went on")


def held_by_file(directory: Path) -> bool:
    """Whether a file holds the run, because the file system has no locks."""
    return os.path.lexists(directory / HELD)


@contextmanager
def _held_by_file(directory: Path, why_not: OSError) -> Iterator[None]:
    """Hold the run by a file that only one process can make, until the body ends."""
    path = directory / HELD
    mine = {"process": os.getpid(), "host": socket.gethostname()}
    for _ in range(2):
        try:
            with open(path, "x", encoding="utf-8", opener=opened) as file:
                file.write(json_text(mine) + "\n")
            break
        except FileExistsError:
            _let_go(path, mine["host"])
    else:
        raise RunError(f"{shown(directory)} is in use by another process")
    warnings.warn(
        f"{shown(directory)}: there are no locks ({why(why_not)}), {HELD} holds the run instead", stacklevel=4
    )
    try:
        yield
    finally:
        path.unlink(missing_ok=True)


def _let_go(path: Path, host: object) -> None:
    """Delete the file of a process of this machine that is gone; RunError when it may be alive."""
    said = _parsed(_text(path) or "")
    process, where = (said.get("process"), said.get("host")) if isinstance(said, dict) else (None, None)
    if isinstance(process, int) and 0 < process < 2**31 and where == host:
        try:
            os.kill(process, 0)
        except ProcessLookupError:
            path.unlink(missing_ok=True)
            return
        except OSError:
            pass
    who = f"process {shown(process)} on {shown(where)}" if where else "another process"
    raise RunError(f"{shown(path.parent)} is in use by {who}; if that has ended, delete {shown(path)}")


@contextmanager
def draft(path: Path, *, follow: bool = False) -> Iterator[Path]:
    """A temporary path to write a file to, which replaces `path` once it is complete; RunError if it cannot be written.

    Whatever fails, `path` stays as it was, and the draft goes.
    """
    try:
        check_place(path.parent)
        with file_draft(path, follow=follow) as new:
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
        check_place(directory)
        with open(directory / ROUNDS, "ab", buffering=0, opener=opened) as file:
            size = os.fstat(file.fileno()).st_size
            text = memoryview("".join(map(_line, rows)).encode())
            try:
                while text:
                    text = text[file.write(text) :]
            except OSError:
                with contextlib.suppress(OSError):  # no part of a row is left
                    file.truncate(size)
                raise
    except OSError as error:
        raise _unwritten(directory / ROUNDS, error) from error


def write_summary(directory: Path, summary: Mapping[str, Any]) -> None:
    """Write summary.json, the result of the run."""
    write(directory / SUMMARY, json_text(summary, indent=2) + "\n")


def read_rows(directory: Path) -> Iterator[Row]:
    """The rows of a run's rounds, at least one, read one by one; RunError says what cannot be read."""
    check_run(directory)
    path, last = directory / ROUNDS, None
    for i, line in enumerate(_lines(directory), 1):
        where = f"{shown(path)}:{i}: must be the row of a round"
        try:
            row = json_value(line)
        except ValueError as error:
            if not line.endswith("\n"):  # the last one, of a run that was killed while it wrote
                break
            raise RunError(f"{where} in JSON: {shown(error)}") from error
        if fault := check_row(row):
            raise RunError(f"{where}, as this version of ev3x writes it: {fault}")
        if last is not None and row["round"] != last + 1:
            raise RunError(f"{where}: round: must be {last + 1}, after the row before, got {row['round']}")
        last = row["round"]
        yield row
    if last is None:
        raise RunError(f"{shown(directory)} has no round yet: there is nothing to explain")


def read_summary(directory: Path) -> Row:
    """The summary of a run, empty when there is none yet; RunError says why it cannot be read."""
    check_run(directory)
    path = directory / SUMMARY
    text = _text(path)
    try:
        summary = {} if text is None else json_value(text)
    except ValueError as error:
        raise RunError(f"{shown(path)}: must be the summary of a run in JSON: {shown(error)}") from error
    if fault := check_summary(summary):
        raise RunError(f"{shown(path)}: must be the summary of a run: {fault}")
    return dict(summary)


def rows_as_they_are(directory: Path) -> Iterator[Any]:
    """The values of the lines of rounds.jsonl, read one by one; of what is no JSON, the text."""
    return (_parsed(line.removesuffix("\n")) for line in _lines(directory))


def summary_as_it_is(directory: Path) -> Any:
    """The value of summary.json, None when there is none; of what is no JSON, the text."""
    text = _text(directory / SUMMARY)
    return None if text is None else _parsed(text)


def count_lines(directory: Path) -> int:
    """The number of lines of rounds.jsonl, whatever they hold."""
    count, end = 0, b"\n"
    for part in _blocks(directory / ROUNDS, lambda file: file.read(2**20)):
        count, end = count + part.count(b"\n"), part[-1:]
    return count + (end != b"\n")


def whole(path: Path) -> bytes | None:
    """The content of a file of one value; None when there is none, RunError when no run can have written it."""
    lines, size = [], 0
    for line in _bytes(path):
        lines.append(line)
        size += len(line)
        if size > LONGEST:
            raise RunError(f"{shown(path)}: must have at most {LONGEST:,} bytes, got more")
    return b"".join(lines) if lines or os.path.lexists(path) else None


def config_text(directory: Path) -> str:
    """The text of a run's config; RunError says why it cannot be read."""
    return _text(directory / CONFIG) or ""


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


def on_disk(path: str | os.PathLike[str], facts: os.stat_result) -> int:
    """The bytes of a file that are on disk: one with holes has less than it says."""
    blocks = 512 * getattr(facts, "st_blocks", facts.st_size)
    if blocks >= facts.st_size or not stat.S_ISREG(facts.st_mode):
        return min(blocks, facts.st_size)
    with contextlib.suppress(OSError):
        # Some file systems count the blocks of a new file only seconds later (ZFS), or never.
        return max(blocks, _filled(path, facts.st_size))
    return blocks


def _filled(path: str | os.PathLike[str], size: int) -> int:
    """The bytes of a file that are no holes; all of them where the file system cannot tell."""
    at = found = 0
    with open(path, "rb", buffering=0, opener=opened) as file:
        while at < size:
            try:
                begin = os.lseek(file.fileno(), at, os.SEEK_DATA)
            except OSError as error:
                return found if error.errno == errno.ENXIO else size  # none from here on
            at = os.lseek(file.fileno(), begin, os.SEEK_HOLE)
            found += at - begin
    return found


def hollow(path: str | os.PathLike[str], facts: os.stat_result) -> bool:
    """Whether a file is mostly holes: terabytes of them can be read from nothing, for hours."""
    if not stat.S_ISREG(facts.st_mode) or facts.st_size <= HOLLOW:
        return False
    return facts.st_size > HOLLOW + MOST * on_disk(path, facts)


def opened(path: Any, flags: int) -> int:
    """The descriptor of a file of the run itself: no link is followed, and nothing waits for a pipe's other end."""
    return os.open(path, flags | _OURS, 0o666)


def _check_kind(path: Path, is_kind: Callable[[int], bool], kind: str) -> None:
    """Raise RunError unless the path is of this kind itself, no link to one, or not there."""
    try:
        facts = os.lstat(path)
    except FileNotFoundError:
        return
    except OSError as error:
        raise RunError(f"cannot read {shown(path)}: {why(error)}") from error
    mode = facts.st_mode
    if is_kind(mode) and hollow(path, facts):
        here = f"{facts.st_size:,} bytes, of which {on_disk(path, facts):,} are on disk"
        raise RunError(f"{shown(path)} must be a file that a run has written, got one of {here}: nothing was read")
    if not is_kind(mode):
        got = "a link" if stat.S_ISLNK(mode) else "a folder" if stat.S_ISDIR(mode) else "another kind of file"
        got = "a file" if stat.S_ISREG(mode) else got
        raise RunError(f"{shown(path)} must be {kind} of the run itself, got {got}: nothing was read or written")


def _lines(directory: Path) -> Iterator[str]:
    """The lines of rounds.jsonl; RunError for one that no round can have written."""
    path = directory / ROUNDS
    for i, line in enumerate(_bytes(path), 1):
        if len(line) > LONGEST:
            raise RunError(f"{shown(path)}:{i}: must be the row of a round, of at most {LONGEST:,} bytes, got more")
        yield _decoded(line, f"{shown(path)}:{i}")


def _text(path: Path) -> str | None:
    """The text of a file of one value, with or without a byte order mark; None when there is none."""
    found = whole(path)
    return None if found is None else _decoded(found, shown(path))


def _bytes(path: Path) -> Iterator[bytes]:
    """The lines of a file of the run, each no longer than what tells that it is too long; none when it is not there."""
    lines = _blocks(path, lambda file: file.readline(LONGEST + 1))
    for first in lines:
        yield first.removeprefix(codecs.BOM_UTF8)
        yield from lines


def _blocks(path: Path, read: Callable[[BinaryIO], bytes]) -> Iterator[bytes]:
    """What `read` gives until it gives nothing; nothing when the file is not there."""
    try:
        with open(path, "rb", opener=opened) as file:
            while block := read(file):
                yield block
    except FileNotFoundError:
        return
    except OSError as error:
        raise RunError(f"cannot read {shown(path)}: {why(error)}") from error


def _decoded(text: bytes, where: str) -> str:
    try:
        return text.decode("utf-8")
    except UnicodeDecodeError as error:
        raise RunError(f"{where}: must be UTF-8 text: {error}") from error


def _parsed(text: str) -> Any:
    try:
        return json_value(text)
    except ValueError:
        return text


def _line(row: Row) -> str:
    return json.dumps(row, allow_nan=False) + "\n"
