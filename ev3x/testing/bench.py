"""A component on the bench: what it does in a round as one function of arrays, traced and compiled once for all checks.

A case is one set of inputs; cases differ in keys and values, never in shapes.
"""

from __future__ import annotations

import abc
import contextlib
import dataclasses
import functools
import os
from collections.abc import Callable, Iterator
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np

from ..component import Component
from ..core import contract
from ..core.data import Splits
from ..core.layout import Site
from ..core.task import Task
from ..core.types import Array, PyTree
from ..host.side_effects import VARIABLES
from .trees import rebuilt
from .worlds import TinyTask, loaded

CASES = 3


class Bench:
    """What all roles share: the component, what the bench was given, and JAX's settings when it came."""

    role: ClassVar[str]

    def __init__(self, component: Component, **given: Any) -> None:
        self.component = component
        self.given = {"component": component, **given}
        self.before = Setting.now()
        self.kept = dict(vars(component))

    @property
    def who(self) -> contract.Who:
        """The component, as errors at a boundary name it."""
        kind = type(self.component)
        return contract.Who(kind.__name__, self.role, kind)


class RoundBench(Bench, abc.ABC):
    """What all roles share that run inside a round: cases, and the program that is run on them."""

    def __init__(self, component: Component, **given: Any) -> None:
        super().__init__(component, **given)
        self.traces = 0
        self.inputs = functools.cache(self.draw)
        self.jitted = jax.jit(self._counted, static_argnums=0)

    @abc.abstractmethod
    def run(self, component: Any, case: PyTree, fixed: PyTree) -> PyTree:
        """All that the component does in a round, as arrays: the program that is checked."""

    @abc.abstractmethod
    def draw(self, i: int) -> PyTree:
        """The arrays of case i; `inputs` keeps them."""

    @property
    def fixed(self) -> PyTree:
        """The arrays that all cases share."""
        return ()

    def states(self) -> Iterator[tuple[str, str, str, PyTree, PyTree]]:
        """What must keep its structure, shapes and dtypes, one after another, as shapes.

        Each is (what it is, the method that gives the next, the method that began it, before, after).
        """
        yield from ()

    def following(self) -> PyTree | None:
        """Case 0 with the state that the round before left; None when there is no state."""
        return None

    def sharded(self, axis: Any) -> tuple[PyTree, PyTree]:
        """Case 0 and the fixed arrays, divided over the devices of a mesh axis (a `Split`) as large data would be."""
        raise NotImplementedError

    def told(self, outcome: PyTree) -> PyTree:
        """The part of what comes out that others read."""
        return outcome

    @functools.cached_property
    def outcome(self) -> list[PyTree]:
        """What comes out of every case."""
        return [self.jitted(self.component, self.inputs(i), self.fixed) for i in range(CASES)]

    @functools.cached_property
    def eager(self) -> tuple[PyTree, bool]:
        """What comes out of case 0 op by op, and whether its containers still hold what they held."""
        case = rebuilt(self.inputs(0))
        leaves, structure = jax.tree.flatten(case)
        outcome = jax.tree.map(jnp.asarray, self.run(self.component, case, self.fixed))
        later: tuple[list[Any], Any] = jax.tree.flatten(case)
        same = later[1] == structure and all(x is y for x, y in zip(later[0], leaves, strict=True))
        return outcome, same

    def shape(self) -> PyTree:
        """The shapes of what comes out; traces anew."""
        return jax.eval_shape(lambda case, fixed: self.run(self.component, case, fixed), self.inputs(0), self.fixed)

    def _counted(self, component: Component, case: PyTree, fixed: PyTree) -> PyTree:
        self.traces += 1
        return self.run(component, case, fixed)


class StateBench(RoundBench):
    """Around a component with state: cases and what comes out of them have it under "state".

    `moves` is the method that gives the next state.
    """

    moves: ClassVar[str]

    def __init__(self, component: Component, task: Task | None = None, splits: Splits | None = None) -> None:
        super().__init__(component, task=task, splits=splits)
        self.task = TinyTask() if task is None else task
        self.splits = loaded(self.task) if splits is None else splits
        self.site = Site(self.task)

    def states(self) -> Iterator[tuple[str, str, str, PyTree, PyTree]]:
        """The state."""
        yield "state", self.moves, "init", self.inputs(0)["state"], self.shape()["state"]

    def following(self) -> PyTree:
        """The next round."""
        return {**self.inputs(1), "state": self.outcome[0]["state"]}


class Setting:
    """JAX's configuration and the environment variables that it reads."""

    def __init__(self, config: dict[str, Any], environment: dict[str, str]) -> None:
        self.config, self.environment = config, environment

    @classmethod
    def now(cls) -> Setting:
        """As it is at present."""
        names = [n for n in os.environ if n.startswith(VARIABLES)]
        return cls(dict(jax.config.values), {n: os.environ[n] for n in names})

    def changes(self, later: Setting) -> list[str]:
        """What is another in a later setting, `name: old -> new`."""
        found = []
        for old, new in ((self.config, later.config), (self.environment, later.environment)):
            names = sorted(n for n in old.keys() | new.keys() if old.get(n) != new.get(n))
            found += [f"{n}: {old.get(n)!r} -> {new.get(n)!r}" for n in names]
        return found

    def restore(self) -> None:
        """Put everything back."""
        now = Setting.now()
        for name, value in self.config.items():
            if now.config.get(name) != value:
                jax.config.update(name, value)
        for name in now.environment.keys() - self.environment.keys():
            del os.environ[name]
        os.environ.update(self.environment)


class Split:
    """Divides arrays over devices, along one axis where it is long enough and else not at all."""

    def __init__(self, devices: list[Any]) -> None:
        self.mesh = jax.sharding.Mesh(np.array(devices), ("devices",))

    def along(self, axis: int, tree: PyTree) -> PyTree:
        """The tree with this axis of every array divided."""
        return jax.tree.map(lambda x: self._put(x, axis), tree)

    def whole(self, tree: PyTree) -> PyTree:
        """The tree on all devices."""
        return jax.tree.map(lambda x: self._put(x, None), tree)

    def _put(self, x: Array, axis: int | None) -> Array:
        places: list[str | None] = [None] * x.ndim
        if axis is not None and x.ndim and x.shape[axis] and x.shape[axis] % self.mesh.size == 0:
            places[axis] = "devices"
        spec = jax.sharding.PartitionSpec(*places)
        put: Array = jax.device_put(x, jax.sharding.NamedSharding(self.mesh, spec))
        return put


def fault(look: Callable[[], object]) -> contract.BoundaryError | None:
    """What a look at a boundary finds wrong; None where all is right."""
    try:
        look()
    except contract.BoundaryError as error:
        return error
    return None


@contextlib.contextmanager
def because(earlier: contract.BoundaryError | None) -> Iterator[None]:
    """Where an earlier fault is known, it is told in place of what fails here: a run ends at the first one."""
    try:
        yield
    except Exception as error:
        if earlier is None:
            raise
        raise earlier from error


def keys(i: int, n: int) -> Array:
    """n keys of case i."""
    return jax.random.split(jax.random.fold_in(jax.random.key(20_231_018), i), n)


def rebuild(component: Any) -> Any:
    """An equal component made anew: from its own config where that gives it back, else from its fields."""
    try:
        anew = type(component).build(component.to_config())
    except Exception:
        anew = None
    return anew if anew == component else dataclasses.replace(component)
