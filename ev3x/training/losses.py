"""Losses as values: weighted sums of the losses of a task, frozen, hashable and equal when they mean the same."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, Self

from .optimizers import Named


@dataclasses.dataclass(frozen=True)
class Term:
    """One loss of the task, with hyperparameters that differ from the task's defaults."""

    name: str
    weight: float = 1.0
    hypers: tuple[tuple[str, float], ...] = ()


@dataclasses.dataclass(frozen=True, init=False)
class Loss(Named):
    """A weighted sum of the task's losses: `Loss("kl", temperature=2.0)`, `0.7 * Loss("kl") + 0.3 * Loss("labels")`.

    In a config: `{ name = "kl", temperature = 2.0 }` or `{ sum = [{ name = "kl", weight = 0.7 }, ...] }`.
    """

    EXAMPLE = 'a loss such as { name = "kl", temperature = 1.0 }'
    terms: tuple[Term, ...]

    def __init__(self, name: str | tuple[Term, ...], /, *, weight: float = 1.0, **hypers: float) -> None:
        if isinstance(name, str):
            for key, value in {"weight": weight, **hypers}.items():
                if isinstance(value, bool) or not isinstance(value, int | float):
                    raise ValueError(f"loss {name!r}: {key} must be a number, got {value!r}")
            name = (Term(name, float(weight), tuple(sorted((k, float(v)) for k, v in hypers.items()))),)
        object.__setattr__(self, "terms", name)

    def __add__(self, other: Loss) -> Loss:
        return Loss(self.terms + other.terms)

    def __rmul__(self, factor: float) -> Loss:
        return Loss(tuple(dataclasses.replace(t, weight=factor * t.weight) for t in self.terms))

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


def _term_text(term: Term) -> str:
    weight = "" if term.weight == 1 else f"{term.weight:g} "
    hypers = ", ".join(f"{n}={v:g}" for n, v in term.hypers)
    return f"{weight}{term.name}" + (f"({hypers})" if hypers else "")
