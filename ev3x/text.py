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
import secrets
import shlex
import stat
import sys
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO, cast

if TYPE_CHECKING:
    from rich.console import Console

# Within a class: control characters, ends of lines, signs that turn the direction of writing, and what is no UTF-8.
UNSEEN = r"\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff"
_UNSEEN = re.compile(f"[{UNSEEN}]")
_DRAFT = re.compile(r"\.(.+)\.[0-9a-f]{16}\.new", re.DOTALL)
_NO_LINK = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_CLOEXEC", 0)
# Opens a file, not what it links to, and waits for no pipe's other end.
ITSELF = _NO_LINK | getattr(os, "O_NONBLOCK", 0)
DEPTH = 64  # no value of ours is nested as deep
TOML_DEPTH = 50  # no config is
_TOML_STEPS = re.compile(
    r'''"""(?:\\[\s\S]|[^\\])*?"""|\'\'\'[\s\S]*?\'\'\'|"(?:\\.|[^"\\\n])*"|'[^'\n]*\'|#[^\n]*|[\[{\]}.,=\n]'''
)
_TOO_DEEP = f"nested more than {DEPTH} deep"


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
    """The value as JSON in ASCII without control characters; infinity and NaN, which JSON has not, become null."""
    return json.dumps(_finite(value), indent=indent, allow_nan=False).replace("\x7f", "\\u007f")


def _finite(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _finite(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(inner) for inner in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


@contextmanager
def draft(path: Path, *, mode: int = 0o666, follow: bool = False) -> Iterator[Path]:
    """A new file of its own beside `path` to write to, which replaces it once it is complete; it goes, whatever fails.

    Nobody can foresee its name, so that no link lies there. A link at `path` is replaced, what it points to stays; with
    `follow`, for a path that a user gave, the link stays and its target is replaced. OSError for a path that can only
    be a folder, and for what is no file: root could put one in place of a device.
    """
    if not path.name:
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    target = Path(os.path.realpath(path)) if follow else path
    look = os.stat if follow else os.lstat
    there = look(target).st_mode if os.path.lexists(target) else stat.S_IFREG
    if not any(kind(there) for kind in (stat.S_ISREG, stat.S_ISDIR, stat.S_ISLNK)):
        raise OSError(errno.EINVAL, "it is a device or a pipe, not a file", str(path))
    # A name may have 255 bytes on most systems, whatever signs they are of.
    name = os.fsdecode(os.fsencode(target.name)[:200])
    new = target.with_name(f".{name}.{secrets.token_hex(8)}.new")
    try:
        os.close(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL | _NO_LINK, mode))
        yield new
        os.replace(new, target)
    except BaseException:
        with contextlib.suppress(OSError):
            new.unlink()
        raise


def is_draft(name: str, of: Collection[str] = ()) -> bool:
    """Whether a file of this name is a draft, of one of these if any, as a process that was killed leaves it."""
    found = _DRAFT.fullmatch(name)
    return found is not None and (not of or found.group(1) in of)


def json_value(text: str | bytes) -> Any:
    """The value of a JSON text that anyone may have written; ValueError for none, and for one nested too deep."""
    try:
        value = json.loads(text)
    except RecursionError:
        raise ValueError(_TOO_DEEP) from None
    opened = sum(map(text.count, "[{" if isinstance(text, str) else (b"[", b"{")))  # type: ignore[arg-type]
    if opened <= DEPTH:
        return value
    layer = [value]
    for _ in range(DEPTH):
        layers = ((v.values() if isinstance(v, dict) else v) for v in layer if isinstance(v, dict | list))
        layer = [inner for values in layers for inner in values]
        if not layer:
            return value
    raise ValueError(_TOO_DEEP)


def toml_too_deep(text: str) -> int | None:
    """The first line, from 1, of a text that is perhaps TOML, on which tables or lists are nested too deep."""
    open_, dots = 0, 0
    for found in _TOML_STEPS.finditer(text):
        sign = found.group()
        if sign in "[{":
            open_ += 1
        elif sign in "]}":
            open_ = max(0, open_ - 1)
        dots = dots + 1 if sign == "." else dots if sign[0] in "\"'" else 0
        if open_ + dots > TOML_DEPTH:
            return text.count("\n", 0, found.start()) + 1
    return None


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
    """A console that shows text as it is: without markup, names of emoji and colours, with what is unseen escaped."""
    from rich.console import Console
    from rich.text import Text

    class Plain(Console):
        def render_str(self, text: str, **kwargs: Any) -> Text:
            return super().render_str(shown_lines(text), **kwargs)

    return Plain(file=cast(TextIO, stream), markup=False, emoji=False, highlight=False, **options)
