"""A confirmation by means and variances that may be looked at after every block."""

from __future__ import annotations

import dataclasses

from ...core.task import Metric
from ...stats.betting import MetricRanges
from .anytime import Anytime


@dataclasses.dataclass(frozen=True)
class Bernstein(Anytime):
    """Better when an empirical Bernstein confidence sequence of the difference excludes 0, at the budget's level.

    The e-process uses only means and mean squares of the differences (Howard, Ramdas, McAuliffe and Sekhon, Annals of
    Statistics 49, 2021, theorem 4; Waudby-Smith and Ramdas 2024, section 3.2), with the bets of `betting`. It bounds
    the wealth of `betting` from below: it is never surer and needs a few more examples, but its evidence is a mean and
    a variance, which every statistician knows. It makes the same assumptions as `betting`.
    """

    kind = "empirical Bernstein"

    def ranges(self, metrics: tuple[Metric, ...]) -> MetricRanges:
        """The ranges of the metrics; all wealth is bounded by two powers of the gains."""
        return MetricRanges.of(metrics, exact=False, order=2)
