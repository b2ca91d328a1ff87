"""DEHB from Python: `minimize` for objectives in JAX, `Search` for any other black box."""

from __future__ import annotations

import dataclasses
import functools
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import jax
import jax.numpy as jnp
import numpy as np

from .dehb import DEHB, NONE, State, Trials, ask, init, level_of, step_key, tell, warm
from .space import Config, Space

Array = jax.Array
Objective = Callable[[dict[str, Array], float, Array], Array]


@dataclasses.dataclass(frozen=True)
class Found:
    """What a search found.

    Attributes:
        config: the incumbent: the best configuration of all evaluated at full fidelity.
        value: its value there.
        evaluations: i64[R], how many evaluations had been told after each rung.
        values: f32[R], the incumbent's value after each rung; inf before the first at full fidelity.
        state: the state after the last rung, from which `minimize` goes on.
    """

    config: Config
    value: float
    evaluations: np.ndarray[Any, Any]
    values: np.ndarray[Any, Any]
    state: State


def minimize(objective: Objective, dehb: DEHB, key: Array, evaluations: int, *, state: State | None = None) -> Found:
    """The best of so many evaluations of an objective that JAX can trace; rungs that do not fit whole are not begun.

    `objective(values, fidelity, key)` returns a number f32[], less is better: `values` are those of `Space.values`,
    `fidelity` is a number of Python, `key` one of its own for each evaluation. It is compiled once for each rung shape,
    (trials, fidelity). With `state`, that of an earlier `Found`, the search goes on; `evaluations` count from there.
    """
    state = _init(dehb, key) if state is None else state
    step, left = int(state.step), evaluations
    counts, values = [], []
    first = int(state.evaluations)
    while (rung := dehb.rung(step)).n <= left:
        state = _evaluate(objective, dehb, rung.n, rung.level, state)
        step, left = step + 1, left - rung.n
        counts.append(first + evaluations - left)
        values.append(state.best_value)
    if counts and not int(state.finite):
        raise ValueError(f"objective: none of {counts[-1]} values was finite, so nothing can be ranked")
    if float(state.best_value) >= NONE:
        text = "no finite value at full fidelity yet; the first comes with the last rung of the first bracket"
        raise ValueError(f"evaluations = {evaluations}: {text}, after {sum(dehb.brackets[0].counts)}")
    trace = np.array(values, np.float32)
    config = _config(dehb, state.best)
    trace = np.where(trace < NONE, trace, np.inf)
    return Found(config, float(state.best_value), np.array(counts), trace, state)


@dataclasses.dataclass(frozen=True)
class Asked:
    """Configurations to evaluate at one fidelity: a rung, or what was evaluated elsewhere (`Asked(configs, fidelity)`).

    `tell` takes it back with a value for each configuration, in this order.
    """

    configs: Sequence[Mapping[str, Any]]
    fidelity: float
    step: int = -1  # of the schedule, where it was asked for
    trials: Trials | None = None


