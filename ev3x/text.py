"""Text between ev3x and people: what any screen can show, streams whose loss ends nothing, files that are whole."""

from __future__ import annotations

import codecs
import contextlib
import errno
import io
import json
import math
import os
import re
import shlex
import stat
import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO, cast

if TYPE_CHECKING:
    from rich.console import Console

_UNSEEN = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")


def shown(text: object) -> str:
    """The text on one line: line breaks, control characters and what is no UTF-8 (in names of files) as escapes."""
    return _UNSEEN.sub(lambda found: found.group().encode("unicode_escape").decode("ascii"), str(text))


def shown_lines(text: str) -> str:
    """The text on the lines that it has, each as `shown` makes it."""
    return "\n".join(map(shown, text.split("\n")))


def command(*words: object) -> str:
    """A command line that a shell reads as these words, whatever is in them; on one line."""
    return shown(shlex.join(map(str, words)))


def why(error: OSError) -> str:
    """What the system says of an error, in words, without a number and a path."""
    return error.strerror or str(error) or type(error).__name__


def utf8(text: str) -> str:
    """The text of an argument, which Python decoded as the locale says, from UTF-8; ValueError if it is none."""
    try:
        return os.fsencode(text).decode("utf-8") if _UNSEEN.search(text) else text
    except UnicodeError as error:
        raise ValueError(f"must be UTF-8 text, got {shown(text)!r}") from error


def json_text(value: Any, indent: int | None = None) -> str:
    """The value as JSON in ASCII, which has no numbers for infinity and NaN: they become null."""
    return json.dumps(_finite(value), indent=indent, allow_nan=False)


def _finite(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _finite(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(inner) for inner in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


@contextmanager
def draft(path: Path) -> Iterator[Path]:
    """A temporary path to write a file to, which replaces `path` once it is complete; it goes, whatever fails.

    A link stays, and its target is replaced. OSError for what is no file: root could put one in place of a device.
    """
    draft_of(path)
    target = Path(os.path.realpath(path))
    if os.path.lexists(target) and not stat.S_ISREG(mode := os.stat(target).st_mode) and not stat.S_ISDIR(mode):
        raise OSError(errno.EINVAL, "it is a device or a pipe, not a file", str(path))
    new = draft_of(target)
    try:
        yield new
        os.replace(new, target)
    except BaseException:
        with contextlib.suppress(OSError):
            new.unlink()
        raise


def draft_of(path: Path) -> Path:
    """The temporary path to write this file to; OSError for a path that can only be a folder."""
    if not path.name:
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    return path.with_name(path.name + ".new")


class Stream:
    """A text stream that takes whatever is written. What cannot be written is lost, and `fault` says why."""

    def __init__(self, stream: TextIO) -> None:
        self.inner = stream
        self.fault: OSError | None = None

    def write(self, text: str) -> int:
        """The length of the text, written or not."""
        try:
            try:
                self.inner.write(text)
            except UnicodeEncodeError as error:
                self.inner.write(text.encode(error.encoding, "backslashreplace").decode(error.encoding))
        except (OSError, ValueError) as error:  # ValueError: it was closed
            self._note(error)
        return len(text)

    def writelines(self, lines: Iterable[str]) -> None:
        """Write one text after the other."""
        for line in lines:
            self.write(line)

    def flush(self) -> None:
        """Write what waits in the buffer, or lose it."""
        try:
            self.inner.flush()
        except (OSError, ValueError) as error:
            self._note(error)

    def check(self) -> None:
        """Raise the error of the last text that was lost, once."""
        if (fault := self.fault) is not None:
            self.fault = None
            raise fault

    def _note(self, error: OSError | ValueError) -> None:
        self.fault = error if isinstance(error, OSError) else OSError(errno.EBADF, str(error))

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)


class _Closed(io.TextIOBase, TextIO):
    """A standard stream that was closed before Python started."""

    def write(self, text: str) -> int:
        raise OSError(errno.EBADF, "it is closed")


def standard(name: str) -> Stream:
    """The standard stream `stdout` or `stderr` as it is now, with a fault of its own."""
    stream = getattr(sys, name)
    if stream is None:
        return Stream(_Closed())
    return Stream(stream.inner if isinstance(stream, Stream) else stream)


def make_lasting() -> None:
    """Let this process live on without its standard streams: for a program of its own, whose streams are ev3x's.

    Whoever writes to them, a library too, gets no error when a pipe is broken, a disk is full, or a sign is not in the
    encoding: it becomes an escape, as in Python's and TOML's strings.
    """
    codecs.register_error("ev3x", _escaped)
    for number in range(3):  # a closed one would be the next file that is opened, and get what is meant for a screen
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)
    for name in ("stdout", "stderr"):
        stream = standard(name)
        if hasattr(stream.inner, "reconfigure"):
            stream.inner.reconfigure(errors="ev3x")
        setattr(sys, name, stream)


def lost() -> str | None:
    """Why standard output is not complete, in words, once; None when it is, or when nobody wants to read it."""
    stream = sys.stdout
    if not isinstance(stream, Stream):
        return None
    stream.flush()
    fault, stream.fault = stream.fault, None
    if fault is None:
        return None
    # Python writes what is left in its buffer once more when it ends, and would fail again.
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    return None if fault.errno in (errno.EPIPE, errno.EBADF) else f"standard output is not complete: {why(fault)}"


def _escaped(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    codes = map(ord, error.object[error.start : error.end])
    return "".join(f"\\u{code:04x}" if code < 2**16 else f"\\U{code:08x}" for code in codes), error.end


def console(stream: Stream, **options: Any) -> Console:
    """A console that shows text as it is: without markup, without names of emoji, without colours of its own."""
    from rich.console import Console

    return Console(file=cast(TextIO, stream), markup=False, emoji=False, highlight=False, **options)
