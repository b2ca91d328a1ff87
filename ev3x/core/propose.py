"""Explore: proposers make candidates from the current variables."""

from __future__ import annotations

import abc
import dataclasses
from typing import ClassVar, Literal

import jax.numpy as jnp

from ..component import Component
from .data import Explore
from .layout import Site
from .task import Task
from .types import Array, Candidates, Feedback, PyTree, Variables

Need = Literal["meta", "hypers", "x64"]


@dataclasses.dataclass(frozen=True)
class Proposer(Component):
    """Makes candidates. `propose` reads the proposer's state; only `learn` writes it, after the round has a winner.

    `needs` says what a run must have. `idles` says that it may wait for many rounds without an eligible candidate, on
    purpose (a population between two rungs). Without it, a run warns of a proposer that has no candidate that could
    win, five rounds in a row.
    """

    role: ClassVar[str] = "proposer"
    needs: ClassVar[frozenset[Need]] = frozenset()
    idles: ClassVar[bool] = False

    @abc.abstractmethod
    def labels(self, site: Site) -> tuple[str, ...]:
        """The name of each candidate, for people; K is how many there are."""
        raise NotImplementedError

    def init(self, site: Site, key: Array, current: Variables) -> PyTree:
        """The state before the first round, any pytree of arrays; `learn` keeps its structure, shapes, dtypes."""
        return ()

    @abc.abstractmethod
    def propose(self, site: Site, key: Array, current: Variables, state: PyTree, explore: Explore) -> Candidates:
        """K candidates: their variables stacked on a leading axis, and what this proposer needs to learn from them.

        Args:
            site: the task and how candidates are laid out; `site.each` maps over candidates.
            key: a typed key of this round and this proposer.
            current: the variables to start from, in the structure that `Task.init` returns.
            state: this proposer's state, as `init` or the last `learn` returned it.
            explore: the training split; `explore.draw(key, steps)` and `explore.batch(drawn)` give batches.

        Returns:
            `Candidates`: `variables` has the structure of `current`, each leaf [K, *shape] of the same dtype;
            `eligible` bool[K]; `steps` i32[]; `memo` any pytree, which `learn` gets back; `notes` arrays [K, ...].
        """
        raise NotImplementedError

    def learn(self, site: Site, key: Array, state: PyTree, candidates: Candidates, feedback: Feedback) -> PyTree:
        """The next state, in the structure, shapes and dtypes of `state`; by default `state`: losers leave no trace.

        Args:
            site: as for `propose`.
            key: a typed key of this round and this proposer, another one than `propose` got.
            state: the state that `propose` read.
            candidates: what `propose` returned, non-finite candidates made ineligible.
            feedback: how these candidates did: `value` f32[K], `mean` f32[K, M], `won` bool[K], and the decision.

        To recognise a promotion: `feedback.decision.promote` says that the next current variables become the incumbent,
        `feedback.won & feedback.decision.promote` that they are a candidate of this proposer. The variables themselves
        are the `current` of the next `propose`.
        """
        return state

    def resize(self, site: Site, key: Array, current: Variables, state: PyTree, *, fresh: bool) -> PyTree:
        """The state for a model whose shape changed; by default the one that `init` returns.

        Where an array of the model grew, its old entries come first. `fresh` says that the current variables were drawn
        anew, instead of grown from the earlier ones.
        """
        return self.init(site, key, current)


def check_needs(label: str, proposer: Proposer, task: Task, explore: Explore) -> None:
    """Raise ValueError when a proposer needs what the run does not have."""
    lacks = {
        "meta": explore.meta is None and "a meta split: Explore(..., meta=Explore(...))",
        "hypers": not task.hypers and "hyperparameters: a task that declares `hypers`",
        "x64": jnp.result_type(float) != jnp.float64 and "64-bit types: jax.config.update('jax_enable_x64', True)",
    }
    if not isinstance(proposer.needs, set | frozenset) or not proposer.needs <= lacks.keys():
        known = ", ".join(map(repr, lacks))
        raise ValueError(f"proposer {label!r}: `needs` must be a set of {known}, got {proposer.needs!r}")
    for need in sorted(proposer.needs):
        if lacks[need]:
            raise ValueError(f"proposer {label!r} needs {lacks[need]}")
