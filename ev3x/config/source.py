"""A config as it was read: its values, default sections where it has none, and the origin of each value."""

from __future__ import annotations

import dataclasses
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from .override import MANY, ONE, ConfigError, loads, named
from .toml_lines import Path as Key
from .toml_lines import locate

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
    try:
        tree = loads(text)
    except tomllib.TOMLDecodeError as error:
        found = re.search(r"\(at (?:line (\d+), column \d+|end of document)\)", str(error))
        line = found.group(1) if found and found.group(1) else str(text.count("\n") + 1 if found else 1)
        raise ConfigError([f"{name}:{line}: not TOML: {error}"]) from error
    tree = {section: named(section, value) for section, value in tree.items()}
    return Document(name, tree, {path: (line, f"{name}:{line}") for path, line in locate(text).items()})


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
    for inner, value in _walk(at(options, path)):
        name = str(inner[-1])
        unknown_key = re.search(rf"unknown \w+ {re.escape(repr(name))}", text)
        bad_value = f"{name} must be" in text and repr(value) in text
        named = name == "name" or isinstance(inner[-1], int)
        bad_name = named and re.search(rf"unknown \w+ {re.escape(repr(value))}", text)
        if unknown_key or bad_value or bad_name:
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
