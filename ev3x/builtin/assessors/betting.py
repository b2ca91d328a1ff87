"""The default confirmation: a test by betting that may be looked at after every block."""

from __future__ import annotations

import dataclasses

from ...core.task import Metric
from ...stats.betting import MetricRanges
from .anytime import Anytime


@dataclasses.dataclass(frozen=True)
class Betting(Anytime):
    """Better when bets on the contender, on the same examples as the incumbent, have won 1 / level of the budget.

    The e-process of Waudby-Smith and Ramdas (JRSS-B 86, 2024) on the differences of a bounded metric: the average
    wealth of a few bettors whose stakes are best for gains around `min_gain`, given the spread in earlier blocks. For
    metrics of 0 and 1, wealth depends on wins and losses alone and is exact; for others it is bounded from below by the
    first four powers of the differences. The test assumes that examples are drawn afresh, that a score lies in its
    metric's range and a weight in [0, 1]. It assumes nothing about any distribution, and no number of examples is too
    small.
    """

    kind = "betting"

    def ranges(self, metrics: tuple[Metric, ...]) -> MetricRanges:
        """The ranges of the metrics; wealth is exact for binary metrics, and bounded by four powers for others."""
        return MetricRanges.of(metrics)
