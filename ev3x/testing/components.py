"""The checks of each role, and the functions that run them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Any

from ..component import Component
from ..core.adapt import Adapter
from ..core.assess import Assessor
from ..core.budget import Budget
from ..core.data import Splits
from ..core.observe import Observer
from ..core.propose import Proposer
from ..core.task import Metric, Task
from . import adapters, assessors, budgets, child, observers, proposers, tasks
from .checks import Check, run
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
NONE: Mapping[str, str] = MappingProxyType({})


def check_proposer(
    component: Proposer, *, task: Task | None = None, splits: Splits | None = None, excuse: Mapping[str, str] = NONE
) -> Report:
    """The report on a proposer; ConformanceError lists every check that failed.

    `task` stands for the kit's tiny one, whose losses are "logistic" and "hinge" with the hyperparameter "temperature";
    `splits` for those that the task loads. `excuse` maps names of checks that are left out to the reason.
    """
    return _checked("proposer", component, Proposer, excuse, task=task, splits=splits)


def check_assessor(
    component: Assessor, *, metrics: tuple[Metric, ...] | None = None, excuse: Mapping[str, str] = NONE
) -> Report:
    """The report on an assessor; ConformanceError lists every check that failed.

    `metrics` stand for the kit's accuracy (binary) and likelihood; only names, ranges and kinds matter: scores are
    drawn.
    """
    return _checked("assessor", component, Assessor, excuse, metrics=metrics)


def check_adapter(
    component: Adapter, *, task: Task | None = None, splits: Splits | None = None, excuse: Mapping[str, str] = NONE
) -> Report:
    """The report on an adapter; ConformanceError lists every check that failed.

    `task` stands for the kit's tiny one, which can grow; all its metrics have weights.
    """
    return _checked("adapter", component, Adapter, excuse, task=task, splits=splits)


def check_budget(component: Budget, *, excuse: Mapping[str, str] = NONE) -> Report:
    """The report on a budget; ConformanceError lists every check that failed."""
    return _checked("budget", component, Budget, excuse)


def check_task(component: Task, *, splits: Splits | None = None, excuse: Mapping[str, str] = NONE) -> Report:
    """The report on a task; ConformanceError lists every check that failed.

    `splits` stand for those that it loads; a task that brings no data needs them.
    """
    return _checked("task", component, Task, excuse, splits=splits)


def check_observer(component: Observer, *, excuse: Mapping[str, str] = NONE) -> Report:
    """The report on an observer; ConformanceError lists every check that failed."""
    return _checked("observer", component, Observer, excuse)


def check_component(component: Component, *, excuse: Mapping[str, str] = NONE, **given: Any) -> Report:
    """The report on a component of any role; `given` are the arguments of the function for its role."""
    each = (check_proposer, check_assessor, check_adapter, check_budget, check_task, check_observer)
    functions: Mapping[str, Any] = dict(zip(CHECKS, each, strict=True))
    role = str(getattr(component, "role", None))
    if role not in functions:
        raise TypeError(f"component must be of one of the roles {', '.join(functions)}, got {component!r}")
    report: Report = functions[role](component, excuse=excuse, **given)
    return report


def ask_ahead(components: Iterable[Component], *, devices: bool = True) -> None:
    """Ask child processes about all these components at once, two processes instead of two for each.

    The checks that follow find their answers. `devices=False` leaves out the rounds on two devices.
    """
    components = list(components)
    child.ask(*{child.Import(type(c).__module__): None for c in components})
    if devices:
        placed = [c for c in components if any(check.name == "sharded" for check in CHECKS[c.role])]
        child.ask(*(child.OnDevices.of(c.role, BENCHES[c.role](c).given) for c in placed))


def _checked(role: str, component: Any, kind: type, excuse: Mapping[str, str], **given: Any) -> Report:
    if not isinstance(component, kind):
        hint = ": have you forgotten the ()?" if isinstance(component, type) else ""
        raise TypeError(f"check_{role}: expected an instance of {kind.__name__}, got {component!r}{hint}")
    return run(BENCHES[role](component, **given), CHECKS[role], MINIMUM[role], excuse)
