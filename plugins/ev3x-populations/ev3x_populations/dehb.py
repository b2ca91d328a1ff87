"""DEHB as pure functions: `init`, `ask`, `tell`, a whole rung as one batch (Awad, Mallik, Hutter, arXiv 2105.09821).

Everything is minimised. The state is a pytree of arrays, `ask` only reads it, and all randomness follows from its key
and its step: a state that was saved goes on to the same bits. What is ours, and not of the release: a rung's trials are
made together; the incumbent is known by evaluations at full fidelity alone; after each bracket the best of its lowest
fidelity that has not been there yet is evaluated at full fidelity (`Rung.check`).
"""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ev3x.component import unknown

from .brackets import Bracket, brackets, whole_steps
from .space import Space
from .strategies import BOUNDARIES, CROSSOVERS, MUTATIONS, NEEDS, crossed, inside, mutant

Array = jax.Array
NONE = float(np.finfo(np.float32).max)  # the value of what has none: finite, so that a state always is


@dataclasses.dataclass(frozen=True)
class Rung:
    """One step of the schedule: `n` trials at fidelity `level`.

    `lowest` is the level that its bracket begins at: a rung there evolves its own population. `check` marks the
    evaluation after a bracket, at full fidelity.
    """

    level: int
    n: int
    lowest: int
    check: bool = False


@dataclasses.dataclass(frozen=True)
class DEHB:
    """The settings: a value, hashable, from which the whole schedule follows.

    `whole` rounds the fidelities, which then are integers: gradient steps, examples. `population` is the size of plain
    DE, which it is where min_fidelity = max_fidelity.
    """

    space: Space
    min_fidelity: float
    max_fidelity: float
    eta: float = 3.0
    strategy: str = "rand1_bin"
    mutation_factor: float = 0.5
    crossover_probability: float = 0.5
    boundary: str = "random"
    population: int = 20
    whole: bool = False

    def __post_init__(self) -> None:
        if not isinstance(self.space, Space):
            raise TypeError(f"space must be a Space, got {type(self.space).__name__}")
        strategies = [f"{m}_{c}" for m in MUTATIONS for c in CROSSOVERS]
        if self.strategy not in strategies:
            raise ValueError(f"strategy: {unknown('strategy', self.strategy, strategies)}")
        if self.boundary not in BOUNDARIES:
            raise ValueError(f"boundary: {unknown('boundary handling', self.boundary, BOUNDARIES)}")
        if not 0 < self.mutation_factor <= 2:
            raise ValueError(f"mutation_factor must lie in (0, 2], got {self.mutation_factor!r}")
        if not 0 <= self.crossover_probability <= 1:
            raise ValueError(f"crossover_probability must lie in [0, 1], got {self.crossover_probability!r}")
        assert self.fidelities  # which checks them

    @functools.cached_property
    def brackets(self) -> tuple[Bracket, ...]:
        """The brackets of one cycle."""
        return brackets(self.min_fidelity, self.max_fidelity, self.eta, population=self.population)

    @functools.cached_property
    def fidelities(self) -> tuple[float, ...]:
        """The fidelity of each level, the lowest first."""
        fidelities = self.brackets[0].fidelities
        return whole_steps(fidelities) if self.whole else fidelities

    @property
    def top(self) -> int:
        """The level of full fidelity."""
        return len(self.fidelities) - 1

    @functools.cached_property
    def sizes(self) -> tuple[int, ...]:
        """How many individuals the population of each level has: as many as the largest rung there evaluates."""
        rungs = [rung for rung in self.cycle if not rung.check]
        return tuple(max(rung.n for rung in rungs if rung.level == level) for level in range(self.top + 1))

    @functools.cached_property
    def cycle(self) -> tuple[Rung, ...]:
        """The rungs of all brackets, in order, with a check after each that has lower fidelities."""
        rungs = []
        for bracket in self.brackets:
            lowest = self.top + 1 - len(bracket.counts)
            rungs += [Rung(lowest + r, n, lowest) for r, n in enumerate(bracket.counts)]
            rungs += [Rung(self.top, 1, lowest, check=True)] if lowest < self.top else []
        return tuple(rungs)

    def rung(self, step: int) -> Rung:
        """The rung of this step of the schedule, which repeats the cycle."""
        return self.cycle[step % len(self.cycle)]

    def rungs(self, evaluations: int) -> Iterator[Rung]:
        """The rungs from the start that fit whole into so many evaluations."""
        step, left = 0, evaluations
        while (rung := self.rung(step)).n <= left:
            yield rung
            step, left = step + 1, left - rung.n


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class State:
    """Populations of L levels with up to P individuals in D coordinates, and the incumbent.

    Attributes:
        key: u32[2], the data of the key that all trials follow from.
        step: i32[], rungs told so far: the place in the schedule.
        part: i32[], how many trials of the present rung were told.
        x: f32[L, P, D], the individuals, in the unit cube.
        value: f32[L, P], their values at the fidelity of their own level; NONE: none that is finite.
        fresh: bool[L, P], not evaluated yet.
        seen: bool[L, P], evaluated at full fidelity, too.
        turn: i32[L], the next target of each level.
        best: f32[D], the incumbent; meaningless while `best_value` is NONE.
        best_value: f32[], its value at full fidelity.
        evaluations: i32[], trials told so far.
        finite: i32[], how many of them had a finite value.
    """

    key: Array
    step: Array
    part: Array
    x: Array
    value: Array
    fresh: Array
    seen: Array
    turn: Array
    best: Array
    best_value: Array
    evaluations: Array
    finite: Array


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Trials:
    """The trials of one rung: places x f32[n, D], the individuals that they compete with, and which of them count.

    `target` i32[n] is a place in the population of the rung's own level, `origin` i32[n] one in the level below, from
    where the trial was promoted, else -1. `real` bool[n] is False beyond what the rung still lacks.
    """

    x: Array
    target: Array
    origin: Array
    real: Array


