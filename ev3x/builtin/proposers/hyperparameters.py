"""Hyperparameters that are sampled afresh every round; each sample trains one candidate."""

from __future__ import annotations

import dataclasses
from typing import Annotated, Literal

import jax
import jax.numpy as jnp
import optax
from typing_extensions import Doc

from ...component import Count, Fault, Kit, Many, unknown
from ...core.data import Explore
from ...core.layout import Site
from ...core.propose import Proposer
from ...core.types import Array, Candidates, Feedback, PyTree, Variables
from ...training.losses import Loss
from ...training.optimizers import Optimizer
from ...training.ranges import Ranges
from ...training.steps import carried, check_loss, follow, numbers, train


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class SampleState:
    """The optimizer state that candidates start from, now and at the incumbent's promotion; the number of samples."""

    optimizer: PyTree
    promoted: PyTree
    offset: Array  # u32[D], the first point of the sequence
    sampled: Array  # u32[]


@dataclasses.dataclass(frozen=True)
class Hyperparameters(Proposer):
    """`count` trajectories whose learning rate, weight decay, temperature... are drawn from ranges, anew every round.

    A range is named after a number of the optimizer or a hyperparameter of the task's losses. All candidates start from
    the optimizer state of the last winner. Quasi-random points come from Roberts' R sequence (2018), an additive
    recurrence that fills D dimensions evenly over all rounds; it begins at a random offset.
    """

    loss: Annotated[Loss, Doc("the loss, or a weighted sum")]
    optimizer: Annotated[Optimizer, Doc("the optimizer; its sampled options need a value here all the same")]
    ranges: Annotated[Ranges, Doc("name = { low = ..., high = ..., log = false } for everything that is sampled")]
    count: Annotated[Many, Doc("candidates per round")] = 8
    length: Annotated[Count, Doc("gradient steps per candidate and round")] = 100
    sampling: Annotated[Literal["quasi", "random"], Doc("quasi-random or independent points")] = "quasi"

    kit = Kit(
        {
            "loss": "logistic",
            "optimizer": {"name": "sgd", "learning_rate": 0.1, "momentum": 0.9},
            "ranges": {"learning_rate": {"low": 0.01, "high": 1.0, "log": True}},
            "count": 3,
            "length": 3,
        }
    )

    def check(self) -> list[Fault]:
        """A fault when there is no range."""
        return [] if self.ranges else [Fault(("ranges",), "needs at least one entry")]

    def labels(self, site: Site) -> tuple[str, ...]:
        """`sample 0`, `sample 1`, ...; the record notes their values."""
        return tuple(f"sample {i}" for i in range(self.count))

    def init(self, site: Site, key: Array, current: Variables) -> SampleState:
        """A fresh optimizer state."""
        if fault := check_loss(site.task, self.loss):
            raise ValueError(f"hyperparameters: {fault}")
        options, hypers = self.optimizer.numbers, numbers(site.task)
        for r in self.ranges:
            if r.name not in {*options, *hypers}:
                raise ValueError(f"hyperparameters: {unknown('range', r.name, {*options, *hypers})}")
            if r.name in options and r.name in hypers:
                raise ValueError(
                    f"hyperparameters: range {r.name!r} names an option of the optimizer and a hyperparameter of the "
                    "task: call one of them otherwise"
                )
        offset = jax.random.bits(key, (len(self.ranges),), jnp.uint32)
        fresh = self.optimizer.build().init(current["params"])
        return SampleState(fresh, fresh, offset, jnp.uint32(0))

    def resize(self, site: Site, key: Array, current: Variables, state: SampleState, *, fresh: bool) -> SampleState:
        """The state with the same sequence of samples; optimizer states continue unless the model was drawn anew."""
        first = self.init(site, key, current)
        first = first if fresh else carried(state, first)
        return dataclasses.replace(first, offset=state.offset, sampled=state.sampled)

    def propose(self, site: Site, key: Array, current: Variables, state: SampleState, explore: Explore) -> Candidates:
        """The end points of all trajectories, and the sampled values as notes."""
        values = self._sample(key, state)
        drawn = explore.draw(key, self.length)

        def run(values: dict[str, Array]) -> tuple[Variables, PyTree, Array]:
            optimizer = self._build(values)
            hypers = {n: v for n, v in values.items() if n in site.task.hypers}
            return train(
                site.task,
                self.loss,
                optimizer,
                current,
                state.optimizer,
                explore,
                drawn,
                key,
                steps=self.length,
                hypers=hypers,
            )

        variables, opt_states, finite = site.each(run, values)
        return Candidates(variables, finite, jnp.int32(self.count * self.length), memo=opt_states, notes=values)

    def learn(
        self, site: Site, key: Array, state: SampleState, candidates: Candidates, feedback: Feedback
    ) -> SampleState:
        """The winner's optimizer state, or the old one."""
        won, best = feedback.won.any(), jnp.argmax(feedback.won)
        moved = jax.tree.map(lambda x, y: jnp.where(won, x[best], y), candidates.memo, state.optimizer)
        optimizer, promoted = follow(feedback.decision, moved, state.promoted)
        return SampleState(optimizer, promoted, state.offset, state.sampled + jnp.uint32(self.count))

    def _build(self, values: dict[str, Array]) -> optax.GradientTransformation:
        built: optax.GradientTransformation = self.optimizer.build(
            **{n: v for n, v in values.items() if n in self.optimizer.numbers}
        )
        return built

    def _sample(self, key: Array, state: SampleState) -> dict[str, Array]:
        d = len(self.ranges)
        if self.sampling == "random":
            u = jax.random.uniform(jax.random.fold_in(key, 2**31 + 1), (self.count, d))
        else:
            index = state.sampled + jnp.arange(self.count, dtype=jnp.uint32)
            # Fixed point in 32 bits: the fractional part is exact however long the sequence grows.
            steps = jnp.array([_r_sequence(d)], jnp.uint32)
            bits = state.offset[None] + index[:, None] * steps
            u = (bits >> 8).astype(jnp.float32) * 2.0**-24
        return {r.name: r.at(u[:, i]) for i, r in enumerate(self.ranges)}


def _r_sequence(d: int) -> list[int]:
    """The steps of the R sequence in units of 2^-32: powers of 1/g, where g^(d+1) = g + 1."""
    g = 1.5
    for _ in range(64):
        g = (1 + g) ** (1 / (d + 1))
    return [round(2**32 * g ** -(i + 1)) % 2**32 for i in range(d)]
