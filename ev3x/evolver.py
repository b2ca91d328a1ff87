"""Embedding: the rounds over a user's own data, in a few calls."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from . import wrong_sums
from .core import contract, loop
from .core.data import Splits
from .core.layout import Layout
from .core.loop import Limit
from .core.plan import Method, Plan
from .core.programs import Programs, programs
from .core.streams import Feed, StreamEnded, StreamFault
from .core.task import Task
from .core.types import Array, Record, State, Variables
from .ops import native as _native
from .values import checked_seed, integer


class Evolver:
    """Runs a method on a task over given splits, or over a feed of streamed ones.

        evolver = Evolver(task, method, splits)
        state = evolver.init(0)
        state, records = evolver.rounds(state, 60)

    `state` holds all that a run needs to go on, except for the plan, which changes when the model grows. `native`:
    "off" uses only jax.numpy, "require" makes it an error when native code that a round needs cannot be used.
    Evolvers of equal plans share their compiled programs, which go with the last of them.
    """

    def __init__(
        self,
        task: Task,
        method: Method,
        data: Splits | Feed,
        layout: Layout | None = None,
        native: _native.Mode = "auto",
    ) -> None:
        self._held: dict[Plan, Programs] = {}
        self.plan = Plan(task, method, layout or Layout(), native=_native.checked(native))
        self.data = data
        self._fresh = True  # only a feed's first block is searched for shared examples: all would cost too much
        wrong_sums.warn()
        if not isinstance(data, Splits | Feed):
            raise TypeError(f"data must be Splits(...) or Feed(...), got {type(data).__name__}")
        if isinstance(data, Splits):
            self.plan.check(data)

    @property
    def plan(self) -> Plan:
        """What its rounds are compiled for: another one when the model has grown."""
        return self._plan

    @plan.setter
    def plan(self, plan: Plan) -> None:
        self._plan = plan
        # Those of earlier plans stay: a growth that is undone comes back to one.
        self._programs = self._held.setdefault(plan, programs(plan))

    def init(self, key: Array | int, variables: Variables | None = None) -> State:
        """The state before the first round, from fresh variables or from given ones; a seed is at most 2^32 - 1."""
        if not isinstance(variables, Mapping | None):
            kind = type(variables).__name__
            raise TypeError(f"the variables must be a mapping of collections with 'params', got {kind}")
        state: State = self._programs.of(loop.init)(_key(key), variables)
        return state

    def round(self, state: State) -> tuple[State, Record]:
        """The state after one round, and its record."""
        state, records = self.rounds(state, 1)
        return state, jax.tree.map(lambda x: x[0], records)

    def rounds(self, state: State, n: int) -> tuple[State, Record]:
        """The state after n rounds and their records on a leading axis.

        With data on the device this is one XLA program, interrupted only by host transitions that adapters ask for.
        Streamed data take one call per block, and n must be the rounds of whole blocks. When a stream ends or fails,
        fewer than n rounds come back, and the next call raises.
        """
        each = self.data.rounds if isinstance(self.data, Feed) else 1
        n = integer("rounds", n)
        if n % each:
            raise ValueError(f"rounds must be a multiple of {each}, the rounds on one block of the feed, got {n}")
        parts: list[Record] = []
        done = 0
        while done < n:
            try:
                state, records = self.chunk(state, Limit(jnp.int32(n - done)), capacity=n)
            except (StreamEnded, StreamFault):
                if not parts:
                    raise
                break
            parts.append(records)
            done += records.round.size
        return state, _joined(parts)

    def chunk(self, state: State, limit: Limit, *, capacity: int) -> tuple[State, Record]:
        """The state after one call of the compiled program, up to the limit, and the records of the rounds that ran.

        `capacity`, the most rounds of a call, is compiled in; `limit` is not. Host transitions follow at once. A call
        uses up one block of a feed, whatever the limit on rounds: the data of a round must not depend on how rounds are
        divided into calls.
        """
        contract.instance("`state`", state, State)
        if isinstance(self.data, Splits):
            state, records, _ = self._call(self.data, state, limit, capacity)
            return state, records
        splits, parts, left, called = self.data.next(state.spent), [], self.data.rounds, True
        self.plan.check(splits, disjoint=self._fresh, rounds=self.data.rounds)
        self._fresh = False
        while left and called:  # after a transition, run the rest of the block
            limit = dataclasses.replace(limit, rounds=jnp.int32(left))
            state, records, called = self._call(splits, state, limit, self.data.rounds)
            parts.append(records)
            left -= records.round.size
        return state, _joined(parts)

    def _call(self, splits: Splits, state: State, limit: Limit, capacity: int) -> tuple[State, Record, bool]:
        """The state and records of one call of the program, with its host transition, and whether there was one."""
        state, records, done = self._programs.of(loop.rounds)(splits, state, limit, capacity=capacity)
        if int(done) < capacity:
            records = jax.tree.map(lambda x: x[: int(done)], records)
        if not int(done) or not bool(loop.called(self.plan, records.decision)[-1]):
            return state, records, False
        last = jax.tree.map(lambda x: x[-1], records.decision)
        probe = None
        if last.calls.any():  # a promotion across shapes alone needs no probe
            probe = splits.explore.batch(jax.tree.map(lambda x: x[0], splits.explore.draw(state.key, 1)))
        self.plan, state = loop.transition(self.plan, state, last, probe)
        return state, records, True


def _key(key: Any) -> Array:
    """The key itself, or that of a seed; ValueError for what is neither."""
    array = isinstance(key, jax.Array | np.ndarray)
    raw = array and key.ndim == 1 and key.dtype == jnp.uint32  # as jax.random.PRNGKey makes it
    if raw or (array and not key.shape and jnp.issubdtype(key.dtype, jax.dtypes.prng_key)):
        return key
    if array and key.shape:
        raise ValueError(f"a key must be one key or a seed, got {contract.described(key)}")
    return jax.random.key(checked_seed(key))


def _joined(parts: list[Record]) -> Record:
    return parts[0] if len(parts) == 1 else jax.tree.map(lambda *x: jnp.concatenate(x), *parts)
