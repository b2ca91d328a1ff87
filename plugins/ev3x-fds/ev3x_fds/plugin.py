"""What this distribution offers to ev3x."""

from __future__ import annotations

from collections.abc import Iterable

import ev3x


@ev3x.hookimpl
def ev3x_proposers() -> Iterable[ev3x.Offer]:
    """Whole training runs, with schedules that are learned by hypergradients or drawn at random."""
    from .proposers import FDS, RandomSchedules

    return [ev3x.Offer("fds", FDS), ev3x.Offer("random", RandomSchedules)]


@ev3x.hookimpl
def ev3x_tasks() -> Iterable[ev3x.Offer]:
    """Digits to learn schedules on."""
    from .tasks import Digits

    return [ev3x.Offer("digits", Digits)]
