"""The base of assessors that test claims and guards."""

from __future__ import annotations

import dataclasses
from typing import Annotated

from typing_extensions import Doc

from ...component import Fault, Names, Positive
from ...core.assess import Assessor
from ...core.objectives import Amounts, find
from ...core.task import Metric


@dataclasses.dataclass(frozen=True)
class Tested(Assessor):
    """An assessor that calls a contender better when every claim is proven and every guard holds.

    Each claim and guard is tested at the level that the budget offers: an intersection-union test, which needs no
    correction for their number (Berger 1982). Metrics without a claim or guard are not tested; weights of the metrics
    are for selection and do not count here.
    """

    level: Annotated[Positive, Doc("the chance of a false promotion that the budget shares out")] = 0.05
    claims: Annotated[Names, Doc("metrics that must be proven better; none named: the first")] = ()
    guards: Annotated[
        Amounts, Doc("name = margin, in the metric's units: metrics that must be proven not worse by more than this")
    ] = Amounts()

    def check(self) -> list[Fault]:
        """Faults of the options: a level of 1/2 or more, a margin of 0, a metric that is both claim and guard."""
        faults = [Fault(("level",), f"must be below 0.5, got {self.level}")] if self.level >= 0.5 else []
        faults += [Fault(("guards", name), f"must be above 0, got {x}") for name, x in self.guards if not x]
        twice = "must be a claim or a guard, not both"
        return faults + [Fault(("guards", name), twice) for name, _ in self.guards if name in self.claims]

    @property
    def promise(self) -> float:
        """The option `level`."""
        return self.level

    def accept(self, metrics: tuple[Metric, ...]) -> None:
        """Raise ValueError for claims and guards that do not suit these metrics."""
        name = type(self).__name__.lower()
        find(name, self.claims, metrics)
        find(name, dict(self.guards), metrics)
        margins = dict(self.guards)
        for metric in (m for m in metrics if m.name in margins):
            at = f"got {margins[metric.name]!r}"
            if metric is metrics[self.leads(metrics)]:
                text = "must be a claim or a guard, not both (the first metric is a claim when none is named)"
                raise ValueError(f"{name}: guards: {metric.name} {text}, {at}")
            if metric.binary and margins[metric.name] >= 1:
                raise ValueError(f"{name}: guards: {metric.name} must be below 1, its values are 0 and 1, {at}")

    def leads(self, metrics: tuple[Metric, ...]) -> int:
        """Index of the first claim."""
        return next(iter(find(type(self).__name__.lower(), self.claims, metrics)), 0)

    def claimed(self, metrics: tuple[Metric, ...]) -> list[bool]:
        """Which metrics must be proven better."""
        named = self.claims or (metrics[0].name,)
        return [m.name in named for m in metrics]

    def margins(self, metrics: tuple[Metric, ...]) -> list[float]:
        """The margin of every guard; 0 for other metrics."""
        return [dict(self.guards).get(m.name, 0.0) for m in metrics]
