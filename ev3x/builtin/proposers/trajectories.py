"""EV3's own proposer: a trajectory of gradient steps for every loss and every optimizer (arXiv 2310.18893, explore)."""

from __future__ import annotations

import dataclasses
from collections.abc import Hashable, Iterator
from typing import Annotated, Any, Literal

import jax
import jax.numpy as jnp
import optax
from annotated_types import Ge
from typing_extensions import Doc

from ...component import Count, Fault, Kit, Natural, Real
from ...core.data import Explore
from ...core.layout import Site
from ...core.propose import Proposer
from ...core.types import Array, Candidates, Feedback, Outcome, PyTree, Variables
from ...training.losses import Loss, Term
from ...training.optimizers import Optimizer
from ...training.steps import carried, check_loss, follow, train

Pair = tuple[Loss, Optimizer]


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class TrajectoryState:
    """One optimizer state per pair, stacked by group, now and at the incumbent's promotion; rounds since then."""

    optimizers: tuple[PyTree, ...]
    promoted: tuple[PyTree, ...]
    stalled: Array  # i32[]


@dataclasses.dataclass(frozen=True)
class Trajectories(Proposer):
    """One candidate for every pair of loss and optimizer, trained for `length` steps from the current variables.

    Pairs that differ in numbers only (learning rates, temperatures) are trained together. The optimizer state of a
    loser goes back to the start of its trajectory, which was thrown away; or it becomes the winner's state. A rollback
    to the incumbent takes all optimizer states back to its promotion.
    """

    losses: Annotated[tuple[Loss, ...], Doc("losses of the task, or weighted sums of them")]
    optimizers: Annotated[tuple[Optimizer, ...], Doc("optax optimizers with their options")]
    length: Annotated[Count, Doc("gradient steps per candidate and round")] = 100
    auxiliary: Annotated[tuple[Loss, ...], Doc("losses that are added to every loss")] = ()
    batches: Annotated[Literal["shared", "fresh"], Doc("whether candidates train on the same batches")] = "shared"
    losers: Annotated[Literal["rewind", "inherit"], Doc("what becomes of the optimizer states of losers")] = "rewind"
    stretch: Annotated[Real, Ge(1), Doc("factor on the length for every round since the last promotion")] = 1.0
    longest: Annotated[Natural, Doc("the most steps that stretching may reach; 0: ten times the length")] = 0

    kit = Kit({"losses": ["logistic", "hinge"], "optimizers": [{"name": "sgd", "learning_rate": 0.1}], "length": 3})

    def check(self) -> list[Fault]:
        """Faults of the options: no candidate, or no room to stretch trajectories."""
        faults = [
            Fault((name,), "needs at least one entry (K = 0)")
            for name in ("losses", "optimizers")
            if not getattr(self, name)
        ]
        if self.longest and self.longest < self.length:
            faults.append(Fault(("longest",), f"must be at least length = {self.length}, got {self.longest}"))
        return faults

    def labels(self, site: Site) -> tuple[str, ...]:
        """`loss | optimizer` for every pair."""
        return tuple(f"{loss} | {optimizer}" for loss in self.losses for optimizer in self.optimizers)

    def init(self, site: Site, key: Array, current: Variables) -> TrajectoryState:
        """Fresh optimizer states."""
        for loss in self.losses + self.auxiliary:
            if fault := check_loss(site.task, loss):
                raise ValueError(f"trajectories: {fault}")

        def start(group: Group) -> PyTree:
            places = jnp.array(group.places)
            return site.each(lambda _, *xs: group.rebuild(xs)[1].init(current["params"]), places, *group.varying())

        fresh = tuple(start(g) for g in self._groups())
        return TrajectoryState(fresh, fresh, jnp.int32(0))

    def resize(
        self, site: Site, key: Array, current: Variables, state: TrajectoryState, *, fresh: bool
    ) -> TrajectoryState:
        """The state, in which optimizer states continue unless the model was drawn anew."""
        first = self.init(site, key, current)
        return first if fresh else dataclasses.replace(carried(state, first), stalled=state.stalled)

    def propose(
        self, site: Site, key: Array, current: Variables, state: TrajectoryState, explore: Explore
    ) -> Candidates:
        """The end points of all trajectories; those with a non-finite loss cannot win."""
        groups, most, steps = self._groups(), self._most(), self._steps(state.stalled)
        k = len(self.losses) * len(self.optimizers)
        shared = explore.draw(key, most)

        def run(group: Group, own_key: Array, opt_state: PyTree, *varying: Array) -> tuple[Variables, PyTree, Array]:
            loss, optimizer = group.rebuild(varying)
            fresh = self.batches == "fresh"
            drawn = explore.draw(own_key, most) if fresh else shared
            return train(
                site.task, loss, optimizer, current, opt_state, explore, drawn, own_key if fresh else key, steps=steps
            )

        keys = jax.random.split(jax.random.fold_in(key, 1), k)
        ends = [
            site.each(lambda *xs, g=g: run(g, *xs), keys[jnp.array(g.places)], s, *g.varying())
            for g, s in zip(groups, state.optimizers, strict=True)
        ]
        # From the order of the groups back to the order of the labels.
        order = jnp.argsort(jnp.array([place for g in groups for place in g.places]))
        variables, finite = jax.tree.map(
            lambda *x: x[0] if len(x) == 1 else jnp.concatenate(x)[order], *[(e[0], e[2]) for e in ends]
        )
        total = jnp.asarray(k * steps, jnp.int32)
        return Candidates(variables, finite, total, memo=tuple(e[1] for e in ends))

    def learn(
        self, site: Site, key: Array, state: TrajectoryState, candidates: Candidates, feedback: Feedback
    ) -> TrajectoryState:
        """The state with the winner's new optimizer state; losers go back, or inherit it where its structure fits."""
        groups, moved = self._groups(), candidates.memo
        won = [feedback.won[jnp.array(g.places)] for g in groups]
        optimizers = []
        for i, (g, old) in enumerate(zip(groups, state.optimizers, strict=True)):
            new = _rows(won[i], moved[i], old)
            if self.losers == "inherit":
                for h, theirs, w in zip(groups, moved, won, strict=True):
                    if h.optimizer_kind == g.optimizer_kind:
                        heir = jax.tree.map(lambda x, w=w: x[jnp.argmax(w)][None], theirs)
                        new = jax.tree.map(lambda x, y, w=w: jnp.where(w.any(), x, y), heir, new)
            optimizers.append(new)
        stalled = jnp.where(feedback.verdict == Outcome.BETTER, 0, state.stalled + 1)
        return TrajectoryState(*follow(feedback.decision, tuple(optimizers), state.promoted), stalled)

    def _groups(self) -> tuple[Group, ...]:
        pairs = [(sum(self.auxiliary, start=loss), o) for loss in self.losses for o in self.optimizers]
        kinds: dict[Hashable, list[int]] = {}
        for i, pair in enumerate(pairs):
            kinds.setdefault((_loss_kind(pair[0]), _optimizer_kind(pair[1])), []).append(i)
        return tuple(Group(tuple(places), tuple(pairs[i] for i in places)) for places in kinds.values())

    def _most(self) -> int:
        return self.length if self.stretch == 1 else self.longest or 10 * self.length

    def _steps(self, stalled: Array) -> Array | int:
        if self.stretch == 1:
            return self.length
        steps = jnp.round(self.length * self.stretch ** stalled.astype(jnp.float32))
        return jnp.minimum(steps, self._most()).astype(jnp.int32)