def init(dehb: DEHB, key: Array) -> State:
    """The state before the first rung: populations drawn uniformly, none evaluated."""
    levels, most, d = dehb.top + 1, max(dehb.sizes), len(dehb.space)
    draw_key, key = jax.random.split(key)
    return State(
        key=jax.random.key_data(key),
        step=jnp.int32(0),
        part=jnp.int32(0),
        x=jax.random.uniform(draw_key, (levels, most, d), jnp.float32),
        value=jnp.full((levels, most), NONE, jnp.float32),
        fresh=jnp.ones((levels, most), bool),
        seen=jnp.zeros((levels, most), bool),
        turn=jnp.zeros(levels, jnp.int32),
        best=jnp.full(d, 0.5, jnp.float32),
        best_value=jnp.float32(NONE),
        evaluations=jnp.int32(0),
        finite=jnp.int32(0),
    )


def ask(dehb: DEHB, state: State, n: int) -> Trials:
    """The trials of the rung that `state` is at, n of them, which may be more than it has, or fewer: then the rest
    follows when these were told.

    In the first cycle the lowest rung of a bracket evaluates individuals as they were drawn, and the rungs above what
    is promoted to them. After that, all are evolved: the target is the next individual of the rung's own population,
    the mutation pool are the best n of the fidelity below (of its own, in a bracket's lowest rung).
    """
    now = _Now(dehb, state)
    u = jax.random.uniform(step_key(state), (n, _draws(dehb)), jnp.float32)
    places = jnp.arange(n, dtype=jnp.int32)
    own = state.x[now.level]
    worst = jnp.argmax(jnp.where(now.exists[now.level], state.value[now.level], -jnp.inf)).astype(jnp.int32)
    target = jnp.where(now.check, worst, (now.turn + places) % now.size)

    pool, order = _ranked(state, now.source, now.exists)
    allowed = (jnp.arange(order.size) < now.n) & now.exists[now.source][order]
    evolved = jax.vmap(lambda u, i: _evolved(dehb, state, u, own[i], pool, allowed))(u, target)

    # The first time that it is its turn, an individual of a lowest rung is evaluated as it was drawn.
    drawn = now.evolves & state.fresh[now.level][target]
    x = jnp.where(drawn[:, None], own[target], evolved)
    promoted, origin = jax.lax.cond(
        now.promotes,
        lambda: _promoted(dehb, state, now, pool, order, n),
        lambda: (x, jnp.full(n, -1, jnp.int32)),
    )
    x = jnp.where((origin >= 0)[:, None], promoted, x)
    checked, found = _unseen(dehb, state, now)
    x = jnp.where(now.check & found, checked, x)
    return Trials(x, target, origin, places < now.n - state.part)


def tell(dehb: DEHB, state: State, trials: Trials, values: Array) -> State:
    """The state after the values f32[n] of these trials, less is better; one that is not finite never wins."""
    now = _Now(dehb, state)
    values = jnp.asarray(values, jnp.float32)
    good, taken = trials.real & _sound(values), takes(dehb, state, trials, values)
    count = trials.real.sum(dtype=jnp.int32)
    part = state.part + count
    done = part >= now.n
    nowhere = state.x.shape[1]
    at = jnp.where(taken, trials.target, nowhere)
    tried = jnp.where(trials.real, trials.target, nowhere)

    def met() -> Array:
        return ((state.x[:, :, None, :] == trials.x[None, None]).all(-1) & trials.real[None, None]).any(-1)

    seen = jax.lax.cond(now.full, lambda: state.seen | met(), lambda: state.seen)
    state = dataclasses.replace(
        state,
        step=jnp.where(done, state.step + 1, state.step),
        part=jnp.where(done, 0, part),
        x=state.x.at[now.level, at].set(trials.x, mode="drop"),
        value=state.value.at[now.level, at].set(values, mode="drop"),
        fresh=state.fresh.at[now.level, tried].set(False, mode="drop"),
        seen=seen.at[now.level, at].set(now.full, mode="drop"),
        turn=state.turn.at[now.level].set(jnp.where(now.check, now.turn, (now.turn + count) % now.size)),
        evaluations=state.evaluations + count,
        finite=state.finite + good.sum(dtype=jnp.int32),
    )
    return _incumbent(state, trials.x, jnp.where(good & now.full, values, NONE))


