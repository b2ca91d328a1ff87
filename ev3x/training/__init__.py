"""What proposers that train are made of: gradient steps, losses, optimizers, ranges of hyperparameters."""

from __future__ import annotations

import warnings
from typing import Any

from ..core.layout import where as where
from .steps import carried as carried
from .steps import check_loss as check_loss
from .steps import follow as follow
from .steps import gradient_step as gradient_step
from .steps import loss_value as loss_value
from .steps import numbers as numbers
from .steps import step_keys as step_keys
from .steps import train as train


def __getattr__(name: str) -> Any:
    if name == "select":
        warnings.warn("ev3x.training.select is called ev3x.training.where now", DeprecationWarning, stacklevel=2)
        return where
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
