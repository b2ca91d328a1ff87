"""Whole methods, ready to use or to take apart."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from .builtin.adapters.promote import Promote
from .builtin.assessors.mean_bounds import MeanBounds
from .builtin.assessors.paired import Paired
from .builtin.budgets.over_run import OverRun
from .builtin.proposers.trajectories import Trajectories
from .loop import Method
from .rules import Loss, Optimizer


def ev3(
    losses: Sequence[Loss | str],
    optimizers: Sequence[Optimizer],
    *,
    length: int = 100,
    level: float = 0.05,
    examples: int = 8192,
    **options: Any,
) -> Method:
    """EV3 with the defaults of `ev3x run`: trajectories, ranking by the mean, a paired confirmation, promotion.

    `level` is the chance of any false promotion in the run, `examples` how many a confirmation reads; further options
    are those of `Trajectories`.
    """
    values = tuple(Loss(loss) if isinstance(loss, str) else loss for loss in losses)
    trajectories = Trajectories(losses=values, optimizers=tuple(optimizers), length=length, **options)
    block = min(examples, 2048)
    return Method(
        proposers=[trajectories],
        select=MeanBounds(),
        confirm=Paired(block=block, blocks=-(-examples // block), level=level),
        adapters=[Promote()],
        budget=OverRun(),
    )
