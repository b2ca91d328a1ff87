"""Amounts for metrics by name, and the aims (sign and weight of each metric) that follow from weights."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Self

import pydantic_core

from ..component import unknown
from ..values import checked_name, number
from .task import Metric

if TYPE_CHECKING:
    from .assess import Assessor


class Amounts(tuple[tuple[str, float], ...]):
    """A number of at least 0 for each of some names; hashable, sorted by name.

    A config says `name = number` for each.
    """

    __slots__ = ()
    EXAMPLE: ClassVar[str] = "{ accuracy = 1.0 }"

    def to_config(self) -> dict[str, float]:
        """A table of numbers."""
        return dict(self)

    @classmethod
    def parse(cls, value: Any) -> Self:
        """The amounts that a mapping, or a tuple of pairs, holds; ValueError says what is wrong with one."""
        pairs = tuple(value.items()) if isinstance(value, Mapping) else value
        if not isinstance(pairs, tuple) or not all(isinstance(pair, tuple) and len(pair) == 2 for pair in pairs):
            raise ValueError(f"must be a table such as {cls.EXAMPLE}, got {value!r}")
        amounts = {checked_name("each name", name): number(name, amount) for name, amount in pairs}
        if len(amounts) < len(pairs):
            raise ValueError(f"names something twice: {value!r}")
        for name, amount in amounts.items():
            if amount < 0:
                raise ValueError(f"{name} must be at least 0, got {amount!r}")
        return cls(sorted((name, float(amount)) for name, amount in amounts.items()))

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: Any) -> pydantic_core.CoreSchema:
        return pydantic_core.core_schema.no_info_plain_validator_function(cls.parse)

    @classmethod
    def __get_pydantic_json_schema__(cls, core: Any, handler: Any) -> dict[str, Any]:
        return {"type": "object", "additionalProperties": {"type": "number", "minimum": 0}}


def find(asker: str, names: Collection[str], metrics: tuple[Metric, ...]) -> tuple[int, ...]:
    """The indices of the named metrics; ValueError when there is no metric of such a name."""
    places = {metric.name: i for i, metric in enumerate(metrics)}
    for name in names:
        if name not in places:
            raise ValueError(f"{asker}: {unknown('metric', name, places)}")
    return tuple(places[name] for name in names)


def aims(weights: Amounts | None, metrics: tuple[Metric, ...], select: Assessor | None) -> tuple[float, ...]:
    """The sign and weight of each metric in selection; without weights the first counts 1, the others nothing.

    Raises ValueError when a weight names no metric, when none is above 0, or when `select` does not use weights.
    """
    if weights is not None and select is not None and not select.weighted:
        raise ValueError(f"weights: {type(select).__name__} does not select by weights: leave them out")
    given = {metrics[0].name: 1.0} if weights is None else dict(weights)
    find("weights", given, metrics)
    if not any(given.values()):
        raise ValueError(f"weights: at least one must be above 0, got {given}")
    return tuple(_signed(m, given.get(m.name, 0.0)) for m in metrics)


def _signed(metric: Metric, weight: float) -> float:
    return weight if metric.maximize or not weight else -weight
