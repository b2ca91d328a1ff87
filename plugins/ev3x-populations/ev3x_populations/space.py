"""Search spaces: what each coordinate of the unit cube means, numbers of ev3x's `Range` and four kinds besides.

They are not in ev3x's own `Ranges`, because its readers sample traced floats and could only refuse the others.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, ClassVar, Self

import jax
import jax.numpy as jnp
import numpy as np
import pydantic_core

from ev3x import Range
from ev3x.component import unknown

Array = jax.Array
Config = dict[str, Any]


@dataclasses.dataclass(frozen=True)
class Integers:
    """The whole numbers from low to high, all of one width in themselves (or nearly, in their logarithm)."""

    name: str
    low: int
    high: int
    log: bool = False

    def __post_init__(self) -> None:
        Range(self.name, self.low, self.high, self.log)  # its checks of names and ends
        for end in ("low", "high"):
            value = getattr(self, end)
            if value != int(value) or abs(value) >= 2**24:
                raise ValueError(f"integers {self.name!r}: {end} must be a whole number below 2^24, got {value!r}")
            object.__setattr__(self, end, int(value))

    @property
    def ends(self) -> tuple[float, float]:
        """The ends of the interval that is rounded: half a number further out, so that both ends have a full width."""
        low, high = self.low - 0.5, self.high + 0.5
        return (math.log(low), math.log(high)) if self.log else (low, high)

    def at(self, u: Array) -> Array:
        """The number at u in [0, 1], as a float."""
        low, high = self.ends
        value = low + u * (high - low)
        return jnp.clip(jnp.round(jnp.exp(value) if self.log else value), self.low, self.high)

    def of(self, value: Any) -> float:
        """A place u of this number."""
        low, high = self.ends
        return ((math.log(value) if self.log else value) - low) / (high - low)

    def native(self, value: float) -> int:
        """The number as Python's."""
        return int(value)


@dataclasses.dataclass(frozen=True)
class _Choice:
    """One of several values, in bins of equal width; traced code gets the index, as a float."""

    name: str
    choices: tuple[Any, ...]

    def __post_init__(self) -> None:
        Range(self.name, 0.0, 1.0)  # its check of names
        kind = type(self).__name__.lower()
        if isinstance(self.choices, str) or not isinstance(self.choices, Sequence) or len(self.choices) < 2:
            text = "needs a list of at least two values; leave out what never changes"
            raise ValueError(f"{kind} {self.name!r} {text}, got {self.choices!r}")
        object.__setattr__(self, "choices", tuple(self.choices))
        if any(not isinstance(c, str | int | float | bool) for c in self.choices):
            raise ValueError(f"{kind} {self.name!r} must have numbers, strings or bools, got {self.choices!r}")
        if len({*self.choices}) < len(self.choices):  # 1 and True are equal, too: a configuration could mean either
            raise ValueError(f"{kind} {self.name!r} must not have a value twice, got {self.choices!r}")

    def at(self, u: Array) -> Array:
        """The index of the value at u in [0, 1], as a float."""
        n = len(self.choices)
        return jnp.clip(jnp.floor(u * n), 0, n - 1)

    def of(self, value: Any) -> float:
        """The middle of this value's bin."""
        if value not in self.choices:
            raise ValueError(f"{self.name!r} must be one of {self.choices}, got {value!r}")
        return (self.choices.index(value) + 0.5) / len(self.choices)

    def native(self, value: float) -> Any:
        """The value at this index."""
        return self.choices[int(value)]


@dataclasses.dataclass(frozen=True)
class Ordinal(_Choice):
    """Values in an order that means something (batch sizes): neighbours lie next to each other."""


@dataclasses.dataclass(frozen=True)
class Categorical(_Choice):
    """Values without an order."""


Plain = Range | Integers | Ordinal | Categorical


@dataclasses.dataclass(frozen=True)
class When:
    """A parameter that exists only where another one, `parent`, has one of `values`."""

    parameter: Plain
    parent: str
    values: tuple[Any, ...]

    def __post_init__(self) -> None:
        if not isinstance(self.parameter, Plain):
            raise TypeError(f"When: a condition is of one plain parameter, got {self.parameter!r}")
        if isinstance(self.values, str) or not self.values:
            raise ValueError(f"condition of {self.name!r}: needs a list of values of {self.parent!r}")
        object.__setattr__(self, "values", tuple(self.values))

    @property
    def name(self) -> str:
        """The name of the parameter."""
        return self.parameter.name


