"""Schedules: hyperparameters of a training run, each shared over contiguous windows of its steps."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Annotated, Any

import jax
import jax.numpy as jnp
import numpy as np
from annotated_types import Ge
from typing_extensions import Doc

from ev3x.component import Count, Positive, Real

Array = jax.Array
Values = Mapping[str, Array]  # of each hyperparameter one value for each of its windows


@dataclasses.dataclass(frozen=True)
class Schedule:
    """One hyperparameter of the optimizer: how many windows it has, and how its values are looked for.

    The windows share the horizon equally. `step` is the size of the first steps of the search.
    """

    name: Annotated[str, Doc("learning_rate, momentum or weight_decay; with an optimizer: one of its options")]
    windows: Annotated[Count, Doc("windows of the horizon, with a value each")] = 1
    start: Annotated[Real, Doc("the value that the search begins with")] = 0.0
    step: Annotated[Positive, Doc("how far the first step of the search goes")] = 0.1
    low: Annotated[Real, Doc("the least value")] = 0.0
    high: Annotated[Real, Ge(0), Doc("the largest value")] = 1.0

    def __post_init__(self) -> None:
        who = f"schedule {self.name!r}"
        if isinstance(self.windows, bool) or not isinstance(self.windows, int) or self.windows < 1:
            raise ValueError(f"{who}: windows must be an integer of at least 1, got {self.windows!r}")
        for option in ("start", "step", "low", "high"):
            value = getattr(self, option)
            if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
                raise ValueError(f"{who}: {option} must be a finite number, got {value!r}")
        if not self.step > 0:
            raise ValueError(f"{who}: step must be above 0, got {self.step:g}")
        if not self.low < self.high:
            raise ValueError(f"{who}: low must be below high, got {self.low:g} and {self.high:g}")
        if not self.low <= self.start <= self.high:
            raise ValueError(f"{who}: start must lie in [{self.low:g}, {self.high:g}], got {self.start:g}")

    def __str__(self) -> str:
        return f"{self.name} x {self.windows}" if self.windows > 1 else self.name


# What the paper learns, with its first steps; from 0.
PAPER = (
    Schedule("learning_rate", windows=5, step=0.1, high=1.0),
    Schedule("momentum", step=0.1, high=1.0),
    Schedule("weight_decay", step=3e-4, high=5e-3),
)


def length(name: str, windows: int, horizon: int) -> int:
    """Steps in a window, or a ValueError."""
    if isinstance(horizon, bool) or not isinstance(horizon, int | np.integer) or horizon < 1:
        raise ValueError(f"horizon must be an integer of at least 1, got {horizon!r}")
    if windows < 1 or horizon % windows:
        raise ValueError(
            f"schedule {name!r}: {windows} windows do not divide a horizon of {horizon} steps: "
            "choose a number of windows that does"
        )
    return int(horizon) // windows


def checked(values: Values, horizon: int) -> dict[str, Array]:
    """The values as floating-point arrays of one axis, or a ValueError that names what is wrong."""
    if not values:
        raise ValueError("schedules hold nothing: there is nothing to differentiate by")
    made = {}
    for name, value in values.items():
        array = jnp.asarray(value)
        if array.ndim != 1 or not jnp.issubdtype(array.dtype, jnp.floating):
            got = f"{array.dtype}{list(array.shape)}"
            raise ValueError(f"schedule {name!r} must be floating point with one axis, a value per window, got {got}")
        length(name, array.shape[0], horizon)
        made[name] = array
    return made


def at(values: Values, step: Array | int, horizon: int) -> dict[str, Array]:
    """The value of each hyperparameter at a step: its window's."""
    return {n: v[step // (horizon // v.shape[0])] for n, v in values.items()}


def spread(value: Array, horizon: int) -> Array:
    """The values of all steps f[horizon], from those of the windows."""
    return jnp.repeat(value, horizon // value.shape[0], total_repeat_length=horizon)


@dataclasses.dataclass(frozen=True)
class Columns:
    """The tangent columns: one for each window of each hyperparameter, in the order in which windows begin.

    `kind` i[C] counts hyperparameters in the order of `names`; `begin` and `end` i[C] are steps.
    """

    names: tuple[str, ...]
    kind: np.ndarray[Any, Any]
    begin: np.ndarray[Any, Any]
    end: np.ndarray[Any, Any]

    @classmethod
    def of(cls, values: Values, horizon: int) -> Columns:
        """All columns."""
        rows = []
        for kind, (name, value) in enumerate(values.items()):
            steps = length(name, value.shape[0], horizon)
            rows += [(w * steps, kind, (w + 1) * steps) for w in range(value.shape[0])]
        begin, kinds, end = np.array(sorted(rows), np.int32).T
        return cls(tuple(values), kinds, begin, end)

    def chunks(self, size: int) -> tuple[np.ndarray[Any, Any], ...]:
        """(kind, begin, end), each i32[n, size]; the last chunk is filled up with columns that never enter."""
        fill, never = -len(self.kind) % size, int(self.end.max())
        parts = ((self.kind, -1), (self.begin, never), (self.end, never))
        return tuple(np.pad(x, (0, fill), constant_values=c).reshape(-1, size) for x, c in parts)

    def gathered(self, found: Array) -> dict[str, Array]:
        """What was found for each column f[C], by hyperparameter and window."""
        return {name: found[np.flatnonzero(self.kind == k)] for k, name in enumerate(self.names)}


def starts(schedules: Sequence[Schedule], dtype: Any = jnp.float32) -> dict[str, Array]:
    """The values that a search begins with."""
    return {s.name: jnp.full(s.windows, s.start, dtype) for s in schedules}


def within(schedules: Sequence[Schedule], values: Values) -> dict[str, Array]:
    """The values, each in its range."""
    return {s.name: jnp.clip(values[s.name], s.low, s.high) for s in schedules}


def drawn(schedules: Sequence[Schedule], key: Array, dtype: Any = jnp.float32) -> dict[str, Array]:
    """Values drawn uniformly from their ranges."""
    keys = jax.random.split(key, len(schedules))
    return {
        s.name: jax.random.uniform(k, (s.windows,), dtype, s.low, s.high) for s, k in zip(schedules, keys, strict=True)
    }
