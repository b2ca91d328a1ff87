"""DEHB in the rounds of ev3x: its trials are training runs, one unit of work per lane and round."""

from __future__ import annotations

import dataclasses
import functools
from typing import Annotated, Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from annotated_types import Ge
from typing_extensions import Doc

from ev3x import Candidates, Explore, Feedback, Kit, Loss, Optimizer, Proposer, Range, Site, training
from ev3x.component import Count, Fault, Many, unknown

from .dehb import DEHB, State, Trials, ask, init, level_at, takes, tell
from .space import Integers, Space, plain

Array = jax.Array
PyTree = Any


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Lanes:
    """Models in training, on a leading axis; what is dead (its loss was not finite) holds zeros."""

    variables: PyTree
    optimizer: PyTree
    alive: Array  # bool[lanes]


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class DehbState:
    """The search; the model and optimizer state of each individual of all levels; the lanes, and their units done."""

    search: State
    models: PyTree
    optimizers: PyTree
    lanes: Lanes
    done: Array  # i32[]


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Worked:
    """What `learn` needs: the trials, the lanes after this round's unit, and whether it was their last."""

    trials: Trials
    lanes: Lanes
    finished: Array  # bool[]


@dataclasses.dataclass(frozen=True)
class Dehb(Proposer):
    """DEHB over hyperparameters of training: a trial trains for as many units as its rung's fidelity says.

    A unit is `length` gradient steps, one per lane and round. A rung with more trials than lanes is worked off in
    parts. Trials begin at the current variables, promoted ones at what they were in the rung below. In the round in
    which trials are done, their targets are candidates, too: both are scored on the same examples. Only trials that are
    done at full fidelity may win. When the model grows, the search begins anew.
    """

    loss: Annotated[Loss, Doc("the loss, or a weighted sum")]
    optimizer: Annotated[Optimizer, Doc("the optimizer; what is searched needs a value here all the same")]
    space: Annotated[Space, Doc("name = { low, high, log, integer }, { ordinal } or { categorical }, and `when`")]
    lanes: Annotated[Many, Doc("trials that train at once; as many targets are scored beside them")] = 4
    length: Annotated[Count, Doc("gradient steps of a unit: per lane and round")] = 25
    min_fidelity: Annotated[Count, Doc("units of the lowest rung, at least; the levels are max_fidelity / eta^i")] = 1
    max_fidelity: Annotated[Count, Doc("units of a trial at full fidelity")] = 9
    eta: Annotated[float, Ge(2), Doc("one in eta goes on to the next rung, which has eta times the units")] = 3.0
    strategy: Annotated[str, Doc("mutation and crossover: rand1_bin, currenttobest1_exp, ...")] = "rand1_bin"
    mutation_factor: Annotated[float, Doc("F, in (0, 2]")] = 0.5
    crossover_probability: Annotated[float, Doc("Cr, in [0, 1]")] = 0.5
    boundary: Annotated[Literal["random", "clip"], Doc("what leaves the space is drawn anew, or moved to its end")] = (
        "random"
    )

    idles = True  # between two full-fidelity rungs nobody may win

    kit = Kit(
        {
            "loss": "logistic",
            "optimizer": {"name": "sgd", "learning_rate": 0.1, "momentum": 0.9},
            "space": {"learning_rate": {"low": 0.01, "high": 1.0, "log": True}},
            "lanes": 2,
            "length": 2,
            "max_fidelity": 2,
            "eta": 2.0,
        }
    )

    def check(self) -> list[Fault]:
        """What is wrong with the fidelities, the strategy, or a choice that is no number."""
        faults = []
        for one in self.space:
            parameter = plain(one)
            if not isinstance(parameter, Range | Integers) and any(isinstance(c, str) for c in parameter.choices):
                text = f"{one.name!r} has choices that are strings; what trains reads numbers alone"
                faults.append(Fault(("space",), text))
        try:
            assert self.dehb
        except ValueError as error:
            name, _, rest = str(error).partition(" ")
            faults.append(Fault((name.rstrip(":"),), rest))
        return faults

    @property
    def dehb(self) -> DEHB:
        """The search, with fidelities in units."""
        names = {f.name for f in dataclasses.fields(DEHB)} & {f.name for f in dataclasses.fields(self)}
        return DEHB(**{name: getattr(self, name) for name in names}, whole=True)

    def labels(self, site: Site) -> tuple[str, ...]:
        """The lanes' trials, then their targets."""
        return tuple(f"{what} {i}" for what in ("trial", "target") for i in range(self.lanes))

    def init(self, site: Site, key: Array, current: PyTree) -> DehbState:
        """Populations that nobody has evaluated; ValueError where space or loss do not suit the task."""
        if fault := training.check_loss(site.task, self.loss):
            raise ValueError(f"dehb: {fault}")
        known = self._defaults(site)
        for one in self.space:
            if one.name not in known:
                raise ValueError(f"dehb: space: {unknown('parameter', one.name, known)}")
            if one.name in self.optimizer.numbers and one.name in training.numbers(site.task):
                text = "names an option of the optimizer and a hyperparameter of the task: call one of them otherwise"
                raise ValueError(f"dehb: space: {one.name!r} {text}")
        optimizer = self.optimizer.build().init(current["params"])

        def zeros(n: int, tree: PyTree) -> PyTree:
            return jax.tree.map(lambda x: jnp.zeros((n, *jnp.shape(x)), jnp.result_type(x)), tree)

        lanes = Lanes(zeros(self.lanes, current), zeros(self.lanes, optimizer), jnp.ones(self.lanes, bool))
        individuals = sum(self.dehb.sizes)
        models, optimizers = zeros(individuals, current), zeros(individuals, optimizer)
        return DehbState(init(self.dehb, key), models, optimizers, lanes, jnp.int32(0))

    def propose(self, site: Site, key: Array, current: PyTree, state: DehbState, explore: Explore) -> Candidates:
        """Trials after one more unit, and their targets."""
        dehb, search = self.dehb, state.search
        trials, level = ask(dehb, search, self.lanes), level_at(dehb, search)
        units, below = jnp.array(dehb.fidelities, jnp.int32), jnp.maximum(level - 1, 0)
        continues = trials.origin >= 0
        needed = jnp.where(trials.real, units[level] - jnp.where(continues, units[below], 0), 0)
        working = state.done < needed
        finished = state.done + 1 >= needed.max()
        values, drawn = self._values(site, trials.x), explore.draw(key, self.length)
        source = self._slot(below, jnp.maximum(trials.origin, 0))
        begins = state.done == 0

        def work(one: tuple[Any, ...]) -> Lanes:
            values, source, continues, working, lane = one
            optimizer = self.optimizer.build(**{n: v for n, v in values.items() if n in self.optimizer.numbers})
            promoted = jax.tree.map(lambda x: x[source], (state.models, state.optimizers))
            first = training.where(continues, promoted, (current, optimizer.init(current["params"])))
            start, started = training.where(begins, first, (lane.variables, lane.optimizer))
            hypers = {n: v for n, v in values.items() if n in site.task.hypers}
            variables, moved, finite = training.train(
                site.task,
                self.loss,
                optimizer,
                start,
                started,
                explore,
                drawn,
                key,
                steps=jnp.where(working, self.length, 0),
                hypers=hypers,
            )
            alive = (begins | lane.alive) & finite & _finite((variables, moved))
            variables, moved = jax.tree.map(lambda x: jnp.where(alive, x, jnp.zeros_like(x)), (variables, moved))
            return Lanes(variables, moved, alive)

        lanes = site.each(work, (values, source, continues, working, state.lanes))
        places = self._slot(level, trials.target)
        fresh = search.fresh[level][trials.target]
        targets = jax.vmap(lambda i, new: training.where(new, current, _at(state.models, i)))(places, fresh)
        stack = jax.tree.map(lambda a, b: jnp.concatenate([a, b]), lanes.variables, targets)
        may_win = trials.real & lanes.alive & finished & (level == dehb.top)
        points = jnp.concatenate([trials.x, search.x[level][trials.target]])
        progress = units[level] - jnp.maximum(needed - state.done - 1, 0)
        return Candidates(
            stack,
            eligible=jnp.concatenate([may_win, jnp.zeros(self.lanes, bool)]),
            steps=self.length * working.sum(dtype=jnp.int32),
            memo=Worked(trials, lanes, finished),
            notes={
                **self._values(site, points),
                "units": jnp.concatenate([progress, jnp.where(fresh, 0, units[level])]),
                "fidelity": jnp.broadcast_to(units[level], 2 * self.lanes),
            },
        )

    def learn(self, site: Site, key: Array, state: DehbState, candidates: Candidates, feedback: Feedback) -> DehbState:
        """The lanes one unit on; where they are done, the populations with the trials that were no worse."""
        dehb, worked = self.dehb, candidates.memo
        trials, lanes = worked.trials, worked.lanes
        aims = feedback.decision.aims
        value = -jnp.where(aims[None] == 0, 0.0, feedback.mean * aims[None]).sum(-1)
        value, again = jnp.where(lanes.alive, value[: self.lanes], jnp.nan), value[self.lanes :]
        level = level_at(dehb, state.search)
        # A target counts by what it was worth in this round, on the examples of its trial, not by what it was before.
        known = trials.real & ~state.search.fresh[level][trials.target] & jnp.isfinite(again)
        at = jnp.where(known, trials.target, state.search.x.shape[1])
        search = dataclasses.replace(state.search, value=state.search.value.at[level, at].set(again, mode="drop"))
        taken = takes(dehb, search, trials, value) & worked.finished
        slots = jnp.where(taken, self._slot(level, trials.target), sum(dehb.sizes))
        models, optimizers = jax.tree.map(
            lambda old, new: old.at[slots].set(new, mode="drop"),
            (state.models, state.optimizers),
            (lanes.variables, lanes.optimizer),
        )
        told = training.where(worked.finished, tell(dehb, search, trials, value), state.search)
        done = jnp.where(worked.finished, 0, state.done + 1).astype(jnp.int32)
        return DehbState(told, models, optimizers, lanes, done)

    def _slot(self, level: Array, place: Array) -> Array:
        """Where the model of this individual lies."""
        return jnp.array(np.cumsum((0, *self.dehb.sizes[:-1])), jnp.int32)[level] + place

    def _defaults(self, site: Site) -> dict[str, float]:
        return {**training.numbers(site.task), **self.optimizer.numbers}

    def _values(self, site: Site, x: Array) -> dict[str, Array]:
        """The numbers that these places mean, each f32[n]; what does not exist there has its default."""
        values, active, defaults = self.space.values(x), self.space.active(x), self._defaults(site)
        found = {}
        for one in self.space:
            parameter, value = plain(one), values[one.name]
            if not isinstance(parameter, Range | Integers):
                value = jnp.array(parameter.choices, jnp.float32)[value.astype(jnp.int32)]
            found[one.name] = jnp.where(active[one.name], value, jnp.float32(defaults[one.name]))
        return found


def _at(tree: PyTree, i: Array) -> PyTree:
    return jax.tree.map(lambda x: x[i], tree)


def _finite(tree: PyTree) -> Array:
    floats = [x for x in jax.tree.leaves(tree) if jnp.issubdtype(x.dtype, jnp.inexact)]
    return functools.reduce(jnp.logical_and, [jnp.isfinite(x).all() for x in floats])