class Space(tuple[Plain | When, ...]):
    """Parameters, one for each coordinate of the unit cube.

    A config writes `{ low = 1e-3, high = 1.0, log = true }`, `{ low = 1, high = 8, integer = true }`,
    `{ ordinal = [16, 32] }` or `{ categorical = ["a", "b"] }`, each with `when = { other = [...] }` if it has a
    condition. Where a condition does not hold the coordinate means nothing: configurations leave it out, and traced
    code gets the value all the same, with `active` beside it.
    """

    __slots__ = ()
    EXAMPLE: ClassVar[str] = "{ learning_rate = { low = 1e-3, high = 1.0, log = true } }"

    def __new__(cls, parameters: Iterable[Plain | When] = ()) -> Self:
        """The space of these parameters, in this order; a condition comes after what it is a condition on."""
        made = super().__new__(cls, parameters)
        if not made:
            raise ValueError(f"space: needs at least one parameter, such as {cls.EXAMPLE}")
        known: dict[str, Plain] = {}
        for one in made:
            if not isinstance(one, Plain | When):
                raise TypeError(f"space: must hold Range, Integers, Ordinal, Categorical or When, got {one!r}")
            if one.name in known:
                raise ValueError(f"space: the name {one.name!r} comes twice")
            if isinstance(one, When):
                _check_condition(one, known)
            known[one.name] = plain(one)
        return made

    def values(self, x: Array) -> dict[str, Array]:
        """What the coordinates x f32[..., D] mean, each f32[...]: a number, or the index of a choice."""
        return {one.name: plain(one).at(x[..., i]) for i, one in enumerate(self)}

    def active(self, x: Array) -> dict[str, Array]:
        """Whether each parameter exists at x f32[..., D], bool[...]; a parent that does not exist ends it, too."""
        values, found = self.values(x), dict[str, Array]()
        for i, one in enumerate(self):
            here = jnp.ones(x[..., i].shape, bool)
            if isinstance(one, When):
                parent = next(plain(other) for other in self if other.name == one.parent)
                wanted = [v if isinstance(parent, Integers) else parent.choices.index(v) for v in one.values]  # type: ignore[union-attr]
                here = jnp.isin(values[one.parent], jnp.array(wanted, jnp.float32)) & found[one.parent]
            found[one.name] = here
        return found

    def snapped(self, x: Array) -> Array:
        """x f32[..., D] with everything that means the same made equal: for finding duplicates."""
        values, active = self.values(x), self.active(x)
        columns = []
        for i, one in enumerate(self):
            column = x[..., i] if isinstance(plain(one), Range) else values[one.name]
            columns.append(jnp.where(active[one.name], column, -1e9))
        return jnp.stack(columns, axis=-1)

    def configs(self, values: Mapping[str, Any], active: Mapping[str, Any]) -> list[Config]:
        """Configurations of Python values from `values` and `active` of a batch [n], without what does not exist."""
        columns = []
        for one in self:
            p, column = plain(one), np.asarray(values[one.name]).tolist()
            here = np.asarray(active[one.name]).tolist()
            made = column if isinstance(p, Range) else [p.native(v) for v in column]
            columns.append([(one.name, v) if a else None for v, a in zip(made, here, strict=True)])
        return [dict(pair for pair in row if pair is not None) for row in zip(*columns, strict=True)]

    def point(self, config: Mapping[str, Any]) -> list[float]:
        """The coordinates of a configuration; what does not exist in it lies in the middle."""
        names = [one.name for one in self]
        for name in config:
            if name not in names:
                raise ValueError(f"configuration: {unknown('parameter', name, names)}")
        point: list[float] = []
        for one in self:
            exists = not isinstance(one, When) or (one.parent in config and config[one.parent] in one.values)
            if exists and one.name not in config:
                raise ValueError(f"configuration: {one.name!r} is missing in {dict(config)!r}")
            point.append(_place(plain(one), config[one.name]) if exists else 0.5)
        return point

    def to_config(self) -> Config:
        """A table for each parameter."""
        return {one.name: _table(one) for one in self}

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: Any) -> pydantic_core.CoreSchema:
        return pydantic_core.core_schema.no_info_plain_validator_function(cls.parse)

    @classmethod
    def __get_pydantic_json_schema__(cls, core: Any, handler: Any) -> dict[str, Any]:
        return {"type": "object", "additionalProperties": {"type": "object"}, "minProperties": 1}

    @classmethod
    def parse(cls, value: Any) -> Self:
        """The space that a table of tables, or a list of parameters, says."""
        if isinstance(value, Mapping):
            return cls(_parsed(name, said) for name, said in value.items())
        if not isinstance(value, list | tuple):
            raise ValueError(f"must be a table such as {cls.EXAMPLE}, got {value!r}")
        return cls(value)


