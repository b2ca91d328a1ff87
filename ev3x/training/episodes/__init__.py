"""Learning to adapt: families of tasks, of which one example is an episode with a support set and a query set.

- `Family`: a task that adapts on the support set and answers on the query set. `Regression` and `Classification` have
  a loss and a metric already: a family of your own says `init`, `answer` and `episode`.
- `episode(x, y, support=...)`: an episode of points, of which the first are its support set.
- `Episodes(family)`: the `make` of `ev3x.Generated`; `stacked(episodes)`: finitely many, as `ev3x.Arrays`.
- `Pools`: the real data of each split, that episodes are drawn from; what `Family.pools` returns.
- `Inner`: adaptation, of any objective; `step` is one step, with the optimizer's state.
- `LOSSES`: maml, fomaml, reptile, leap, by name: functions (inner, support, query, params) of one episode.

docs/families.md has a family of one's own.
"""

from __future__ import annotations

from .drawn import Episodes as Episodes
from .drawn import Pools as Pools
from .drawn import episode as episode
from .drawn import stacked as stacked
from .family import Classification as Classification
from .family import Family as Family
from .family import Regression as Regression
from .inner import LOSSES as LOSSES
from .inner import Inner as Inner
from .inner import Objective as Objective

__all__ = [
    "LOSSES",
    "Classification",
    "Episodes",
    "Family",
    "Inner",
    "Objective",
    "Pools",
    "Regression",
    "episode",
    "stacked",
]
