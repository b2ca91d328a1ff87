"""Values that replace those of a config: `--set confirm.level=0.01`."""

from __future__ import annotations

import dataclasses
import tomllib
from collections.abc import Sequence
from typing import Any, Self

from ..component import unknown
from ..text import TOML_DEPTH, shown, toml_too_deep
from .toml_lines import Path

# Sections and the roles of their components: those with one component, and those with a list.
ONE = {"task": "task", "select": "assessor", "confirm": "assessor", "budget": "budget"}
MANY = {"propose": "proposer", "adapt": "adapter", "observe": "observer"}

FIRST, LONGEST = 20, 2000  # problems that are told, and characters of each


class ConfigError(Exception):
    """A config cannot be used; `problems` holds a line for everything that is wrong with it."""

    def __init__(self, problems: Sequence[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = tuple(problems)

    @classmethod
    def of(cls, problems: Sequence[str]) -> Self:
        """The error that tells the first of these problems, and how many more there are."""
        told = [text if len(text) <= LONGEST else f"{text[:LONGEST]}..." for text in problems[:FIRST]]
        beyond = len(problems) - len(told)
        return cls(told + [f"and {beyond:,} more problems"] * (beyond > 0))


@dataclasses.dataclass(frozen=True)
class Override:
    """A value for the option at `path` (`propose.0.length`); `origin` says in messages where it came from."""

    origin: str
    path: str
    value: object

    @classmethod
    def parse(cls, text: str) -> Self:
        """The override `a.b=value`: a TOML value, or a bare word, which is a string."""
        path, equals, raw = text.partition("=")
        origin = f"--set {shown(text)}"
        if not equals or not all(path.strip().split(".")):
            raise ConfigError([f"{origin}: must be option=value, such as confirm.level=0.01"])
        if path.count(".") >= TOML_DEPTH or toml_too_deep(raw):
            raise ConfigError([f"{origin[:80]}: its option is nested deeper than {TOML_DEPTH} levels"])
        return cls(origin, path.strip(), _value(origin, raw.strip()))


def loads(text: str) -> dict[str, Any]:
    """What this TOML text holds; TOMLDecodeError also for values nested too deep and numbers too long for Python."""
    try:
        tree = tomllib.loads(text)
        if _too_deep(tree):
            raise RecursionError
    except tomllib.TOMLDecodeError:
        raise
    except RecursionError:
        raise tomllib.TOMLDecodeError(f"values are nested deeper than {TOML_DEPTH} levels") from None
    except ValueError as error:
        raise tomllib.TOMLDecodeError(str(error).partition(";")[0]) from error
    return tree


def _too_deep(tree: dict[str, Any]) -> bool:
    """Whether values are nested so deep that functions which go into them would."""
    level: list[Any] = [tree]
    for _ in range(TOML_DEPTH):
        level = [
            inner
            for value in level
            for inner in (value.values() if isinstance(value, dict) else value if isinstance(value, list) else ())
        ]
    return bool(level)


def apply(tree: dict[str, Any], override: Override) -> Path:
    """Put the value into the tree, and return its path there.

    Entries of lists are addressed by their number, or by the name of their component if no other has it.
    """
    *parents, last = override.path.split(".")
    node: Any = tree
    path: Path = ()
    for part in parents:
        step = _step(node, part, path, override)
        node = node.setdefault(step, {}) if isinstance(node, dict) else node[step]
        path = (*path, step)
    step = _step(node, last, path, override)
    path = (*path, step)
    node[step] = override.value
    section = str(path[0])
    tree[section] = named(section, tree[section])
    return path


def named(section: str, value: Any) -> Any:
    """The value of a section, with a table in place of each component that is given by its name alone."""
    if section in MANY and isinstance(value, str):
        value = [value]
    if section in MANY and isinstance(value, list):
        return [{"use": entry} if isinstance(entry, str) else entry for entry in value]
    return {"use": value} if section in ONE and isinstance(value, str) else value


def _step(node: Any, part: str, path: Path, override: Override) -> str | int:
    """The key or index that this part of a path means."""
    here = ".".join(map(str, path))
    if isinstance(node, dict):
        return part
    if not isinstance(node, list):
        raise ConfigError([f"{override.origin}: {here} is not a table, it has no {part!r}"])
    if part.isdecimal():
        if int(part) < len(node):
            return int(part)
        raise ConfigError([f"{override.origin}: {here} has {len(node)} entries, counted from 0: there is no {part}"])
    names = [str(e.get("use", e.get("name"))) if isinstance(e, dict) else "" for e in node]
    found = [i for i, name in enumerate(names) if part in (name, name.rpartition(":")[2])]
    if len(found) == 1:
        return found[0]
    if found:
        ways = " or ".join(f"{here}.{i}" for i in found)
        raise ConfigError([f"{override.origin}: {len(found)} entries of {here} are {part!r}: write {ways}"])
    raise ConfigError([f"{override.origin}: {unknown(f'entry of {here}', part, filter(None, names))}"])


def _value(origin: str, raw: str) -> object:
    try:
        values = loads(f"value = {raw}\n")
    except tomllib.TOMLDecodeError as error:
        if not raw or raw[0] in "[{\"'" or "\n" in raw:
            raise ConfigError([f"{origin}: {raw!r} is not a TOML value: {error}"]) from error
        return raw
    if len(values) != 1:
        raise ConfigError([f"{origin}: must set one value, got {len(values)}"])
    return values["value"]