def plain(one: Plain | When) -> Plain:
    """The parameter without its condition."""
    return one.parameter if isinstance(one, When) else one


def _check_condition(one: When, known: Mapping[str, Plain]) -> None:
    who = f"space: the condition of {one.name!r}"
    if one.parent not in known:
        raise ValueError(f"{who}: {unknown('parameter', one.parent, known)}; what it is a condition on comes before it")
    parent = known[one.parent]
    if isinstance(parent, Range):
        raise ValueError(f"{who}: {one.parent!r} is a range of floats: conditions are on integers and choices")
    for value in one.values:
        never = not parent.low <= value <= parent.high if isinstance(parent, Integers) else value not in parent.choices
        if never:
            raise ValueError(f"{who} can never hold: {one.parent!r} is never {value!r}")


def _place(parameter: Plain, value: Any) -> float:
    if isinstance(parameter, Range):
        low, high = parameter.low, parameter.high
        if not low <= value <= high:
            raise ValueError(f"{parameter.name!r} must lie in [{low:g}, {high:g}], got {value!r}")
        if parameter.log:
            return math.log(value / low) / math.log(high / low)
        return float((value - low) / (high - low))
    if isinstance(parameter, Integers) and not (value == int(value) and parameter.low <= value <= parameter.high):
        text = f"must be a whole number in [{parameter.low}, {parameter.high}]"
        raise ValueError(f"{parameter.name!r} {text}, got {value!r}")
    return parameter.of(value)


def _table(one: Plain | When) -> Config:
    p = plain(one)
    if isinstance(p, _Choice):
        table: Config = {type(p).__name__.lower(): list(p.choices)}
    else:
        table = {"low": p.low, "high": p.high, "log": p.log}
        table |= {"integer": True} if isinstance(p, Integers) else {}
    return table | ({"when": {one.parent: list(one.values)}} if isinstance(one, When) else {})


def _parsed(name: str, said: Any) -> Plain | When:
    if isinstance(said, Plain | When):
        if said.name != name:
            raise ValueError(f"space: {name!r} is called {said.name!r} in its own definition")
        return said
    if not isinstance(said, Mapping):
        raise ValueError(f"parameter {name!r} must be a table such as {{ low = 0.1, high = 1.0 }}, got {said!r}")
    rest = {key: value for key, value in said.items() if key != "when"}
    kinds = [kind for kind in (Ordinal, Categorical) if kind.__name__.lower() in rest]
    known = {kinds[0].__name__.lower()} if kinds else {"low", "high", "log", "integer"}
    for key in rest:
        if key not in known:
            raise ValueError(f"parameter {name!r}: {unknown('option', key, {*known, 'when'})}")
    if kinds:
        made: Plain = kinds[0](name, rest[kinds[0].__name__.lower()])
    elif not {"low", "high"} <= rest.keys():
        raise ValueError(f"parameter {name!r} needs low and high, ordinal, or categorical, got {dict(said)!r}")
    else:
        whole = rest.pop("integer", False)
        made = Integers(name, **rest) if whole is True else Range(name, **rest)
    if "when" not in said:
        return made
    if not isinstance(said["when"], Mapping) or len(said["when"]) != 1:
        raise ValueError(f"parameter {name!r}: when must be {{ other = [values] }}, got {said['when']!r}")
    ((parent, values),) = said["when"].items()
    return When(made, parent, values)
