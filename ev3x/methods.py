"""Whole methods, ready to use or to take apart."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from .builtin.adapters.promote import Promote
from .builtin.assessors.betting import Betting
from .builtin.assessors.mean_bounds import MeanBounds
from .builtin.budgets.over_run import OverRun
from .builtin.proposers.trajectories import Trajectories
from .component import unknown
from .core.plan import Method
from .training.losses import Loss
from .training.optimizers import Optimizer
from .values import integer, short


def ev3(
    losses: Sequence[Loss | str],
    optimizers: Sequence[Optimizer],
    *,
    length: int = 100,
    level: float = 0.05,
    examples: int = 32_768,
    **options: Any,
) -> Method:
    """EV3 with the defaults of `ev3x run`: trajectories, ranking by the mean, confirmation by betting, promotion.

    `level` is the chance of any false promotion in the run, `examples` is the most that a confirmation reads; further
    options are those of `Trajectories`. The first metric must declare its range; without one, confirm with `paired`.
    """
    known = ("losses", "optimizers", "length", "level", "examples")
    more = [option.name for option in Trajectories.options() if option.name not in known]
    for name in options:
        if name not in more:
            raise TypeError(
                f"ev3: {unknown('option', name, [*known, *more])}; it takes {', '.join(known)}, and of Trajectories "
                f"{', '.join(more)}; to choose another assessor, adapter or budget, build ev3x.Method(...)"
            )
    for name, value in (("losses", losses), ("optimizers", optimizers)):
        if not isinstance(value, list | tuple):
            raise TypeError(f"ev3: {name} must be a list, got {short(value)}")
    values = tuple(Loss(loss) if isinstance(loss, str) else loss for loss in losses)
    trajectories = Trajectories(losses=values, optimizers=tuple(optimizers), length=length, **options)
    block = min(integer("ev3: examples", examples), Betting.block)
    return Method(
        proposers=[trajectories],
        select=MeanBounds(),
        confirm=Betting(block=block, blocks=-(-examples // block), level=level),
        adapters=[Promote()],
        budget=OverRun(),
    )
