"""Losses and optimizers as values: frozen, hashable and equal when they mean the same, so that programs are cached.

optax.sgd(0.1) != optax.sgd(0.1), but Rule(optax.sgd, learning_rate=0.1) == Rule(optax.sgd, learning_rate=0.1).
"""

from __future__ import annotations

import contextlib
import dataclasses
import inspect
import types
import typing
from collections.abc import Callable, Collection, Mapping
from typing import Any, ClassVar, NoReturn, Self

import optax
import pydantic_core

from ..component import to_config, unknown
from ..values import misfit32, plain, short

OPTIMIZERS: Mapping[str, Callable[..., Any]] = {
    name: getattr(optax, name)
    for name in """
    adabelief adadelta adafactor adagrad adam adamax adamw amsgrad lamb lars lion nadam nadamw novograd
    radam rmsprop sgd sm3 yogi
    """.split()
}
SCHEDULES: Mapping[str, Callable[..., Any]] = {
    name: getattr(optax, name)
    for name in """
    constant_schedule cosine_decay_schedule cosine_onecycle_schedule exponential_decay
    linear_onecycle_schedule linear_schedule polynomial_schedule sgdr_schedule warmup_constant_schedule
    warmup_cosine_decay_schedule warmup_exponential_decay_schedule
    """.split()
}

_ANY = inspect.Parameter("any", inspect.Parameter.KEYWORD_ONLY, default=None)
_HOW = "ev3x.Optimizer(optax.adamw, learning_rate=1e-3), or ev3x.Rule(...) alike for a schedule"


@dataclasses.dataclass(frozen=True, init=False)
class Rule:
    """A function and its options, called when it is needed.

    `Rule(optax.adamw, learning_rate=1e-3)`; options are numbers, strings, None, or rules again (schedules). A rule is a
    value: equal rules share a program, which the functions that optax makes cannot.
    """

    factory: Callable[..., Any]
    options: tuple[tuple[str, Any], ...]

    def __init__(self, factory: Callable[..., Any], /, *others: Any, **options: Any) -> None:
        if not callable(factory):
            raise ValueError(
                f"must be a function and its options, not what the function returns: write {_HOW}, "
                f"got {type(factory).__name__}(...)"
            )
        if others:
            raise ValueError(
                f"{_name(factory)}: takes options by name only: write {_HOW}; where that does not do, as for "
                "optax.chain, write a function with numbers as arguments that returns the optimizer, and give that"
            )
        options = {name: plain(value) for name, value in options.items()}
        if faults := _faults(factory, options):
            raise ValueError(f"{_name(factory)}: {'; '.join(faults)}")
        object.__setattr__(self, "factory", factory)
        object.__setattr__(self, "options", tuple(sorted(options.items())))

    @property
    def numbers(self) -> dict[str, float]:
        """The options that are floats."""
        return {name: value for name, value in self.options if isinstance(value, float)}

    def build(self, **overrides: Any) -> Any:
        """What the function returns, called with these options, rules among them built first.

        Of an `Optimizer` that is an `optax.GradientTransformation`, a pair of functions `init` and `update`; of a
        schedule it is a function of the step. `overrides` replace options and may be traced numbers:
        `build(learning_rate=rate)` under `vmap` gives each candidate its own. Two that are built are
        never equal: build inside the methods, and keep the rule as the option.
        """
        values = {n: v.build() if isinstance(v, Rule) else v for n, v in self.options}
        return self.factory(**(values | overrides))

    def to_config(self) -> dict[str, Any]:
        """The table that stands for this rule in a config."""
        return {"name": _name(self.factory), **{n: to_config(v) for n, v in self.options if v is not None}}

    def __str__(self) -> str:
        inside = ", ".join(f"{n}={v if isinstance(v, Rule) else format(v)}" for n, v in self.options)
        return f"{_name(self.factory)}({inside})"


class Named:
    """A value that a config writes as a name, or as a table with a name and options."""

    EXAMPLE: ClassVar[str]
    NAMES: ClassVar[Collection[str]] = ()

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: Any) -> pydantic_core.CoreSchema:
        return pydantic_core.core_schema.no_info_plain_validator_function(cls._parse)

    @classmethod
    def __get_pydantic_json_schema__(cls, core: Any, handler: Any) -> dict[str, Any]:
        name: dict[str, Any] = {"type": "string"} | ({"enum": sorted(cls.NAMES)} if cls.NAMES else {})
        return {"anyOf": [name, {"type": "object", "properties": {"name": name}, "required": ["name"]}]}

    @classmethod
    def _parse(cls, value: Any) -> Self:
        if isinstance(value, cls):
            return value
        options = {"name": value} if isinstance(value, str) else dict(value) if isinstance(value, Mapping) else {}
        name = options.pop("name", None)
        if not isinstance(name, str) or not all(isinstance(key, str) for key in options):
            raise ValueError(f"must be {cls.EXAMPLE}, got {value!r}")
        made: Callable[..., Self] = cls
        return made(name, **options)


