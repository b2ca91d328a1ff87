"""What this distribution offers to ev3x."""

from __future__ import annotations

from collections.abc import Iterable

import ev3x


@ev3x.hookimpl
def ev3x_proposers() -> Iterable[ev3x.Offer]:
    """Populations of hyperparameters, whose trials train over several rounds."""
    from .proposer import Dehb

    return [ev3x.Offer("dehb", Dehb)]
