"""Ranges of hyperparameters, as configs write them."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import Any, ClassVar, Self

import jax.numpy as jnp
import pydantic_core

from ..component import unknown
from ..core.types import Array
from ..values import apart32, checked_name, different, flag, number


@dataclasses.dataclass(frozen=True)
class Range:
    """The values that one hyperparameter may take, uniform in itself or in its logarithm."""

    name: str
    low: float
    high: float
    log: bool = False

    def __post_init__(self) -> None:
        who = f"range {checked_name('the name of a range', self.name)!r}"
        for end in ("low", "high"):
            object.__setattr__(self, end, number(f"{who}: {end}", getattr(self, end)))
        object.__setattr__(self, "log", flag(f"{who}: log", self.log))
        apart32(f"range {self.name!r}", self.low, self.high)
        number(f"range {self.name!r}: the distance from low to high", self.high - self.low)
        if self.log and self.low <= 0:
            raise ValueError(f"range {self.name!r}: a logarithmic range must be positive, got low = {self.low}")

    def at(self, u: Array) -> Array:
        """The value at u in [0, 1)."""
        if self.log:
            value = jnp.exp(math.log(self.low) + u * (math.log(self.high) - math.log(self.low)))
        else:
            value = self.low + u * (self.high - self.low)
        return jnp.clip(value, self.low, self.high)


class Ranges(tuple[Range, ...]):
    """Ranges by name. A config writes each as `name = { low = ..., high = ..., log = false }`."""

    __slots__ = ()
    EXAMPLE: ClassVar[str] = "{ learning_rate = { low = 1e-3, high = 1.0, log = true } }"

    def to_config(self) -> dict[str, Any]:
        """A table for each range."""
        return {r.name: {"low": r.low, "high": r.high, "log": r.log} for r in self}

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: Any) -> pydantic_core.CoreSchema:
        return pydantic_core.core_schema.no_info_plain_validator_function(cls._parse)

    @classmethod
    def __get_pydantic_json_schema__(cls, core: Any, handler: Any) -> dict[str, Any]:
        options = {"low": {"type": "number"}, "high": {"type": "number"}, "log": {"type": "boolean", "default": False}}
        one = {"type": "object", "properties": options, "required": ["low", "high"], "additionalProperties": False}
        return {"type": "object", "additionalProperties": one}

    @classmethod
    def _parse(cls, value: Any) -> Self:
        if isinstance(value, Mapping):
            value = tuple(_range(name, limits) for name, limits in value.items())
        if not isinstance(value, list | tuple) or not all(isinstance(r, Range) for r in value):
            raise ValueError(f"must be a table such as {cls.EXAMPLE}, got {value!r}")
        different("ranges", [r.name for r in value])
        return cls(value)


def _range(name: str, limits: Any) -> Range:
    if isinstance(limits, Range):
        return dataclasses.replace(limits, name=name)
    known = ("low", "high", "log")
    for key in limits if isinstance(limits, Mapping) else ():
        if key not in known:
            raise ValueError(f"range {name!r}: {unknown('option', key, known)}")
    if not isinstance(limits, Mapping) or not {"low", "high"} <= set(limits):
        raise ValueError(f"range {name!r} must be {{ low = ..., high = ... }}, got {limits!r}")
    return Range(name, **limits)
