"""What a round is made of and compiled for: the method, and the plan that adds the task and the layout."""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import jax.numpy as jnp

from ..ops import native
from . import contract
from .adapt import Adapter, misplaced, rivals
from .assess import Assessor
from .budget import Budget
from .data import Decide, Splits
from .layout import Layout, Site
from .objectives import Amounts, aims
from .propose import Proposer, check_needs
from .task import Task, check_names
from .types import Array

STAGES = ("task", "select", "confirm", "budget")


@dataclasses.dataclass(frozen=True, init=False)
class Method:
    """How a run explores, assesses and adapts: components with a label each, frozen and hashable by value."""

    proposers: tuple[tuple[str, Proposer], ...]
    select: Assessor
    confirm: Assessor
    adapters: tuple[tuple[str, Adapter], ...]
    budget: Budget
    weights: Amounts | None

    def __init__(
        self,
        proposers: Sequence[Proposer | tuple[str, Proposer]],
        select: Assessor,
        confirm: Assessor,
        adapters: Sequence[Adapter | tuple[str, Adapter]],
        budget: Budget,
        weights: Mapping[str, float] | Amounts | None = None,
    ) -> None:
        """Takes components, or pairs (label, component); the default label is the class name in lower case.
        Labels are names of states and keys: each comes once in its role, none is that of a stage, none holds a slash.

        `weights` gives the weight of metrics in selection, by name; other metrics have weight 0. None: the first has 1.
        Warns of what can be made, and hardly can be meant.
        """
        for role, component, kind in (
            ("select", select, Assessor),
            ("confirm", confirm, Assessor),
            ("budget", budget, Budget),
        ):
            contract.instance(f"method: `{role}`", component, kind)
            object.__setattr__(self, role, component)
        object.__setattr__(self, "proposers", _labelled("proposers", proposers, Proposer))
        object.__setattr__(self, "adapters", _labelled("adapters", adapters, Adapter))
        if not self.proposers:
            raise ValueError("method: at least one proposer is needed, got none")
        if fault := misplaced(self.adapters):
            raise ValueError(f"method: adapters: {fault[1]}")
        try:
            object.__setattr__(self, "weights", None if weights is None else Amounts.parse(weights))
        except ValueError as error:
            raise ValueError(f"method: weights: {error}") from error
        for doubt in self._doubts():
            warnings.warn(f"method: {doubt}", stacklevel=2)

    def _doubts(self) -> list[str]:
        """What hardly can be meant, in sentences."""
        found = []
        if names := rivals(self.adapters):
            found.append(
                f"adapters: {' and '.join(map(repr, names))} promote, each by itself: what any of them promotes is "
                f"promoted, and {names[-1]!r} has the last word on the move; leave one"
            )
        if self.confirm.ranks_only:
            found.append(
                f"confirm: {type(self.confirm).__name__} only ranks, and calls nobody better than the incumbent, so "
                "nothing can be promoted on its word; confirm by an assessor that tests, such as `betting` or `paired`"
            )
        return found