@dataclasses.dataclass(frozen=True)
class Group:
    """Pairs that differ only in numbers, and so share a program; `places` are their indices among the labels."""

    places: tuple[int, ...]
    pairs: tuple[Pair, ...]

    @property
    def optimizer_kind(self) -> Hashable:
        """Equal for groups whose optimizer states fit each other."""
        return _optimizer_kind(self.pairs[0][1])

    def varying(self) -> tuple[Array, ...]:
        """The numbers in which the pairs differ, an f32[K] for each."""
        return tuple(jnp.array(column) for column in self._columns() if len(set(column)) > 1)

    def rebuild(self, varying: tuple[Array, ...]) -> tuple[Loss, optax.GradientTransformation]:
        """The loss and the optimizer of one pair, given its varying numbers; those that all share stay constants."""
        traced = iter(varying)
        numbers: Iterator[Any] = iter([next(traced) if len(set(c)) > 1 else c[0] for c in self._columns()])
        loss, optimizer = self.pairs[0]
        terms = tuple(Term(t.name, next(numbers), tuple((n, next(numbers)) for n, _ in t.hypers)) for t in loss.terms)
        return Loss(terms), optimizer.build(**{name: next(numbers) for name in optimizer.numbers})

    def _columns(self) -> list[tuple[float, ...]]:
        return list(zip(*map(_numbers, self.pairs), strict=True))


def _numbers(pair: Pair) -> list[float]:
    loss, optimizer = pair
    of_loss = [x for term in loss.terms for x in (term.weight, *(value for _, value in term.hypers))]
    return [*of_loss, *optimizer.numbers.values()]


def _loss_kind(loss: Loss) -> Hashable:
    return tuple((term.name, tuple(name for name, _ in term.hypers)) for term in loss.terms)


def _optimizer_kind(optimizer: Optimizer) -> Hashable:
    rest = tuple((n, v) for n, v in optimizer.options if n not in optimizer.numbers)
    return optimizer.factory, tuple(optimizer.numbers), rest


def _rows(won: Array, new: PyTree, old: PyTree) -> PyTree:
    """Row by row, the new state of winners and the old one of losers."""
    return jax.tree.map(lambda x, y: jnp.where(won.reshape(-1, *(1,) * (x.ndim - 1)), x, y), new, old)
