"""What this distribution offers to ev3x."""

from __future__ import annotations

from collections.abc import Iterable

import ev3x


@ev3x.hookimpl
def ev3x_proposers() -> Iterable[ev3x.Offer]:
    """Every strategy of the installed evosax, under the name of its module: `cma_es`, `open_es`, `simple_ga`."""
    from .registry import components

    return [ev3x.Offer(name, component) for name, component in components().items()]
