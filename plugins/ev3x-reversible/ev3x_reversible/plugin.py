"""What this distribution offers to ev3x."""

from __future__ import annotations

from collections.abc import Iterable

import ev3x


@ev3x.hookimpl
def ev3x_proposers() -> Iterable[ev3x.Offer]:
    """Whole training runs, whose schedules are learned by running them backwards."""
    from .proposers import Reversible

    return [ev3x.Offer("run", Reversible)]