def takes(dehb: DEHB, state: State, trials: Trials, values: Array) -> Array:
    """Which trials take the place of their targets, bool[n]: those that are no worse, so that plateaus are crossed."""
    return trials.real & _sound(values) & (values <= state.value[level_at(dehb, state)][trials.target])


def warm(dehb: DEHB, state: State, level: int, x: Array, values: Array) -> State:
    """The state that also knows x f32[n, D], evaluated elsewhere at the fidelity of this level: `tell` without `ask`.

    Each takes the place of the worst individual of its level (first those that nobody evaluated), if it is better and
    not there already. The schedule stays where it is.
    """
    exists = jnp.arange(state.x.shape[1]) < dehb.sizes[level]
    values = jnp.asarray(values, jnp.float32)
    values = jnp.where(_sound(values), values, NONE)

    def add(state: State, one: tuple[Array, Array]) -> tuple[State, None]:
        point, value = one
        i = jnp.argmax(jnp.where(exists, state.value[level], -jnp.inf))
        there = (~state.fresh[level] & (state.x[level] == point[None]).all(-1)).any()
        better = (value < state.value[level, i]) & ~there
        state = dataclasses.replace(
            state,
            x=state.x.at[level, i].set(jnp.where(better, point, state.x[level, i])),
            value=state.value.at[level, i].min(jnp.where(better, value, NONE)),
            fresh=state.fresh.at[level, i].set(state.fresh[level, i] & ~better),
            seen=state.seen.at[level, i].set(jnp.where(better, level == dehb.top, state.seen[level, i])),
            finite=state.finite + (value < NONE).astype(jnp.int32),
        )
        return state, None

    state, _ = jax.lax.scan(add, state, (jnp.asarray(x, jnp.float32), values))
    return _incumbent(state, x, values) if level == dehb.top else state


def step_key(state: State) -> Array:
    """The key of the part of a rung that a state is at."""
    return jax.random.fold_in(jax.random.fold_in(jax.random.wrap_key_data(state.key), state.step), state.part)


class _Now:
    """What the schedule says of the step that a state is at, as traced scalars."""

    def __init__(self, dehb: DEHB, state: State) -> None:
        cycle = dehb.cycle
        at = state.step % len(cycle)
        self.level, self.n, self.lowest = (
            jnp.array([getattr(rung, name) for rung in cycle], jnp.int32)[at] for name in ("level", "n", "lowest")
        )
        self.check = jnp.array([rung.check for rung in cycle])[at]
        self.full = self.level == dehb.top
        first = state.step < len(cycle)
        self.evolves = (self.level == self.lowest) & ~self.check
        self.promotes = first & ~self.evolves & ~self.check
        self.source = jnp.where(self.evolves, self.level, jnp.maximum(self.level - 1, 0))
        sizes = jnp.array(dehb.sizes, jnp.int32)
        self.exists = jnp.arange(state.x.shape[1])[None] < sizes[:, None]
        self.size, self.turn = sizes[self.level], state.turn[self.level]


def _ranked(state: State, level: Array, exists: Array) -> tuple[Array, Array]:
    """The individuals of a level from best to worst, and their places; those that do not exist come last."""
    order = jnp.argsort(jnp.where(exists[level], state.value[level], jnp.nan), stable=True).astype(jnp.int32)
    return state.x[level][order], order


