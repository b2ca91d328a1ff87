"""Operations with a definition in jax.numpy and, where it pays, a native XLA custom call.

`choose`, `custom_call`, `agree` and `StoredTest` are what plugins build theirs from.
"""

from .bootstrap_means import bootstrap_means as bootstrap_means
from .lowering import agree as agree
from .lowering import choose as choose
from .lowering import custom_call as custom_call
from .pareto_ranks import ParetoRanks as ParetoRanks
from .pareto_ranks import pareto_ranks as pareto_ranks
from .rank_metrics import RankMetrics as RankMetrics
from .rank_metrics import rank_metrics as rank_metrics
from .score_stats import ScoreMoments as ScoreMoments
from .score_stats import ScoreStats as ScoreStats
from .score_stats import score_moments as score_moments
from .score_stats import score_stats as score_stats
from .self_tests import StoredTest as StoredTest
