"""The checks of each role, and the functions that run them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Any

import jax

from ..component import Component, Kit, OptionError, unknown
from ..core.adapt import Adapter
from ..core.assess import Assessor
from ..core.budget import Budget
from ..core.data import Splits
from ..core.observe import Observer
from ..core.propose import Proposer
from ..core.task import Metric, Task
from . import adapters, assessors, budgets, child, observers, proposers, tasks
from .checks import Check, Trial
from .common import importable
from .report import Report

# Of each role: bench, checks, and how many of these must run, whatever is excused: an empty suite proves nothing.
_ROLES: tuple[tuple[Any, tuple[Check, ...], int], ...] = (
    (proposers.ProposerBench, proposers.CHECKS, 18),
    (assessors.AssessorBench, assessors.CHECKS, 26),
    (adapters.AdapterBench, adapters.CHECKS, 18),
    (budgets.BudgetBench, budgets.CHECKS, 16),
    (tasks.TaskBench, tasks.CHECKS, 20),
    (observers.ObserverBench, observers.CHECKS, 8),
)
BENCHES: Mapping[str, Any] = {bench.role: bench for bench, _, _ in _ROLES}
CHECKS: Mapping[str, tuple[Check, ...]] = {bench.role: checks for bench, checks, _ in _ROLES}
MINIMUM: Mapping[str, int] = {bench.role: least for bench, _, least in _ROLES}
# What a bench takes besides the component.
GIVEN: Mapping[str, tuple[str, ...]] = {
    "proposer": ("task", "splits"),
    "adapter": ("task", "splits"),
    "assessor": ("metrics",),
    "task": ("splits",),
}
NONE: Mapping[str, str] = MappingProxyType({})


def check_proposer(
    component: Proposer,
    *,
    task: Task | None = None,
    splits: Splits | None = None,
    excuse: Mapping[str, str] = NONE,
    quick: bool = False,
) -> Report:
    """The report on a proposer; ConformanceError lists every check that failed.

    `task` stands for the kit's tiny one, whose losses are "logistic" and "hinge" with the hyperparameter "temperature";
    `splits` for those that the task loads. `excuse` maps names of checks that are left out to the reason, besides those
    that the class excuses by its `kit`. `quick` leaves out what is long: child processes and simulations.
    """
    return _checked("proposer", component, Proposer, excuse, quick, task=task, splits=splits)


def check_assessor(
    component: Assessor,
    *,
    metrics: tuple[Metric, ...] | None = None,
    excuse: Mapping[str, str] = NONE,
    quick: bool = False,
) -> Report:
    """The report on an assessor; ConformanceError lists every check that failed.

    `metrics` stand for the kit's accuracy (binary) and likelihood; only names, ranges and kinds matter: scores are
    drawn.
    """
    return _checked("assessor", component, Assessor, excuse, quick, metrics=metrics)


def check_adapter(
    component: Adapter,
    *,
    task: Task | None = None,
    splits: Splits | None = None,
    excuse: Mapping[str, str] = NONE,
    quick: bool = False,
) -> Report:
    """The report on an adapter; ConformanceError lists every check that failed.

    `task` stands for the kit's tiny one, which can grow; all its metrics have weights.
    """
    return _checked("adapter", component, Adapter, excuse, quick, task=task, splits=splits)


def check_budget(component: Budget, *, excuse: Mapping[str, str] = NONE, quick: bool = False) -> Report:
    """The report on a budget; ConformanceError lists every check that failed."""
    return _checked("budget", component, Budget, excuse, quick)


def check_task(
    component: Task, *, splits: Splits | None = None, excuse: Mapping[str, str] = NONE, quick: bool = False
) -> Report:
    """The report on a task; ConformanceError lists every check that failed.

    `splits` stand for those that it loads; a task that brings no data needs them.
    """
    return _checked("task", component, Task, excuse, quick, splits=splits)


def check_observer(component: Observer, *, excuse: Mapping[str, str] = NONE, quick: bool = False) -> Report:
    """The report on an observer; ConformanceError lists every check that failed."""
    return _checked("observer", component, Observer, excuse, quick)


def check_component(
    component: Component, *, excuse: Mapping[str, str] = NONE, quick: bool = False, **given: Any
) -> Report:
    """The report on a component of any role; `given` are the arguments of the function for its role."""
    each = (check_proposer, check_assessor, check_adapter, check_budget, check_task, check_observer)
    functions: Mapping[str, Any] = dict(zip(CHECKS, each, strict=True))
    report: Report = functions[_role(component)](component, excuse=excuse, quick=quick, **given)
    return report


def trial(component: Any, *, excuse: Mapping[str, str] = NONE, **given: Any) -> Trial:
    """The checks of a component, to be run one by one; excuses and what else is given add to what its class says."""
    role, kit = _role(component), type(component).kit
    if not isinstance(kit, Kit):
        raise TypeError(f"{type(component).__name__}.kit must be an ev3x.Kit(...), got {kit!r}")

    def make() -> Any:
        whole = {**kit.given(), **{name: x for name, x in given.items() if x is not None}}
        for name in whole:
            if name not in GIVEN.get(role, ()):
                raise TypeError(
                    f"{type(component).__name__}: {unknown('argument of the kit', name, GIVEN.get(role, ()))}"
                )
        return BENCHES[role](component, **whole)

    return Trial(make, CHECKS[role], MINIMUM[role], {**kit.excuse, **excuse})


def tried(component: Component | type[Component]) -> Component:
    """The component that is tried: of a class, the one that its `kit` says; ValueError where it cannot be built."""
    if not isinstance(component, type):
        return component
    try:
        return component.build(component.kit.options)
    except OptionError as error:
        raise ValueError(f"the kit needs options: {error}; {untried(component)}") from error


def untried(kind: type[Component]) -> str:
    """What to do where a class cannot be built as its `kit` says; "" where it says all that is required."""
    missing = [option.name for option in kind.options() if option.required and option.name not in kind.kit.options]
    said = ", ".join(f'"{name}": ...' for name in missing)
    return f"let the class say kit = ev3x.Kit(options={{{said}}})" if missing else ""


def ask_ahead(components: Iterable[Component], *, devices: bool = True) -> None:
    """Ask child processes about all these components at once, two processes instead of two for each.

    The checks that follow find their answers. `devices=False` leaves out the rounds on two devices.
    """
    ask_for([trial(component) for component in components], devices=devices)


def ask_for(trials: Iterable[Trial], *, devices: bool = True) -> None:
    """The same for components that are on the bench already; what a check excuses is not asked."""
    imports: dict[child.Request, None] = {}
    rounds: dict[child.Request, None] = {}
    devices = devices and jax.device_count() < child.DEVICES
    for one in trials:
        if importable(one.bench.component):
            imports[child.Import(type(one.bench.component).__module__)] = None
        if devices and "sharded" in one.checks and "sharded" not in one.excuse:
            rounds[child.OnDevices.of(one.bench.role, one.bench.given)] = None
    child.ask(*imports)
    child.ask(*rounds)


def _checked(role: str, component: Any, kind: type, excuse: Mapping[str, str], quick: bool, **given: Any) -> Report:
    if not isinstance(component, kind):
        hint = ": have you forgotten the ()?" if isinstance(component, type) else ""
        raise TypeError(f"check_{role}: expected an instance of {kind.__name__}, got {component!r}{hint}")
    report = trial(component, excuse=excuse, **given).report(quick=quick)
    print(report, flush=True)
    return report


def _role(component: object) -> str:
    role = str(getattr(component, "role", None))
    if role not in CHECKS:
        raise TypeError(f"component must be of one of the roles {', '.join(CHECKS)}, got {component!r}")
    return role