def _evolved(dehb: DEHB, state: State, u: Array, target: Array, pool: Array, allowed: Array) -> Array:
    """A trial f32[D] from `_draws(dehb)` uniform numbers: mutation, crossover, and back into the cube.

    Mutation takes individuals of the pool other than the target; where these are too few, mutants of all populations
    (rand/1) stand in.
    """
    mutation, _, crossover = dehb.strategy.partition("_")
    need, d = NEEDS[mutation], len(dehb.space)
    others = allowed & ~(pool == target[None]).all(-1)
    known = others.sum(dtype=jnp.int32)
    picks = jnp.stack(_different(u[:need], jnp.maximum(known, need)))
    # The pick-th of the others: as many places as have at most `pick` others up to and with themselves come before it.
    places = (jnp.cumsum(others.astype(jnp.int32))[None] <= picks[:, None]).sum(-1)
    everyone = jnp.array(np.flatnonzero(np.arange(max(dehb.sizes))[None] < np.array(dehb.sizes)[:, None]), jnp.int32)
    a, b, c = _different(u[need : 4 * need].reshape(3, need), jnp.int32(everyone.size))
    all_ = state.x.reshape(-1, d)[everyone]
    fillers = all_[a] + dehb.mutation_factor * (all_[b] - all_[c])
    chosen = jnp.where((picks < known)[:, None], pool[jnp.minimum(places, pool.shape[0] - 1)], fillers)
    mutated = mutant(mutation, target, pool[0], chosen, dehb.mutation_factor)
    trial = crossed(crossover, u[4 * need : 4 * need + 1 + d], target, mutated, dehb.crossover_probability)
    return inside(dehb.boundary, u[4 * need + 1 + d :], trial)


def _draws(dehb: DEHB) -> int:
    """How many uniform numbers a trial takes: all are drawn in one call, since calls are what is slow to compile."""
    return 4 * NEEDS[dehb.strategy.partition("_")[0]] + 1 + 2 * len(dehb.space)


def _different(u: Array, size: Array) -> list[Array]:
    """For uniform u f32[k, ...] k whole numbers below `size`, all different, and every choice equally likely."""
    chosen: list[Array] = []
    for i in range(u.shape[0]):
        pick = jnp.floor(u[i] * (size - i).astype(jnp.float32)).astype(jnp.int32)
        pick = jnp.minimum(pick, size - i - 1)
        for taken in _sorted(chosen):
            pick = jnp.where(pick >= taken, pick + 1, pick)
        chosen.append(pick)
    return chosen


def _sorted(values: list[Array]) -> list[Array]:
    """The same, in ascending order at each place."""
    found: list[Array] = []
    for value in values:
        for i, other in enumerate(found):
            found[i], value = jnp.minimum(other, value), jnp.maximum(other, value)
        found.append(value)
    return found


def _promoted(dehb: DEHB, state: State, now: _Now, below: Array, order: Array, n: int) -> tuple[Array, Array]:
    """The best of the ranked level below that are not here yet, f32[n, D], and their places i32[n], -1 for none.

    Two that mean the same configuration are duplicates, though their coordinates differ.
    """
    meant, here = dehb.space.snapped(below), dehb.space.snapped(state.x[now.level])
    sound = ((state.value[now.source] < NONE) & now.exists[now.source])[order]
    evaluated = ~state.fresh[now.level] & now.exists[now.level]
    known = ((meant[:, None] == here[None]).all(-1) & evaluated[None]).any(-1)
    twin = ((meant[:, None] == meant[None]).all(-1) & sound[None] & jnp.tri(order.size, k=-1, dtype=bool)).any(-1)
    ok = sound & ~known & ~twin
    first = jnp.argsort(~ok, stable=True)[:n]
    origin = jnp.where(ok[first], order[first], -1).astype(jnp.int32)
    short = n - first.size
    return jnp.pad(below[first], ((0, short), (0, 0))), jnp.pad(origin, (0, short), constant_values=-1)


def _unseen(dehb: DEHB, state: State, now: _Now) -> tuple[Array, Array]:
    """The best of the bracket's lowest level, or of the next, that full fidelity has not seen: f32[D], bool[]."""
    value = jnp.where(now.exists, state.value, NONE)
    best = jnp.argmin(value, axis=1)
    rows = jnp.arange(best.size)
    ok = (value[rows, best] < NONE) & ~state.seen[rows, best] & (rows >= now.lowest) & (rows < dehb.top)
    return state.x[jnp.argmax(ok), best[jnp.argmax(ok)]], ok.any()


def _incumbent(state: State, x: Array, values: Array) -> State:
    """The state whose incumbent is the best of these evaluations at full fidelity, if it is better."""
    i = jnp.argmin(values)
    better = values[i] < state.best_value
    return dataclasses.replace(
        state,
        best=jnp.where(better, x[i], state.best),
        best_value=jnp.where(better, values[i], state.best_value),
    )


def level_at(dehb: DEHB, state: State) -> Array:
    """The level of the rung that a state is at, i32[]."""
    return _Now(dehb, state).level


def _sound(values: Array) -> Array:
    return jnp.abs(values) < NONE


def level_of(dehb: DEHB, fidelity: Any) -> int:
    """The level that has this fidelity."""
    for level, known in enumerate(dehb.fidelities):
        if math.isclose(float(fidelity), known, rel_tol=1e-6):
            return level
    raise ValueError(f"fidelity must be one of {dehb.fidelities}, got {fidelity!r}")
