"""Proposers whose candidate is a whole training run from a fresh start, with schedules that rounds learn or draw."""

from __future__ import annotations

import dataclasses
from typing import Annotated, Any, Literal

import jax
import jax.numpy as jnp
from annotated_types import Ge, Lt
from typing_extensions import Doc

from ev3x import Candidates, Explore, Feedback, Kit, Loss, Optimizer, Proposer, Site, training
from ev3x.component import Count, Fault, Many, Positive, Real

from . import search
from .hypergradients import differentiated, sound
from .rules import SGD, Rule, chain
from .run import FullMetaLoss, FullTrainLoss, Options, Run, begun, plain
from .schedules import PAPER, Schedule, drawn, length

Array = jax.Array
PyTree = Any
Values = dict[str, Array]
KIT = {
    "loss": "logistic",
    "horizon": 4,
    "schedules": [
        {"name": "learning_rate", "windows": 2, "start": 0.4, "step": 0.1},
        {"name": "momentum", "windows": 1, "start": 0.5, "step": 0.1},
    ],
}


@dataclasses.dataclass(frozen=True)
class Scheduled(Proposer):
    """Training runs of `horizon` steps from `task.init`, whose optimizer reads a schedule for each hyperparameter.

    What a candidate is does not depend on the current variables. Without `optimizer` it is SGD with momentum and weight
    decay in the classical form, v' = μ v + g + ξ w, w' = w - α v'; with one, schedules stand for some of its options.
    Batches are drawn step by step, so that memory does not grow with the horizon.
    """

    loss: Annotated[Loss, Doc("what the runs train on, f_T")]
    horizon: Annotated[Count, Doc("gradient steps of a run")] = 500
    schedules: Annotated[tuple[Schedule, ...], Doc("the hyperparameters that change within a run")] = PAPER
    optimizer: Annotated[Optimizer | None, Doc("an optimizer whose options are scheduled; none: SGD")] = None
    clip_gradient: Annotated[Positive | None, Doc("bound on the entries of gradients; none, or the paper's 3")] = None

    def check(self) -> list[Fault]:
        """Windows divide the horizon; every hyperparameter comes once, and the optimizer has it."""
        faults, names = [], [s.name for s in self.schedules]
        if not names:
            faults.append(Fault(("schedules",), "must name at least one hyperparameter"))
        for i, s in enumerate(self.schedules):
            if s.name in names[:i]:
                faults.append(Fault(("schedules", i, "name"), f"{s.name!r} comes twice"))
            try:
                length(s.name, s.windows, self.horizon)
            except ValueError as error:
                faults.append(Fault(("schedules", i, "windows"), f"{error}"))
        try:
            self._rule.check(tuple(names))
            if self.optimizer is not None:
                Optimizer(self.optimizer.factory, **{**dict(self.optimizer.options), **dict.fromkeys(names, 0.5)})
        except ValueError as error:
            faults.append(Fault(("schedules",), f"{error}".removeprefix("schedules: ")))
        return faults

    @property
    def _rule(self) -> Rule:
        return SGD if self.optimizer is None else chain(self.optimizer.build)

    def _label(self) -> str:
        return f"{self.loss} | {self.optimizer or 'sgd'} | {', '.join(map(str, self.schedules))}"

    def _check_losses(self, site: Site, *losses: Loss) -> None:
        for loss in losses:
            if fault := training.check_loss(site.task, loss):
                raise ValueError(f"{type(self).__name__}: {fault}")

    def _start(self, site: Site, key: Array, values: Values) -> Run:
        """A run before its first step."""
        variables = dict(site.task.init(jax.random.fold_in(training.step_keys(key), 2**31)))
        params = variables.pop("params")
        return begun(params, variables, values, self.horizon, self._rule)

    def _train_loss(self, site: Site, key: Array, explore: Explore) -> FullTrainLoss:
        """f_T on the batch of each step."""
        keys = training.step_keys(key)

        def train(params: PyTree, rest: PyTree, step: Array) -> tuple[Array, PyTree]:
            # one step's batch, from one key: indices of all steps would be memory in proportion to the horizon
            (drawn_,) = [jax.tree.map(lambda x: x[0], explore.draw(jax.random.fold_in(key, step), 1))]
            here, once = {**rest, "params": params}, jax.random.fold_in(keys, step)
            value, moved = training.loss_value(site.task, self.loss, here, explore.batch(drawn_), once, {})
            return value, _without(moved, "params")

        return train


