"""The whole extension surface. A plugin is a module, or an instance of a `Plugin`, with some of these hooks.

Hooks return plain records and register nothing by themselves. The host may call a hook more than once.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable

import pluggy

from ..component import Component
from ..ffi import FfiTarget
from .discovery import GROUP

hookspec = pluggy.HookspecMarker(GROUP)
hookimpl = pluggy.HookimplMarker(GROUP)


@dataclasses.dataclass(frozen=True)
class Offer:
    """A component class under the name that configs use: `plugin:name`.

    Never change what a published name does; offer `name@2` instead, beside the first for as long as configs with the
    first name should run.
    """

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

    The host calls this once for each platform of this process, after its backend has started. A target's name begins
    with the distribution's name, in lower case and with underscores: `ev3x_lexicase_...` for ev3x-lexicase. A hook may
    also return targets of other platforms; they are not used before their platform is asked for.
    """
    raise NotImplementedError


class Plugin:
    """A plugin as an object, which type checkers can check: this base declares all hooks and what they return.

        class Mine(ev3x.Plugin):
            @ev3x.hookimpl
            @override
            def ev3x_proposers(self) -> list[ev3x.Offer]:
                return [ev3x.Offer("steps", RandomSteps)]

        plugin = Mine()

    Its entry point is then `module:plugin`. Hooks that are not overridden offer nothing.
    """

    def ev3x_proposers(self) -> Iterable[Offer]:
        """Proposers: they make candidates."""
        return ()

    def ev3x_assessors(self) -> Iterable[Offer]:
        """Assessors: they compare contenders, to select or to confirm."""
        return ()

    def ev3x_adapters(self) -> Iterable[Offer]:
        """Adapters: they decide what becomes of the model."""
        return ()

    def ev3x_budgets(self) -> Iterable[Offer]:
        """Budgets: they share out the error level over the rounds."""
        return ()

    def ev3x_tasks(self) -> Iterable[Offer]:
        """Tasks: model, losses, metrics and data."""
        return ()

    def ev3x_observers(self) -> Iterable[Offer]:
        """Observers: they watch a run from the host, between chunks of rounds."""
        return ()

    def ev3x_ffi_targets(self, platform: str) -> Iterable[FfiTarget]:
        """Native targets for a platform, as data: the host registers them."""
        return ()
