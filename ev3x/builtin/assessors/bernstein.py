"""A confirmation by means and variances that may be looked at after every block."""

from __future__ import annotations

import dataclasses

from ...core.task import Metric
from ...stats.betting import MetricRanges
from .anytime import Anytime


@dataclasses.dataclass(frozen=True)
class Bernstein(Anytime):
    """Better when an empirical Bernstein confidence sequence of the difference excludes 0, at the budget's level.

    The e-process from means and mean squares of the differences alone (Howard, Ramdas, McAuliffe and Sekhon, Annals of
    Statistics 49, 2021, theorem 4; Waudby-Smith and Ramdas 2024, section 3.2), in the bets of `betting`, which it
    bounds from below: never surer than that, and a little slower, but its record is what every statistician knows. Its
    assumptions are those of `betting`.
    """

    kind = "empirical Bernstein"

    def ranges(self, metrics: tuple[Metric, ...]) -> MetricRanges:
        """All metrics by two powers."""
        return MetricRanges.of(metrics, exact=False, order=2)
