"""Numbers, seeds and names as users give them: what is accepted, and the words for what is not."""

from __future__ import annotations

import collections
import math
import struct
from collections.abc import Collection, Iterable
from typing import Any

FLOAT32 = 3.4028234663852886e38  # the largest: rounds compute in float32
LEAST32 = 1.1754943508222875e-38  # the least above 0: what is smaller may count as 0
SEEDS = 2**32


def plain(value: Any) -> Any:
    """The value with scalars of numpy and JAX as Python's numbers, and lists as tuples, at any depth."""
    if type(value) in (list, tuple):
        return tuple(plain(v) for v in value)
    if type(value) in (bool, int, float, str) or getattr(value, "shape", None) != () or not hasattr(value, "item"):
        return value
    try:
        return value.item()
    except Exception:  # a traced number has no value yet: it is told as what it is
        return value


def number(what: str, value: Any, *, infinite: bool = False) -> float:
    """The value as a number; ValueError says that `what` must be one, finite in float32 unless `infinite` are allowed.

    Bools are no numbers, nor are strings that hold one.
    """
    value = plain(value)
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError(f"{what} must be a number, got {value!r}")
    if infinite and value in (math.inf, -math.inf):
        return value
    if fault := misfit32(value):
        raise ValueError(f"{what} must be {fault}, got {short(value)}")
    return value


def misfit32(value: float) -> str | None:
    """What a number must be that float32 cannot hold; None for one that it can."""
    if not abs(value) <= FLOAT32:  # an int may be too large for a float
        return "a finite number (up to 3.4e38, as float32)"
    return None if value == 0 or abs(value) >= LEAST32 else "0, or at least 1.2e-38 from it (as float32)"


def short(value: Any) -> str:
    """The value as Python writes it, without the middle of what is long."""
    try:
        text = repr(value)
    except ValueError as error:  # an int with more digits than Python writes
        return f"{type(value).__name__} ({error})"
    return text if len(text) <= 200 else f"{text[:120]}...{text[-60:]}"


def apart32(what: str, low: float, high: float) -> None:
    """Raises ValueError unless low is below high, in float32 too."""
    if not low < high:
        raise ValueError(f"{what}: low must be below high, got [{low}, {high}]")
    if math.isfinite(low) and math.isfinite(high) and _float32(low) == _float32(high):
        raise ValueError(f"{what}: low and high must differ as float32, got [{low}, {high}]")


def _float32(value: float) -> bytes:
    return struct.pack("f", value + 0.0)  # -0.0 is 0.0


def integer(what: str, value: Any, *, least: int = 1) -> int:
    """The value as an integer from `least` to 2^31 - 1, which int32 counts up to; ValueError otherwise."""
    value = plain(value)
    if isinstance(value, bool) or not isinstance(value, int):
        raise ValueError(f"{what} must be an integer, got {value!r}")
    if value < least:
        raise ValueError(f"{what} must be at least {least}, got {short(value)}")
    if value >= 2**31:
        raise ValueError(f"{what} must be below 2^31, got {short(value)}")
    return value


def checked_seed(value: Any) -> int:
    """The value as a seed: an integer from 0 to 2^32 - 1, as JAX's keys hold it; ValueError for anything else."""
    value = plain(value)
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < SEEDS:
        raise ValueError(f"a seed must be an integer from 0 to {SEEDS - 1} (2^32 - 1), got {short(value)}")
    return value


def flag(what: str, value: Any) -> bool:
    """The value as a bool, or ValueError: what is merely true, such as "no", would be taken for True."""
    value = plain(value)
    if not isinstance(value, bool):
        raise ValueError(f"{what} must be True or False, got {value!r}")
    return value


def checked_name(what: str, value: Any) -> str:
    """The value as a name: a string with something in it, or ValueError."""
    if not isinstance(value, str) or not value.strip():
        raise ValueError(f"{what} must be a string that is not empty, got {value!r}")
    return value


def twice(names: Iterable[Any]) -> list[Any]:
    """The names that come more than once, in order."""
    return [n for n, count in collections.Counter(names).items() if count > 1]


def different(what: str, names: Collection[str]) -> None:
    """Raises ValueError when two of these names are the same: rows, weights and states are kept by name."""
    for each in names:
        checked_name(f"{what}: each name", each)
    if found := twice(names):
        raise ValueError(f"{what} need different names, got {', '.join(map(repr, found))} more than once")
