"""Losses as values: weighted sums of the losses of a task, frozen, hashable and equal when they mean the same."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, Self

import jax

from ..values import checked_name, different, number, plain
from .optimizers import Named


@dataclasses.dataclass(frozen=True)
class Term:
    """One loss of the task, with hyperparameters that differ from the task's defaults."""

    name: str
    weight: float = 1.0
    hypers: tuple[tuple[str, float], ...] = ()

    def __post_init__(self) -> None:
        who = f"loss {checked_name('the name of a loss', self.name)!r}"
        if not isinstance(self.hypers, list | tuple) or any(len(pair) != 2 for pair in self.hypers):
            raise ValueError(f"{who}: hypers must be pairs (name, number), ..., got {self.hypers!r}")
        different(f"{who}: hyperparameters", [key for key, _ in self.hypers])
        object.__setattr__(self, "weight", _float(f"{who}: weight", self.weight))
        object.__setattr__(self, "hypers", tuple((key, _float(f"{who}: {key}", x)) for key, x in self.hypers))


@dataclasses.dataclass(frozen=True, init=False)
class Loss(Named):
    """A weighted sum of the task's losses: `Loss("kl", temperature=2.0)`, `0.7 * Loss("kl") + 0.3 * Loss("labels")`.

    In a config: `{ name = "kl", temperature = 2.0 }` or `{ sum = [{ name = "kl", weight = 0.7 }, ...] }`.
    """

    EXAMPLE = 'a loss such as { name = "kl", temperature = 1.0 }'
    terms: tuple[Term, ...]

    def __init__(self, name: str | tuple[Term, ...], /, *, weight: float = 1.0, **hypers: float) -> None:
        if isinstance(name, tuple) and not (name and all(isinstance(term, Term) for term in name)):
            raise ValueError(f"a loss must be a name, or terms: Term(name, weight, hypers), ...; got {name!r}")
        if isinstance(name, tuple) and (weight != 1.0 or hypers):
            given = ", ".join(["weight"] * (weight != 1.0) + [*hypers])
            raise ValueError(f"a loss made of terms has their weights and hyperparameters, got {given} besides")
        terms = name if isinstance(name, tuple) else (Term(name, weight, tuple(sorted(hypers.items()))),)
        object.__setattr__(self, "terms", terms)

    __array_ufunc__ = None  # a number of numpy leaves the product to the loss, and an array makes no array of losses

    def __add__(self, other: Loss) -> Loss:
        return Loss(self.terms + other.terms) if isinstance(other, Loss) else NotImplemented

    def __rmul__(self, factor: float) -> Loss:
        factor = number("the factor of a loss", factor)
        return Loss(tuple(dataclasses.replace(t, weight=factor * t.weight) for t in self.terms))

    __mul__ = __rmul__

    def to_config(self) -> dict[str, Any]:
        """The table that stands for this loss in a config."""
        terms = [
            {"name": t.name, **({} if t.weight == 1 else {"weight": t.weight}), **dict(t.hypers)} for t in self.terms
        ]
        return terms[0] if len(terms) == 1 else {"sum": terms}

    def __str__(self) -> str:
        return " + ".join(map(_term_text, self.terms))

    @classmethod
    def __get_pydantic_json_schema__(cls, core: Any, handler: Any) -> dict[str, Any]:
        one = super().__get_pydantic_json_schema__(core, handler)
        several = {"type": "array", "items": one, "minItems": 1}
        total = {"type": "object", "properties": {"sum": several}, "required": ["sum"], "additionalProperties": False}
        return {"anyOf": [*one["anyOf"], total]}

    @classmethod
    def _parse(cls, value: Any) -> Self:
        parts = value["sum"] if isinstance(value, Mapping) and set(value) == {"sum"} else None
        if isinstance(parts, list | tuple) and parts:
            return cls(tuple(term for part in parts for term in cls._parse(part).terms))
        return super()._parse(value)


def _float(what: str, value: Any) -> Any:
    """The value as a float, or as it is where it is traced: a proposer trains with several numbers at once."""
    value = plain(value)
    return value if isinstance(value, jax.Array) else float(number(what, value))


def _short(value: float) -> str:
    """The number without digits that say nothing: labels of losses that differ must differ."""
    return f"{value:g}" if float(f"{value:g}") == value else repr(value)


def _term_text(term: Term) -> str:
    weight = "" if term.weight == 1 else f"{_short(term.weight)} "
    hypers = ", ".join(f"{n}={_short(v)}" for n, v in term.hypers)
    return f"{weight}{term.name}" + (f"({hypers})" if hypers else "")