@dataclasses.dataclass(frozen=True)
class Plan:
    """All that a round is compiled for: what its programs belong to (`programs`).

    `champion` is the task of the incumbent. It is set while promoting needs Python code: because the model's shape
    changed, or because the current variables were drawn anew. `native` says whether native code is used, see
    `native.using`.
    """

    task: Task
    method: Method
    layout: Layout = Layout()
    champion: Task | None = None
    native: native.Mode = "auto"

    def __post_init__(self) -> None:
        for name, kind in (("task", Task), ("method", Method), ("layout", Layout)):
            contract.instance(f"`{name}`", value := getattr(self, name), kind)
            try:
                hash(value)
            except TypeError as error:
                raise TypeError(
                    f"`{name}` must have a hash, as what programs belong to, got {type(value).__name__}: {error}; "
                    "make it a frozen dataclass, with tuples instead of lists"
                ) from error

    @property
    def site(self) -> Site:
        """The site that components are called with: the current variables' task, and the layout."""
        return Site(self.task, self.layout)

    @property
    def incumbent_site(self) -> Site:
        """The site of the incumbent, whose task may be another one (`champion`)."""
        return Site(self.champion or self.task, self.layout)

    @property
    def level(self) -> Array:
        """The error level that the user set for the confirmation, f32[]."""
        return jnp.float32(self.method.confirm.promise)

    def labels(self) -> tuple[str, ...]:
        """The name of every candidate, `proposer/label`, in the order of the records."""
        return tuple(f"{name}/{label}" for name, p in self.method.proposers for label in self.candidates(name, p))

    def candidates(self, name: str, proposer: Proposer) -> tuple[str, ...]:
        """The name of every candidate of one proposer, which has this label."""
        return contract.names(contract.Who(name, "proposer", type(proposer)), proposer.labels(self.site))

    def check(self, splits: Splits, *, disjoint: bool = True, rounds: int = 0) -> Plan:
        """This plan, or an error that says what does not fit together (`disjoint`: see `Splits.check`).

        `rounds` is the number of rounds that the decide split must have examples for; 0: any number.
        """
        splits.check(disjoint=disjoint)
        check_names(self.task)
        metrics = self.task.metrics
        for name, proposer in self.method.proposers:
            if not self.candidates(name, proposer):
                who = contract.Who(name, "proposer", type(proposer))
                do = "let `labels` name at least one"
                raise contract.BoundaryError(who, "labels", "makes no candidates (K = 0)", do)
            check_needs(name, proposer, self.task, splits.explore)
        first = aims(self.method.weights, metrics, self.method.select)
        for _, adapter in self.method.adapters:
            adapter.accept(metrics, first)
        self.method.select.accept(metrics)
        self.method.confirm.accept(metrics)
        self.method.budget.accept(self.method.confirm)
        for stage, split, assessor in (
            ("select", splits.assess, self.method.select),
            ("confirm", splits.decide, self.method.confirm),
        ):
            there, feeds = split.source.blocks(assessor.block), 1  # no example may count twice in a round
            if isinstance(split, Decide) and not split.reuse:
                feeds = rounds
            if there is not None and there < assessor.blocks * feeds:
                name, wanted = type(split).__name__.lower(), assessor.block * assessor.blocks * feeds
                reads = "one round reads" if feeds == 1 else f"{feeds} rounds read"
                raise ValueError(
                    f"the {name} split has {split.source.blocks(1)} examples but {reads} up to {wanted}; "
                    f"give it more, or lower {stage}.block or {stage}.blocks (in Python: `block` or `blocks` of "
                    f"{type(assessor).__name__}(...){', or `examples` of methods.ev3' * (stage == 'confirm')})"
                )
        return self


def _labelled(role: str, components: Any, kind: type) -> tuple[tuple[str, Any], ...]:
    if not isinstance(components, Sequence):
        raise TypeError(f"method: {role} must be a list, got {components!r}")
    pairs = tuple(
        c if isinstance(c, tuple) else ((c if isinstance(c, type) else type(c)).__name__.lower(), c) for c in components
    )
    if odd := [pair for pair in pairs if len(pair) != 2]:
        raise ValueError(f"method: {role} must be components or pairs (label, component), got {odd[0]!r}")
    names = [name for name, _ in pairs]
    for name in names:
        if not isinstance(name, str) or not name or "/" in name or name in STAGES:
            raise ValueError(
                f"method: a label of {role} must be a string without '/' and none of {', '.join(STAGES)}, whose states "
                f"and keys have these names; got {name!r}"
            )
    if twice := sorted({name for name in names if names.count(name) > 1}):
        kinds = "; ".join(f"{n!r} for {', '.join(type(c).__qualname__ for m, c in pairs if m == n)}" for n in twice)
        raise ValueError(f"method: {role} need different labels, got {names} ({kinds}); give pairs (label, component)")
    for name, component in pairs:
        contract.instance(f"method: {role} {name!r}", component, kind)
    return pairs