@dataclasses.dataclass(frozen=True)
class FDS(Scheduled):
    """One candidate: a whole training run with the present schedules, which then move by their hypergradients (FDS).

    Forward-mode differentiation with sharing: Micaelli and Storkey, NeurIPS 2021, arXiv 2007.07869. An outer step is a
    round: the run is differentiated with respect to every window of every hyperparameter, on a batch of the meta split,
    and each value moves by the sign of that. Schedules are the proposer's state, and belong to no variables: they move
    whether the candidate wins or not, and a rollback leaves them as they are. Every run has fresh weights and batches.
    A run that is not finite loses; schedules then go half the way back. Once the search has stopped, runs go on with
    the schedules that it found, without tangents.
    """

    meta_loss: Annotated[Loss | None, Doc("what schedules are to lower, on the meta split; none: the loss")] = None
    meta_batches: Annotated[Count, Doc("batches of the meta split that the meta loss is the mean of")] = 1
    update: Annotated[Literal["sign", "adam"], Doc("by the sign with halved steps, or with Adam")] = "sign"
    tolerance: Annotated[Real, Ge(0), Lt(1), Doc("the search stops when all steps are below so much of the values")] = (
        0.05
    )
    chunk: Annotated[Count | None, Doc("tangent columns in memory at a time; none: all")] = None
    clip_tangent: Annotated[Positive | None, Doc("bound on entries of H Z; none, or the paper's 1 or 100")] = None
    greedy: Annotated[bool, Doc("whether tangents are cut after every step, for comparison")] = False

    needs = frozenset({"meta"})
    kit = Kit(KIT)

    def labels(self, site: Site) -> tuple[str, ...]:
        """`loss | optimizer | what is scheduled`."""
        return (self._label(),)

    def init(self, site: Site, key: Array, current: PyTree) -> search.Search:
        """The schedules' start."""
        self._check_losses(site, self.loss, self.meta_loss or self.loss)
        return search.begun(self.schedules, self.update)

    def resize(self, site: Site, key: Array, current: PyTree, state: search.Search, *, fresh: bool) -> search.Search:
        """The same: schedules do not depend on the shape of the model."""
        return state

    def propose(self, site: Site, key: Array, current: PyTree, state: search.Search, explore: Explore) -> Candidates:
        """The end of the run; it notes the meta loss and the schedules that it was trained with."""
        assert explore.meta is not None  # checked before the run, by `needs`
        values, rule = state.values, self._rule
        options = Options(self.chunk, self.clip_gradient, self.clip_tangent, self.greedy)
        train, meta = self._train_loss(site, key, explore), self._meta_loss(site, key, explore.meta)
        start = self._start(site, key, values)

        def learning() -> tuple[Array, Values, Run]:
            return differentiated(train, meta, start, values, self.horizon, rule, options)

        def found() -> tuple[Array, Values, Run]:
            run = plain(train, start, values, self.horizon, rule, options)
            return meta(run.params, run.rest), jax.tree.map(jnp.zeros_like, values), run

        value, gradient, run = jax.lax.cond(state.stopped, found, learning)
        stack = jax.tree.map(lambda x: x[None], {**run.rest, "params": run.params})
        notes = {"meta_loss": value[None], **{n: v[None] for n, v in values.items()}}
        memo = gradient, sound(run, gradient) & jnp.isfinite(value)
        return Candidates(stack, run.finite[None], jnp.int32(self.horizon), memo=memo, notes=notes)

    def learn(
        self, site: Site, key: Array, state: search.Search, candidates: Candidates, feedback: Feedback
    ) -> search.Search:
        """The schedules of the next run, whatever became of this one."""
        gradient, finite = candidates.memo
        finite &= candidates.eligible[0] & jnp.stack([jnp.isfinite(g).all() for g in gradient.values()]).all()
        after = search.moved(self.schedules, self.update, self.tolerance, state, gradient, finite)
        return training.where(state.stopped, state, after)

    def _meta_loss(self, site: Site, key: Array, split: Explore) -> FullMetaLoss:
        """f_V: the mean over batches of the meta split."""
        batch_key, loss_key = jax.random.split(jax.random.fold_in(training.step_keys(key), 2**31 + 1))
        loss, drawn_ = self.meta_loss or self.loss, split.draw(batch_key, self.meta_batches)

        def meta(params: PyTree, rest: PyTree) -> Array:
            def one(drawn_: Any) -> Array:
                here = {**rest, "params": params}
                return training.loss_value(site.task, loss, here, split.batch(drawn_), loss_key, {})[0]

            return jax.lax.map(one, drawn_).mean()

        return meta


@dataclasses.dataclass(frozen=True)
class RandomSchedules(Scheduled):
    """Whole training runs with schedules that every round draws anew, uniformly from their ranges: random search."""

    runs: Annotated[Many, Doc("runs in a round")] = 1

    kit = Kit(KIT)

    def labels(self, site: Site) -> tuple[str, ...]:
        """`loss | optimizer | what is drawn`, with a number if there are several."""
        return tuple(self._label() + (f" | {i + 1}" if self.runs > 1 else "") for i in range(self.runs))

    def init(self, site: Site, key: Array, current: PyTree) -> PyTree:
        """Nothing."""
        self._check_losses(site, self.loss)
        return ()

    def propose(self, site: Site, key: Array, current: PyTree, state: PyTree, explore: Explore) -> Candidates:
        """The ends of the runs; they note their schedules."""

        def one(key: Array) -> tuple[Run, Values]:
            values = drawn(self.schedules, jax.random.fold_in(training.step_keys(key), 2**31 + 1))
            start, train = self._start(site, key, values), self._train_loss(site, key, explore)
            options = Options(clip_gradient=self.clip_gradient)
            return plain(train, start, values, self.horizon, self._rule, options), values

        runs, values = site.each(one, jax.random.split(key, self.runs))
        stack = {**runs.rest, "params": runs.params}
        return Candidates(stack, runs.finite, jnp.int32(self.runs * self.horizon), memo=(), notes=values)


def _without(variables: Any, name: str) -> dict[str, Any]:
    return {n: x for n, x in variables.items() if n != name}