class Search:
    """DEHB for any black box: `ask` gives a rung, `tell` takes its values; the objective may be plain Python.

    `ask` without `tell` gives the same rung again. `save` and `load` keep all there is: a search that is loaded goes on
    to the same bits, from the rung that was not told.
    """

    def __init__(self, dehb: DEHB, seed: int = 0) -> None:
        self.dehb = dehb
        self.state = _init(dehb, jax.random.key(seed))
        self._step = 0
        self._finite = False

    def ask(self) -> Asked:
        """The next rung."""
        rung = self.dehb.rung(self._step)
        trials, meant = _ask(self.dehb, rung.n, self.state)
        configs = _configs(self.dehb.space, meant)
        return Asked(configs, self.dehb.fidelities[rung.level], self._step, trials)

    def tell(self, asked: Asked, values: Sequence[float]) -> None:
        """Learn the values of what was asked for, or, a warm start, of configurations evaluated elsewhere.

        A value that is not finite is that of a trial that failed; it never wins.
        """
        told = np.asarray(values, np.float32)
        if told.shape != (len(asked.configs),):
            raise ValueError(f"values must be {len(asked.configs)} numbers, one for each trial, got {told.shape}")
        if not self._finite and not np.isfinite(told).any():
            raise ValueError(f"values: all {told.size} are NaN or infinite, and no finite one was told before")
        if asked.trials is None:
            points = [self.dehb.space.point(config) for config in asked.configs]
            level = level_of(self.dehb, asked.fidelity)
            self.state = _warm(self.dehb, level, self.state, np.array(points, np.float32), told)
        else:
            if asked.step != self._step:
                raise ValueError("asked: these trials are of another rung; tell what the last `ask` gave, once")
            self.state = _tell(self.dehb, self.state, asked.trials, told)
            self._step += 1
        self._finite = True

    @property
    def evaluations(self) -> int:
        """How many trials that were asked for have been told."""
        return int(self.state.evaluations)

    @property
    def best(self) -> tuple[Config, float] | None:
        """The incumbent and its value at full fidelity; None before the first finite one."""
        value = float(self.state.best_value)
        return None if value >= NONE else (_config(self.dehb, self.state.best), value)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the search to a file, in one move: a kill leaves the old file or the new one."""
        path = Path(path)
        aside = path.with_name(path.name + ".part")
        fields = {f.name: np.asarray(getattr(self.state, f.name)) for f in dataclasses.fields(State)}
        with aside.open("wb") as file:
            np.savez(file, settings=np.array(repr(self.dehb)), **fields)  # type: ignore[arg-type]
        aside.replace(path)

    @classmethod
    def load(cls, dehb: DEHB, path: str | os.PathLike[str]) -> Self:
        """The search that `save` wrote; ValueError where it was one with other settings."""
        with np.load(path, allow_pickle=False) as file:
            if str(file["settings"]) != repr(dehb):
                raise ValueError(f"dehb: {path} was saved with other settings: {file['settings']}, got {dehb!r}")
            state = State(**{f.name: jnp.asarray(file[f.name]) for f in dataclasses.fields(State)})
        search = cls.__new__(cls)
        search.dehb, search.state, search._step = dehb, state, int(state.step)
        search._finite = bool(state.finite > 0)
        return search


@functools.partial(jax.jit, static_argnums=0)
def _init(dehb: DEHB, key: Array) -> State:
    return init(dehb, key)


@functools.partial(jax.jit, static_argnums=(0, 1, 2, 3))
def _evaluate(objective: Objective, dehb: DEHB, n: int, level: int, state: State) -> State:
    trials = ask(dehb, state, n)
    keys = jax.random.split(jax.random.fold_in(step_key(state), 1), n)

    def value(x: Array, key: Array) -> Array:
        found = objective(dehb.space.values(x), dehb.fidelities[level], key)
        if jnp.shape(found) != ():
            raise ValueError(f"objective: must return one number, got an array of shape {jnp.shape(found)}")
        return jnp.asarray(found, jnp.float32)

    return tell(dehb, state, trials, jax.vmap(value)(trials.x, keys))


@functools.partial(jax.jit, static_argnums=(0, 1))
def _ask(dehb: DEHB, n: int, state: State) -> tuple[Trials, Array]:
    trials = ask(dehb, state, n)
    return trials, _stacked(dehb.space, trials.x)


@functools.partial(jax.jit, static_argnums=0)
def _tell(dehb: DEHB, state: State, trials: Trials, values: Array) -> State:
    return tell(dehb, state, trials, values)


@functools.partial(jax.jit, static_argnums=(0, 1))
def _warm(dehb: DEHB, level: int, state: State, x: Array, values: Array) -> State:
    return warm(dehb, state, level, x, values)


@functools.partial(jax.jit, static_argnums=0)
def _meant(space: Space, x: Array) -> Array:
    return _stacked(space, x)


def _stacked(space: Space, x: Array) -> Array:
    """The values of x f32[n, D] and where they exist, f32[2, D, n]: one array is fetched sooner than one for each."""
    values, active = space.values(x).values(), space.active(x).values()
    return jnp.stack([jnp.stack([*values]), jnp.stack([*active]).astype(jnp.float32)])


def _configs(space: Space, meant: Array) -> list[Config]:
    values, active = np.asarray(meant)
    names = [one.name for one in space]
    return space.configs(dict(zip(names, values, strict=True)), dict(zip(names, active, strict=True)))


def _config(dehb: DEHB, x: Array) -> Config:
    return _configs(dehb.space, _meant(dehb.space, x[None]))[0]
