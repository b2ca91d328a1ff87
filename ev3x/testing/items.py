"""Each check of each component as an item of pytest, and a sample of the components of a large family."""

from __future__ import annotations

import contextlib
import random
import unittest
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, TypeVar

from ..component import Component
from ..values import checked_seed, integer
from .checks import Trial
from .child import ChildError
from .components import NONE, ask_for, trial, tried
from .report import ConformanceError, Report

T = TypeVar("T")
Components = Mapping[str, Component | type[Component]] | Iterable[Component | type[Component]]


class Item:
    """One check of one component: `check()` runs it, after those that it builds on.

    It raises ConformanceError when the check fails, and SkipTest where it is excused. Where one that it builds on
    failed, it is skipped if that has been told by an item of its own, and fails otherwise. `peers` are the components
    that are tried beside this one: child processes are asked about all of them at once.
    """

    def __init__(self, of: Trial, name: str, peers: list[Trial]) -> None:
        self.trial = of
        self.name = name
        self.peers = peers

    def __call__(self) -> None:
        one = self.trial
        if one.checks[self.name].long and self.name not in one.excuse:
            self._ask()
        finding = one.finding(self.name)
        report = Report(one.bench.role, type(one.bench.component).__name__, tuple(one.findings.values()))
        one.told.add(self.name)
        if one.told == one.checks.keys():
            one.forget()
        if finding.status == "excused":
            raise unittest.SkipTest(finding.detail)
        if finding.status == "failed":
            raise ConformanceError(report, f"{report.role} {report.component}: {self.name}: {finding.detail}")
        if finding.status == "blocked":
            root = one.root(self.name)
            if root.name in one.told:
                raise unittest.SkipTest(f"not run before {root.name} is mended")
            text = f"{self.name} was not run, because {root.name} failed: {root.detail}"
            raise ConformanceError(report, f"{report.role} {report.component}: {text}")

    def _ask(self) -> None:
        """Ask children once for all peers; what they cannot be asked, the check itself will tell."""
        peers, self.peers[:] = [*self.peers], []
        with contextlib.suppress(ChildError, ValueError):
            ask_for(peers)


def items(components: Components, *, excuse: Mapping[str, str] = NONE, **given: Any) -> Iterator[tuple[str, Item]]:
    """Every check of every component, by `component-check`; a class stands for the component that its `kit` says."""
    named = components if isinstance(components, Mapping) else _named(components)
    peers: list[Trial] = []
    for name, component in named.items():
        one = trial(tried(component), excuse=excuse, **given)
        if (left := len(one.checks) - len(one.excuse)) < one.least:
            raise ValueError(
                f"{name}: at least {one.least} of {len(one.checks)} checks must run, got {left}: excuse fewer"
            )
        peers.append(one)
        yield from ((f"{name}-{check}", Item(one, check, peers)) for check in one.checks)


def each_check(components: Components, *, excuse: Mapping[str, str] = NONE, **given: Any) -> Any:
    """The decorator that makes one item of pytest of each check of each component; the test calls its argument.

        @each_check([RandomSteps, MyAssessor(block=64)])
        def test_contract(check):
            check()

    A class is built with the options of its `kit`; a mapping gives the components other names than their classes have.
    What is `long` is marked so: `pytest -m "not long"` is the quick tier. `given` are the arguments of the functions of
    the roles: `task` and `splits`, or `metrics`.
    """
    import pytest

    made = items(components, excuse=excuse, **given)
    return pytest.mark.parametrize("check", [param(name, item) for name, item in made])


def param(name: str, item: Item) -> Any:
    """The parameter of pytest for an item, marked where it is long."""
    import pytest

    long = item.trial.checks[item.name].long
    return pytest.param(item, id=name, marks=[pytest.mark.long] if long else [])


def sample(components: Mapping[str, T], n: int, seed: int) -> dict[str, T]:
    """n of these components, drawn by a seed that stands in the test: the same ones in every process and session."""
    if not 0 < integer("n", n) <= len(components):
        raise ValueError(f"n must be at least 1 and at most {len(components)}, the number of components, got {n}")
    return {name: components[name] for name in sorted(random.Random(checked_seed(seed)).sample(sorted(components), n))}


def _named(components: Iterable[Component | type[Component]]) -> dict[str, Component | type[Component]]:
    """The components by the names of their classes, numbered where these come again."""
    named: dict[str, Component | type[Component]] = {}
    for component in components:
        name = (component if isinstance(component, type) else type(component)).__name__
        again = sum(n.partition(" ")[0] == name for n in named)
        named[f"{name} {again + 1}" if again else name] = component
    return named
