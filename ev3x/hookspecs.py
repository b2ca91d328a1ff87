"""The whole extension surface. A plugin is a module with some of these hooks, named in the entry-point group `ev3x`.

Hooks take and return plain records; they register nothing by themselves and are called once, before tracing.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable

import pluggy

from .component import Component
from .ffi import FfiTarget

GROUP = "ev3x"
API_VERSION = 1
hookspec = pluggy.HookspecMarker(GROUP)
hookimpl = pluggy.HookimplMarker(GROUP)


@dataclasses.dataclass(frozen=True)
class Offer:
    """A component class under the name that configs use: `plugin:name`."""

    name: str
    component: type[Component]


@hookspec
def ev3x_proposers() -> Iterable[Offer]:
    """Proposers: they make candidates."""
    raise NotImplementedError


@hookspec
def ev3x_assessors() -> Iterable[Offer]:
    """Assessors: they compare contenders, to select or to confirm."""
    raise NotImplementedError


@hookspec
def ev3x_adapters() -> Iterable[Offer]:
    """Adapters: they decide what becomes of the model."""
    raise NotImplementedError


@hookspec
def ev3x_budgets() -> Iterable[Offer]:
    """Budgets: they share out the error level over the rounds."""
    raise NotImplementedError


@hookspec
def ev3x_tasks() -> Iterable[Offer]:
    """Tasks: model, losses, metrics and data."""
    raise NotImplementedError


@hookspec
def ev3x_observers() -> Iterable[Offer]:
    """Observers: they watch a run from the host, between chunks of rounds."""
    raise NotImplementedError


@hookspec
def ev3x_ffi_targets(platform: str) -> Iterable[FfiTarget]:
    """Native targets for a platform ("cpu", "CUDA", "ROCM"), as data: the host registers them.

    Asked once per platform that is here, after its backend is up. Names begin with the distribution's, in lower case
    and with underscores: `ev3x_lexicase_...` for ev3x-lexicase. Targets of other platforms may come too; they wait.
    """
    raise NotImplementedError
