"""What the files of a run hold, field by field: anyone may have written them, so each value is of its type or told."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import Any

from ..text import shown


@dataclasses.dataclass(frozen=True)
class Kind:
    """A plain value: the types that it may have, and how it is called in messages."""

    name: str
    types: tuple[type, ...]


@dataclasses.dataclass(frozen=True)
class Each:
    """A table with any names, all of whose values are alike; or, with `listed`, a list."""

    inner: Any
    listed: bool = False


Found = tuple[list[str | int], str] | None  # the steps to a field, the last one first, and what is wrong with it
Check = Callable[[Any], Found]
TEXT, MAYBE_TEXT = Kind("a text", (str,)), Kind("a text or null", (str, type(None)))
COUNT, FLAG = Kind("an integer", (int,)), Kind("true or false", (bool,))
NUMBER, MAYBE = Kind("a number", (int, float)), Kind("a number or null", (int, float, type(None)))
ANYTHING = Kind("a value", (object,))
LARGEST = 2**63  # of integers: what counts rounds, examples and steps is far below

_SCORES = Each(MAYBE)
_ENDS = ("mean", "lower", "upper")
_BOUNDS = {"value": MAYBE, **dict.fromkeys(_ENDS, _SCORES)}
_GAINS = _BOUNDS | dict.fromkeys(("difference", "difference_lower", "difference_upper"), _SCORES)
ROW = {
    "round": COUNT,
    "candidates": Each({"name": TEXT, "eligible": FLAG, "barred?": MAYBE_TEXT, **_BOUNDS}, listed=True),
    "winner": MAYBE_TEXT,
    "verdict": TEXT,
    "why": TEXT,
    "promoted": FLAG,
    "move": TEXT,
    "shadow?": {"promoted": FLAG, "move": TEXT},
    "confirm": {
        "winner": _GAINS,
        "current": _BOUNDS,
        "incumbent": _SCORES,
        "leads": TEXT,
        "e_values": FLAG,
        "p_value": MAYBE,
        "p_values": Each(NUMBER),
        "alpha": MAYBE,
        "examples": COUNT,
        "uses": COUNT,
    },
    "ledger": _SCORES,
    "select_examples": COUNT,
    "calls": Each(TEXT),
}
SUMMARY = {"task?": MAYBE_TEXT, "reason?": MAYBE_TEXT, "promise?": MAYBE_TEXT, "assumes?": Each(TEXT, listed=True)}
_TOTALS = {
    **dict.fromkeys(("seconds", "promotions", "gradient_steps", "examples"), NUMBER),
    "transitions": Each(COUNT),
}
META = {
    "task": TEXT,
    "seed": COUNT,
    "config": TEXT,
    "data": TEXT,
    "versions": Each(MAYBE_TEXT),
    "totals": _TOTALS,
    "changes": Each(TEXT, listed=True),
}
_PARTS = {
    "run": Each(ANYTHING),
    "plugins?": Each(Each(ANYTHING)),
    "streams?": Each(ANYTHING),
    "history?": Each(ANYTHING),
}
_SEALED = {"round": COUNT, "arrays": Each(TEXT), "meta": Each(ANYTHING), "digest": TEXT}


def check_checkpoint(tree: Any, sealed: Any) -> str | None:
    """What is wrong with the parts of a checkpoint, and with what is saved beside its arrays; None if nothing is."""
    if fault := fault_in(tree, _PARTS):
        return fault
    there = isinstance(sealed, Mapping) and "digest" in sealed  # without digests, that alone is told
    return fault_in(sealed, _SEALED) if there else None


def check_meta(meta: Any) -> str | None:
    """What is wrong with what a checkpoint keeps of its run; None if nothing is."""
    if fault := fault_in(meta, META):
        return fault
    beyond = sorted(meta["totals"].keys() - _TOTALS.keys())
    return f"totals: must have {', '.join(_TOTALS)}, got {_said(beyond[0])} too" if beyond else None


def check_row(row: Any) -> str | None:
    """What is wrong with the row of a round, in words; None if it is as `rows.py` makes it."""
    if fault := _told(_check_row(row)):
        return fault
    confirm = row["confirm"]
    names = confirm["incumbent"].keys()
    if confirm["leads"] not in names:
        return f"confirm.leads: must be one of the metrics of confirm.incumbent, got {_said(confirm['leads'])}"
    tables = {f"candidates[{i}]": c for i, c in enumerate(row["candidates"])}
    for where, table in {**tables, "confirm.winner": confirm["winner"], "confirm.current": confirm["current"]}.items():
        for name in _GAINS if where == "confirm.winner" else _BOUNDS:
            if name != "value" and table[name].keys() != names:
                return f"{where}.{name}: must have the metrics of confirm.incumbent, got {_said(list(table[name]))}"
    if beyond := [name for name in confirm["p_values"] if name not in names]:
        return f"confirm.p_values: must be of metrics of confirm.incumbent, got {_said(beyond[0])}"
    return None


def check_summary(summary: Any) -> str | None:
    """What is wrong with a summary, as far as it is shown; None if nothing is."""
    return fault_in(summary, SUMMARY)


def fault_in(value: Any, shape: Any) -> str | None:
    """The first field of a value that is not as the shape says: its path, what was expected, and what came."""
    return _told(_check(shape)(value))


def _told(found: Found) -> str | None:
    if found is None:
        return None
    steps, text = found
    path = ""
    for step in reversed(steps):
        path = f"{path}[{step}]" if isinstance(step, int) else f"{path}.{shown(step)}"[:200].lstrip(".")
    return f"{path}: {text}" if path else text


def _check(shape: Any) -> Check:
    """What finds the first such field in a value of this shape. A run may have a million rows, so it is made once."""
    if isinstance(shape, Kind):
        return functools.partial(_plain, shape)
    if isinstance(shape, Each):
        return functools.partial(_each, _check(shape.inner), shape.listed)
    fields = {key.removesuffix("?"): _check(inner) for key, inner in shape.items()}
    return functools.partial(_table, fields, frozenset(key for key in shape if not key.endswith("?")))


def _plain(kind: Kind, value: Any) -> Found:
    plain = type(value)
    if plain is int:
        if int in kind.types and -LARGEST < value < LARGEST:
            return None
    elif plain in kind.types:
        return None
    if not isinstance(value, kind.types) or (isinstance(value, bool) and not {bool, object} & {*kind.types}):
        return [], f"must be {kind.name}, got {_said(value)}"
    if isinstance(value, int) and abs(value) >= LARGEST:
        return [], "must be a number that fits in 64 bits, got a larger one"
    return None


def _each(inner: Check, listed: bool, value: Any) -> Found:
    if not isinstance(value, list if listed else Mapping):
        return [], f"must be {'a list' if listed else 'a table'}, got {_said(value)}"
    for step in range(len(value)) if listed else value:
        if found := inner(value[step]):
            found[0].append(step)
            return found
    return None


def _table(fields: Mapping[str, Check], needed: frozenset[str], value: Any) -> Found:
    if not isinstance(value, Mapping):
        return [], f"must be a table, got {_said(value)}"
    if not needed <= value.keys():
        return [], f"it lacks {', '.join(sorted(needed - value.keys()))}"
    for name, inner in fields.items():
        if name in value and (found := inner(value[name])):
            found[0].append(name)
            return found
    return None


def _said(value: Any) -> str:
    """A value for a message, not longer than half a line."""
    kinds = {dict: "a table", list: "a list", type(None): "null", bool: "true or false"}
    if isinstance(value, str):
        return repr(shown(value[:40]))
    return kinds.get(type(value)) or shown(value if isinstance(value, float) else "a number")


_check_row = _check(ROW)
