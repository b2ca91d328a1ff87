"""What this distribution offers to ev3x."""

from __future__ import annotations

from collections.abc import Iterable

import ev3x


@ev3x.hookimpl
def ev3x_proposers() -> Iterable[ev3x.Offer]:
    """Training that learns hyperparameters on the way: by EvoGrad, or by exact one-step differentiation."""
    from .proposers import EvoGrad, OneStep

    return [ev3x.Offer("evograd", EvoGrad), ev3x.Offer("one_step", OneStep)]


@ev3x.hookimpl
def ev3x_tasks() -> Iterable[ev3x.Offer]:
    """Digits to learn a rotation on, and digits with wrong labels."""
    from .tasks import NoisyDigits, RotatedDigits

    return [ev3x.Offer("rotated-digits", RotatedDigits), ev3x.Offer("noisy-digits", NoisyDigits)]