class Optimizer(Named, Rule):
    """An optax optimizer as a value: `Optimizer(optax.adamw, learning_rate=1e-3)` or `Optimizer("adamw", ...)`.

    A config names one of `OPTIMIZERS`; schedules are tables: `learning_rate = { name = "linear_schedule", ... }`.
    """

    EXAMPLE = 'an optimizer such as { name = "adamw", learning_rate = 1e-3 }'
    NAMES = OPTIMIZERS

    def __init__(self, factory: Callable[..., Any] | str, /, *others: Any, **options: Any) -> None:
        if isinstance(factory, str):
            factory = _known("optimizer", factory, OPTIMIZERS)
        super().__init__(factory, *others, **{n: _schedule(v) for n, v in options.items()})
        try:
            made = self.build()
        except Exception as error:
            raise ValueError(f"{_name(self.factory)}: cannot be built: {type(error).__name__}: {error}") from error
        if not (callable(getattr(made, "init", None)) and callable(getattr(made, "update", None))):
            raise ValueError(
                f"{_name(self.factory)}: must return an optimizer, which has `init` and `update`, got {short(made)}: "
                f"write {_HOW}"
            )

    def __getattr__(self, name: str) -> NoReturn:
        own = type(self).__name__
        hint = f": an {own} is a value; call build() first, build().{name}" if name in ("init", "update") else ""
        raise AttributeError(f"{own!r} object has no attribute {name!r}{hint}")


def _name(factory: Callable[..., Any]) -> str:
    return str(getattr(factory, "__name__", None) or getattr(getattr(factory, "func", None), "__name__", repr(factory)))


def _faults(factory: Callable[..., Any], options: Mapping[str, Any]) -> list[str]:
    """What is wrong with these options for this function."""
    accepted = _parameters(factory)
    loose = any(p.kind is p.VAR_KEYWORD for p in accepted.values())
    faults = [unknown("option", name, accepted) for name in options if name not in accepted and not loose]
    for name, value in options.items():
        if fault := _misfit(value, accepted.get(name, _ANY)):
            faults.append(f"{name} {fault}")
    faults += [
        f"option {name!r} is required"
        for name, p in accepted.items()
        if p.default is p.empty and p.kind not in (p.VAR_KEYWORD, p.VAR_POSITIONAL) and name not in options
    ]
    return faults


def _misfit(value: Any, parameter: inspect.Parameter) -> str | None:
    """What is wrong with the value of an option, as far as its default and its annotation tell; None: nothing."""
    default, kinds = parameter.default, _kinds(parameter.annotation)
    if isinstance(value, Rule) or (value is None and default is None):
        return None
    if callable(value):
        return (
            "must be a number, a string or a rule: for a schedule write ev3x.Rule(optax.linear_schedule, "
            f"init_value=..., end_value=..., transition_steps=...), got {value!r}"
        )
    if not isinstance(value, int | float | str | None):
        return f"must be a number, a string or a rule, got {value!r}"
    if isinstance(default, bool):
        return None if isinstance(value, bool) else f"must be true or false, got {value!r}"
    numeric = isinstance(default, int | float) or bool(kinds & {int, float} and not kinds & {str, Any})
    if numeric and (isinstance(value, bool | str) or value is None):
        return f"must be a number{' or a schedule' if Callable in map(_origin, kinds) else ''}, got {value!r}"
    if int in kinds and not kinds & {float, str, Any} and isinstance(value, float):
        return f"must be an integer, got {value!r}"
    if isinstance(value, int | float) and (fault := misfit32(value)):
        return f"must be {fault}, got {short(value)}"
    if isinstance(value, int) and not -(2**31) <= value < 2**31:
        return f"must be an integer that int32 holds, or a number with a point or an exponent, got {short(value)}"
    return None


def _parameters(factory: Callable[..., Any]) -> Mapping[str, inspect.Parameter]:
    """The parameters of a function, their annotations as types where they can be read."""
    try:
        return inspect.signature(factory, eval_str=True).parameters
    except Exception:  # anyone may have written them, and names in them may not be there
        with contextlib.suppress(ValueError, TypeError):  # of what is written in C, nothing may be known
            return inspect.signature(factory).parameters
        return {"options": inspect.Parameter("options", inspect.Parameter.VAR_KEYWORD)}


def _kinds(hint: Any) -> set[Any]:
    """The types that a union of types names, or the one type."""
    args = typing.get_args(hint) if _origin(hint) in (typing.Union, types.UnionType) else ()
    return set().union(*map(_kinds, args)) if args else {hint}


def _origin(hint: Any) -> Any:
    return typing.get_origin(hint) or hint


def _known(kind: str, name: str, registry: Mapping[str, Callable[..., Any]]) -> Callable[..., Any]:
    if name not in registry:
        raise ValueError(unknown(kind, name, registry))
    return registry[name]


def _schedule(value: Any) -> Any:
    if isinstance(value, Mapping):
        options = dict(value)
        name = options.pop("name", None)
        if not isinstance(name, str) or not all(isinstance(key, str) for key in options):
            raise ValueError(f'must be a schedule such as {{ name = "linear_schedule", ... }}, got {value!r}')
        return Rule(_known("schedule", name, SCHEDULES), **options)
    return value
