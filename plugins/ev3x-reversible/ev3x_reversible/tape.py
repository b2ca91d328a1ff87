"""A training run in fixed point, and the same run backwards, which gathers hypergradients on its way.

Maclaurin, Duvenaud and Adams, ICML 2015, arXiv 1502.03492: algorithms 2 and 3. All of it runs inside of `wide`.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from .fixed_point import (
    DENOMINATOR,
    END,
    WORD,
    Momentum,
    checked,
    divide,
    fixed,
    floating,
    flushes,
    momentum,
    multiply,
    narrow,
    numerators,
    pulled,
    pushed,
    size,
    wide,
)

Array = jax.Array
Leaves = list[Array]
Form = Literal["classical", "damped"]
Value = Callable[[Leaves, Leaves, Any], Array]
Draw = Callable[[Leaves, Array], Any]


class Tape(NamedTuple):
    """What a run ends with, and all that running it backwards needs: P parameters, F flushed words for each."""

    weights: Array  # i64[P], fixed point
    velocity: Array  # i64[P], fixed point
    head: Array  # f64[P], whole numbers: the information that was not flushed
    words: Array  # u16[F, P], the information that was
    sound: Array  # bool[]: nothing left the range or was NaN, and all momenta are as declared

    def bits(self) -> Array:
        """The information kept for each parameter, f64[P]: 16 bits a flushed word + log2(head + 1)."""
        with wide():
            return WORD * self.words.shape[0] + jnp.log2(self.head + 1)

    def save(self, path: str | Path) -> None:
        """Writes the tape to a file, .npz."""
        arrays: dict[str, Any] = {name: np.asarray(x) for name, x in self._asdict().items()}
        np.savez(path, **arrays)

    @classmethod
    def load(cls, path: str | Path) -> Tape:
        """The tape that `save` wrote. (Whoever hands 64-bit arrays of numpy to JAX by himself gets 32 bits.)"""
        with np.load(path) as saved, wide():
            return cls(*(jnp.asarray(saved[name]) for name in cls._fields))


class Schedule(NamedTuple):
    """What each step does, [T, G] for G groups of parameters: one, or one for each array."""

    rates: Array
    momenta: Array
    decays: Array | None


class Slopes(NamedTuple):
    """Derivatives with respect to the initial weights f64[P], what else the loss reads, and the schedule."""

    weights: Array
    others: Leaves
    schedule: Schedule


class Terms(NamedTuple):
    """What one step uses: v ← (n/d) v + s (g + ξ w), w ← w + a v, g the gradient of the loss.

    Each is used in one product, so that no compiler can round it otherwise in the other direction.
    """

    gamma: Momentum
    s: Array  # f64
    a: Array  # f64
    decay: Array | None  # f64, s ξ


@dataclasses.dataclass(frozen=True)
class Program:
    """A run of `horizon` steps of SGD with momentum on `value(leaves, others, batch)`, in both directions.

    The batch of a step is `draw(sources, step)`. `like` are the shapes and dtypes of the parameters, `least` / 2^16 is
    the smallest momentum, and `x64` the setting that draw and loss are to see.
    """

    value: Value
    draw: Draw
    like: tuple[jax.ShapeDtypeStruct, ...]
    horizon: int
    least: int
    form: Form
    x64: bool

    def start(self, leaves: Leaves) -> tuple[Array, Array, Array]:
        """Weights, velocity and head before the first step."""
        weights = checked(flat(leaves))
        return weights, jnp.zeros_like(weights), jnp.ones(weights.shape, jnp.float64)

    def leaves(self, flat: Array) -> Leaves:
        """A vector f64[P] as the arrays that it is made of, in their dtypes."""
        ends = np.cumsum(self._sizes)
        parts = jnp.split(flat, ends[:-1])
        return [part.astype(x.dtype).reshape(x.shape) for part, x in zip(parts, self.like, strict=True)]

    def forward(self, leaves: Leaves, others: Leaves, sources: Leaves, schedule: Schedule) -> Tape:
        """The end of the run."""
        words = len(self._segments()) - 1

        def step(t: Array, carry: Any) -> Any:
            w, v, i, most = carry
            gamma, s, a, decay = self._terms(schedule, t)
            most = jnp.maximum(most, jnp.maximum(size(w), size(v)))
            v, i = apart(t, multiply, v, i, gamma)
            g = flat(self._gradient(self.leaves(floating(w)), others, self._batch(sources, t), t))
            v += checked(s * g)
            if decay is not None:
                v += checked(decay * floating(w))  # v ← γ v + s (g + ξ w)
            w += checked(a * floating(v))  # w ← w + a v
            return w, v, i, most

        def segment(carry: Any, span: tuple[Array, Array, Array]) -> tuple[Any, None]:
            inner, stack = carry
            j, first, last = span
            w, v, i, most = jax.lax.fori_loop(first, last, step, inner)
            if words:  # after each segment but the last, a word leaves the head
                more = j < words
                j = jnp.minimum(j, words - 1)
                rest, word = pushed(i)
                stack, i = stack.at[j].set(jnp.where(more, word, stack[j])), jnp.where(more, rest, i)
            return ((w, v, i, most), stack), None

        weights, velocity, head = self.start(leaves)
        stack = jnp.zeros((words, weights.size), jnp.uint16)
        carry = ((weights, velocity, head, jnp.zeros_like(weights)), stack)
        ((weights, velocity, head, most), stack), _ = jax.lax.scan(segment, carry, self._spans())
        most = jnp.maximum(most, jnp.maximum(size(weights), size(velocity)))
        return Tape(weights, velocity, head, stack, self._sound(schedule) & (most < END).all())

    def backward(
        self,
        tape: Tape,
        others: Leaves,
        sources: Leaves,
        schedule: Schedule,
        slope: Array,
        wanted: tuple[int, ...],
    ) -> tuple[tuple[Array, ...], Slopes]:
        """The start of the run, rebuilt, and the derivatives of what has the slope f64[P] at the end of the weights.

        `wanted` says which of `others` to differentiate by.
        """
        words, groups = len(self._segments()) - 1, schedule.rates.shape[1]

        def step(k: Array, carry: Any) -> Any:
            (w, v, i), slopes, last = carry
            dw, dv, dothers, dschedule = slopes
            t = last - 1 - k
            gamma, s, a, decay = self._terms(schedule, t)
            drates = self._grouped(dw * floating(v), groups)
            w = apart(t, lambda w, v, a: w - fixed(a * floating(v)), w, v, a)  # w ← w - a v
            dv += a * dw  # dv ← dv + a dw
            here, batch = self.leaves(floating(w)), self._batch(sources, t)
            g = flat(self._gradient(here, others, batch, t))
            v -= fixed(s * g)
            if decay is not None:
                v -= fixed(decay * floating(w))
            v, i = apart(t, divide, v, i, gamma)  # v ← (v - s (g + ξ w)) / γ
            pull = floating(v)
            if self.form == "damped":
                pull += g if schedule.decays is None else g + self._spread(schedule.decays[t]) * floating(w)
            dmomenta = self._grouped(dv * pull, groups)  # dγ ← dv·(v + g), v that before the step
            ddecays = None if decay is None else self._grouped(s * dv * floating(w), groups)
            hessian, mixed = self._curvature(here, others, batch, wanted, s * dv)
            dw += hessian if decay is None else hessian + decay * dv  # dw ← dw + ∂/∂w (s (g + ξ w)·dv)
            dothers = [x + y for x, y in zip(dothers, mixed, strict=True)]  # dθ ← dθ + ∂/∂θ (s g·dv)
            dv *= gamma.value  # dv ← γ dv
            found = Schedule(drates, dmomenta, ddecays)
            dschedule = jax.tree.map(lambda all_, x: all_.at[t].set(x.astype(all_.dtype)), dschedule, found)
            return (w, v, i), (dw, dv, dothers, dschedule), last

        def segment(carry: Any, span: tuple[Array, Array, Array]) -> tuple[Any, None]:
            (w, v, i), slopes = carry
            j, first, last = span
            if words:
                word = tape.words[jnp.minimum(j, words - 1)]
                i = jnp.where(j < words, pulled(i, word), i)
            state, slopes, _ = jax.lax.fori_loop(0, last - first, step, ((w, v, i), slopes, last))
            return (state, slopes), None

        zeros = jax.tree.map(jnp.zeros_like, schedule)
        dothers = [jnp.zeros(others[i].shape, jnp.float64) for i in wanted]
        slopes = (slope, jnp.zeros_like(slope), dothers, zeros)
        carry = (tuple(tape[:3]), slopes)
        (state, (dw, _, dothers, dschedule)), _ = jax.lax.scan(segment, carry, self._spans(), reverse=True)
        sign = 1.0 if self.form == "damped" else -1.0
        return state, Slopes(dw, dothers, dschedule._replace(rates=sign * dschedule.rates))

    def _batch(self, sources: Leaves, t: Array) -> Any:
        """The batch of step t, with the same bits in both directions."""

        def draw(sources: Leaves) -> Any:
            with narrow(self.x64):
                return self.draw(sources, t)

        return apart(t, draw, sources)

    def _gradient(self, leaves: Leaves, others: Leaves, batch: Any, t: Array) -> Leaves:
        """The gradient, with the same bits in both directions."""

        def gradient(leaves: Leaves, others: Leaves, batch: Any) -> Leaves:
            with narrow(self.x64):
                return jax.grad(self.value)(leaves, others, batch)

        return apart(t, gradient, leaves, others, batch)

    def _curvature(
        self, leaves: Leaves, others: Leaves, batch: Any, wanted: tuple[int, ...], direction: Array
    ) -> tuple[Array, Leaves]:
        """∂/∂w (g·u) and ∂/∂θ (g·u) for u = direction: what the gradient by (w, θ) changes by along u, which needs no
        second pass backwards, because second derivatives are symmetric.
        """
        along = self.leaves(direction)

        def value(leaves: Leaves, some: Leaves) -> Array:
            mixed = list(others)
            for i, x in zip(wanted, some, strict=True):
                mixed[i] = x
            return self.value(leaves, mixed, batch)

        def slopes(leaves: Leaves) -> tuple[Leaves, Leaves]:
            return jax.grad(value, argnums=(0, 1))(leaves, [others[i] for i in wanted])

        with narrow(self.x64):
            hessian, mixed = jax.jvp(slopes, (leaves,), (along,))[1]
        return flat(hessian), [x.astype(jnp.float64) for x in mixed]

    def _terms(self, schedule: Schedule, t: Array) -> Terms:
        """Those of step t: [1], or with a number for each group, [P]. They are not kept for all steps."""
        rate = schedule.rates[t].astype(jnp.float64)
        n = jnp.clip(numerators(schedule.momenta[t]), self.least, DENOMINATOR - 1)
        damped = self.form == "damped"
        s = (n - DENOMINATOR).astype(jnp.float64) / DENOMINATOR if damped else jnp.ones(n.shape, jnp.float64)
        decay = None if schedule.decays is None else s * schedule.decays[t].astype(jnp.float64)
        terms = Terms(momentum(n), s, rate if damped else -rate, decay)
        return jax.tree.map(self._spread, jax.lax.optimization_barrier(terms))

    def _sound(self, schedule: Schedule) -> Array:
        n = numerators(schedule.momenta)
        finite = [jnp.isfinite(x).all() for x in jax.tree.leaves(schedule)]
        return jnp.stack([(n >= self.least).all(), (n < DENOMINATOR).all(), *finite]).all()

    def _spread(self, groups: Array) -> Array:
        """[1] or, for one number a group, [P]."""
        sizes = self._sizes
        return groups if groups.size == 1 else jnp.repeat(groups, np.array(sizes), total_repeat_length=sum(sizes))

    def _grouped(self, x: Array, groups: int) -> Array:
        if groups == 1:
            return x.sum(keepdims=True)
        return jnp.stack([part.sum() for part in jnp.split(x, np.cumsum(self._sizes)[:-1])])

    @property
    def _sizes(self) -> list[int]:
        return [int(np.prod(x.shape)) for x in self.like]

    def _segments(self) -> list[tuple[int, int]]:
        """From which step to which: words leave the head in between."""
        ends = [0, *flushes(self.horizon, self.least), self.horizon]
        return list(itertools.pairwise(ends))

    def _spans(self) -> tuple[Array, Array, Array]:
        first, last = np.array(self._segments(), np.int32).T
        return jnp.arange(len(first), dtype=jnp.int32), jnp.asarray(first), jnp.asarray(last)


def flat(leaves: Leaves) -> Array:
    """Arrays as one vector f64[P]."""
    return jnp.concatenate([x.reshape(-1).astype(jnp.float64) for x in leaves])


def apart(t: Array, f: Callable[..., Any], *args: Any) -> Any:
    """f(*args), computed apart from what is around it.

    A compiler fuses operations with their neighbours, which decides how sums and products are rounded; barriers do not
    keep XLA's CPU compiler from that. A branch of a conditional is a computation of its own, the same wherever it
    stands. The other branch is never taken: t is the number of a step, which the compiler does not know.
    """
    like = jax.eval_shape(f, *args)
    return jax.lax.cond(t >= 0, f, lambda *_: jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), like), *args)
