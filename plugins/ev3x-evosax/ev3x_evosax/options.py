"""Options as a config says them: tables of numbers, and schedules by name."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Self

import optax
import pydantic_core

from ev3x import Rule
from ev3x.component import unknown

SCHEDULES = {
    name: getattr(optax, name)
    for name in "constant_schedule cosine_decay_schedule exponential_decay linear_schedule polynomial_schedule".split()
}


class Said:
    """A value that `_parse` makes of what a config says."""

    __slots__ = ()
    _parse: Callable[[Any], Any]

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: Any) -> pydantic_core.CoreSchema:
        return pydantic_core.core_schema.no_info_plain_validator_function(cls._parse)


class Numbers(Said, tuple[tuple[str, bool | int | float], ...]):
    """Numbers by name, sorted. A config says `{ c_mean = 0.5, elitism = false }`."""

    __slots__ = ()

    def to_config(self) -> dict[str, bool | int | float]:
        """The table."""
        return dict(self)

    @classmethod
    def _parse(cls, value: Any) -> Self:
        if isinstance(value, Mapping):
            return cls(sorted((name, _number(name, x)) for name, x in value.items()))
        if isinstance(value, Sequence) and all(isinstance(pair, tuple) and len(pair) == 2 for pair in value):
            if len(dict(value)) < len(value):
                raise ValueError(f"names something twice: {value!r}")
            return cls._parse(dict(value))
        raise ValueError(f"must be a table such as {{ c_mean = 0.5 }}, got {value!r}")


def _number(name: Any, value: Any) -> bool | int | float:
    if not isinstance(value, int | float) or not math.isfinite(value):
        raise ValueError(f"{name} must be a finite number, got {value!r}")
    return value


class Schedule(Said, Rule):
    """An optax schedule as a value: `Schedule("exponential_decay", init_value=1.0, transition_steps=10, ...)`."""

    def __init__(self, name: str, /, **options: Any) -> None:
        if name not in SCHEDULES:
            raise ValueError(unknown("schedule", name, SCHEDULES))
        super().__init__(SCHEDULES[name], **options)

    @classmethod
    def _parse(cls, value: Any) -> Self:
        if isinstance(value, cls):
            return value
        options = dict(value) if isinstance(value, Mapping) else {}
        name = options.pop("name", None)
        if not isinstance(name, str):
            raise ValueError(f'must be a schedule such as {{ name = "linear_schedule", ... }}, got {value!r}')
        return cls(name, **options)
