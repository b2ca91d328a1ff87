"""What proposers that train are made of: gradient steps, losses, optimizers, ranges of hyperparameters.

- `train(task, loss, optimizer, variables, opt_state, explore, drawn, key, steps=...)`: a trajectory of gradient steps
  on drawn batches, and whether all losses were finite; `gradient_step` is one of them, `loss_value` their objective.
  `optimizer` is what `Optimizer.build()` returns: an optax transformation, whose state is `optimizer.init(params)`.
- `follow(decision, moved, promoted)`: which optimizer state goes on with the current variables, and which with the
  incumbent, whatever became of the round. For `learn`.
- `carried(old, first)`: the optimizer state of a model that grew. For `resize`.
- `check_loss(task, loss)`, `numbers(task)`: what is wrong with a loss for a task, and its hyperparameters that are
  numbers. For `init`, where an error still has a name.
- `step_keys(key)`: keys of the steps of a trajectory, other ones than `explore.draw(key, ...)` uses.
- `where(condition, a, b)`: one of two pytrees.
- `episodes`: families of tasks, whose examples are episodes, and the losses that learn to adapt.

docs/hooks/proposers.md has a proposer that is made of these.
"""

from __future__ import annotations

import warnings
from typing import Any

from ..core.layout import where as where
from . import episodes as episodes
from .steps import carried as carried
from .steps import check_loss as check_loss
from .steps import follow as follow
from .steps import gradient_step as gradient_step
from .steps import loss_value as loss_value
from .steps import numbers as numbers
from .steps import step_keys as step_keys
from .steps import train as train

# With this, help() describes them: they lie in modules of their own.
__all__ = [
    "carried",
    "check_loss",
    "follow",
    "gradient_step",
    "loss_value",
    "numbers",
    "step_keys",
    "train",
    "where",
]


def __getattr__(name: str) -> Any:
    if name == "select":
        warnings.warn("ev3x.training.select is called ev3x.training.where now", DeprecationWarning, stacklevel=2)
        return where
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
