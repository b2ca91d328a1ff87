"""A config as it was read: its values, default sections where it has none, and the origin of each value."""

from __future__ import annotations

import dataclasses
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ..component import Fault
from ..text import TOML_DEPTH, toml_too_deep
from .override import MANY, ONE, ConfigError, loads, named
from .toml_lines import Path as Key
from .toml_lines import locate

MOST, ALL = 1000, 20_000
_UNKNOWN = re.compile(r"""unknown \w+ ('(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*")""")
DEFAULT = Path(__file__).with_name("default.toml")


@dataclasses.dataclass
class Document:
    """A config's values, and the origin of each: a line number to sort by, and words."""

    name: str
    tree: dict[str, Any]
    origins: dict[Key, tuple[int, str]]
    defaulted: set[str] = dataclasses.field(default_factory=set)

    def where(self, path: Key) -> tuple[int, str]:
        """The origin of the value at this path, or of the nearest value around it."""
        while path and path not in self.origins:
            path = path[:-1]
        return self.origins.get(path, (1, f"{self.name}:1"))


def parse(text: str, name: str) -> Document:
    """The document of this TOML text, with or without a byte order mark."""
    text = text.removeprefix("\ufeff")
    if (deep := toml_too_deep(text)) is not None:
        raise ConfigError([f"{name}:{deep}: not TOML: values are nested deeper than {TOML_DEPTH} levels"])
    try:
        tree = loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError([f"{name}:{_line_of(error, text)}: not TOML: {error}"]) from error
    tree = {section: named(section, value) for section, value in tree.items()}
    found = Document(name, tree, {path: (line, f"{name}:{line}") for path, line in locate(text).items()})
    _check_size(found)
    return found


def _line_of(error: ValueError, text: str) -> int:
    """The line that Python says or means: without a place, it is an integer with more digits than Python reads."""
    found = re.search(r"\(at (?:line (\d+), column \d+|end of document)\)", str(error))
    if found and found.group(1):
        return int(found.group(1))
    many = None if found else re.search(r"[0-9a-fA-F_]{4300,}", text)
    return text.count("\n", 0, many.start() if many else None) + 1


def _check_size(document: Document) -> None:
    """Raises ConfigError for more values than any run can have: each costs time to check, and most to compile."""
    total = 0
    for path, value in _walk({"": document.tree}):
        if isinstance(value, dict | list) and len(value) > MOST:
            path, kind = path[1:], "options" if isinstance(value, dict) else "entries"
            where = f"{document.where(path)[1]}: {Fault(path, '')}".rstrip(": ")
            raise ConfigError([f"{where}: must have at most {MOST:,} {kind}, got {len(value):,}"])
        total += 1
    if total > ALL:
        raise ConfigError([f"{document.name}:1: a config must have at most {ALL:,} values, got {total:,}"])


def with_defaults(text: str, name: str) -> Document:
    """A config with default sections for those that it leaves out; it must itself say what ends the run."""
    source, default = parse(text, name), parse(DEFAULT.read_text(encoding="utf-8"), DEFAULT.name)
    source.defaulted = {s for s in (*ONE, *MANY, "layout") if s not in source.tree}
    for section in source.defaulted:
        source.tree[section] = default.tree[section]
    source.origins |= {p: w for p, w in default.origins.items() if p[0] in source.defaulted}
    return source


def exact(options: Any, path: Key, text: str) -> Key:
    """The path of the key or entry inside this value that the text is about; else the path itself."""
    text = text[:2000]  # the rest is a long value
    unknown = set(_UNKNOWN.findall(text))
    for inner, value in _walk(at(options, path)):
        name = str(inner[-1])
        bad_value = f"{name} must be" in text and repr(value) in text
        named = isinstance(value, str) and (name == "name" or isinstance(inner[-1], int))
        if repr(name) in unknown or bad_value or (named and repr(value) in unknown):
            return (*path, *inner)
    return path


def at(value: Any, path: Key) -> Any:
    """The value at this path of plain values; None if there is nothing."""
    for step in path:
        if isinstance(value, dict):
            value = value.get(step)
        elif isinstance(value, list) and isinstance(step, int) and step < len(value):
            value = value[step]
        else:
            return None
    return value


def _walk(value: Any) -> Iterator[tuple[Key, Any]]:
    """Every value inside of plain values, with its path."""
    steps = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for step, inner in steps:
        yield (step,), inner
        yield from (((step, *rest), deep) for rest, deep in _walk(inner))
