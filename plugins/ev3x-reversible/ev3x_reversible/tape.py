"""A training run in fixed point, and the same run backwards, which gathers hypergradients on its way.

Maclaurin, Duvenaud and Adams, ICML 2015, arXiv 1502.03492: algorithms 2 and 3. All of it runs inside of `wide`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from .fixed_point import (
    DENOMINATOR,
    LIMIT,
    WORD,
    Momentum,
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
)

Array = jax.Array
Leaves = list[Array]
Form = Literal["classical", "damped"]
Value = Callable[[Leaves, Leaves, Array], Array]


class Tape(NamedTuple):
    """What a run ends with, and all that running it backwards needs: P parameters, F flushed words for each."""

    weights: Array  # i64[P], fixed point
    velocity: Array  # i64[P], fixed point
    head: Array  # f64[P], whole numbers: the information that was not flushed
    words: Array  # u16[F, P], the information that was
    sound: Array  # bool[]: nothing left the range or was NaN, and all momenta are as declared


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
    """A schedule as steps use it, [T, G]: v ← (n/d) v + s (g + ξ w), w ← w + a v, g the gradient of the loss.

    Each is used in one product, so that no compiler can round it otherwise in the other direction.
    """

    gamma: Momentum
    s: Array  # f64
    a: Array  # f64
    decay: Array | None  # f64, s ξ


@dataclasses.dataclass(frozen=True)
class Program:
    """A run of `horizon` steps of SGD with momentum on `value(leaves, others, step)`, in both directions.

    `like` are the shapes and dtypes of the parameters, `least` / 2^16 is the smallest momentum, and `x64` the setting
    that the loss is to see.
    """

    value: Value
    like: tuple[jax.ShapeDtypeStruct, ...]
    horizon: int
    least: int
    form: Form
    x64: bool

    def start(self, leaves: Leaves) -> tuple[Array, Array, Array]:
        """Weights, velocity and head before the first step."""
        weights = fixed(flat(leaves))
        return weights, jnp.zeros_like(weights), jnp.ones(weights.shape, jnp.float64)

    def leaves(self, flat: Array) -> Leaves:
        """A vector f64[P] as the arrays that it is made of, in their dtypes."""
        ends = np.cumsum(self._sizes)
        parts = jnp.split(flat, ends[:-1])
        return [part.astype(x.dtype).reshape(x.shape) for part, x in zip(parts, self.like, strict=True)]

    def forward(self, leaves: Leaves, others: Leaves, schedule: Schedule) -> Tape:
        """The end of the run."""
        terms, words = self._terms(schedule), len(self._segments()) - 1

        def step(t: Array, carry: Any) -> Any:
            w, v, i, broken = carry
            gamma, s, a, decay = self._at(terms, t)
            v, i = multiply(v, i, gamma)
            added = [s * flat(self._gradient(self._at_rest(w), others, t))]
            if decay is not None:
                added.append(decay * floating(w))
            for x in added:
                v += fixed(x)  # v ← γ v + s (g + ξ w)
            added.append(a * floating(v))
            w += fixed(added[-1])  # w ← w + a v
            for x in (*added, floating(v), floating(w)):
                broken |= ~(jnp.abs(x) < LIMIT)  # NaN, too
            return w, v, i, broken

        def segment(carry: Any, span: tuple[Array, Array, Array]) -> tuple[Any, None]:
            inner, stack = carry
            j, first, last = span
            w, v, i, broken = jax.lax.fori_loop(first, last, step, inner)
            if words:  # after each segment but the last, a word leaves the head
                more = j < words
                j = jnp.minimum(j, words - 1)
                rest, word = pushed(i)
                stack, i = stack.at[j].set(jnp.where(more, word, stack[j])), jnp.where(more, rest, i)
            return ((w, v, i, broken), stack), None

        weights, velocity, head = self.start(leaves)
        broken = ~(jnp.abs(flat(leaves)) < LIMIT)
        stack = jnp.zeros((words, weights.size), jnp.uint16)
        carry = ((weights, velocity, head, broken), stack)
        ((weights, velocity, head, broken), stack), _ = jax.lax.scan(segment, carry, self._spans())
        return Tape(weights, velocity, head, stack, self._sound(schedule) & ~broken.any())

    def backward(
        self, tape: Tape, others: Leaves, schedule: Schedule, slope: Array, wanted: tuple[int, ...]
    ) -> tuple[tuple[Array, Array, Array], Slopes]:
        """The start of the run, rebuilt, and the derivatives of what has the slope f64[P] at the end of the weights.

        `wanted` says which of `others` to differentiate by.
        """
        terms, words, groups = self._terms(schedule), len(self._segments()) - 1, schedule.rates.shape[1]

        def step(k: Array, carry: Any) -> Any:
            (w, v, i), slopes, last = carry
            dw, dv, dothers, dschedule = slopes
            t = last - 1 - k
            gamma, s, a, decay = self._at(terms, t)
            v_f = floating(v)
            drates = self._grouped(dw * v_f, groups)
            w -= fixed(a * v_f)  # w ← w - a v
            dv += a * dw  # dv ← dv + a dw
            here = self._at_rest(w)
            g = flat(self._gradient(here, others, t))
            v -= fixed(s * g)
            if decay is not None:
                v -= fixed(decay * floating(w))
            v, i = divide(v, i, gamma)  # v ← (v - s (g + ξ w)) / γ
            pull = floating(v)
            if self.form == "damped":
                pull += g if decay is None else g + self._spread(schedule.decays[t]) * floating(w)
            dmomenta = self._grouped(dv * pull, groups)  # dγ ← dv·(v + g), v that before the step
            ddecays = None if decay is None else self._grouped(s * dv * floating(w), groups)
            hessian, mixed = self._curvature(here, others, wanted, s * dv, t)
            dw += hessian if decay is None else hessian + decay * dv  # dw ← dw + ∂/∂w (s (g + ξ w)·dv)
            dothers = [x + y for x, y in zip(dothers, mixed, strict=True)]  # dθ ← dθ + ∂/∂θ (s g·dv)
            dv *= gamma.value  # dv ← γ dv
            found = Schedule(drates, dmomenta, ddecays)
            dschedule = jax.tree.map(lambda all_, x: all_.at[t].set(x), dschedule, found)
            return (w, v, i), (dw, dv, dothers, dschedule), last

        def segment(carry: Any, span: tuple[Array, Array, Array]) -> tuple[Any, None]:
            (w, v, i), slopes = carry
            j, first, last = span
            if words:
                word = tape.words[jnp.minimum(j, words - 1)]
                i = jnp.where(j < words, pulled(i, word), i)
            state, slopes, _ = jax.lax.fori_loop(0, last - first, step, ((w, v, i), slopes, last))
            return (state, slopes), None

        zeros = jax.tree.map(lambda x: jnp.zeros(x.shape, jnp.float64), schedule)
        dothers = [jnp.zeros(others[i].shape, jnp.float64) for i in wanted]
        slopes = (slope, jnp.zeros_like(slope), dothers, zeros)
        carry = (tuple(tape[:3]), slopes)
        (state, (dw, _, dothers, dschedule)), _ = jax.lax.scan(segment, carry, self._spans(), reverse=True)
        sign = 1.0 if self.form == "damped" else -1.0
        return state, Slopes(dw, dothers, dschedule._replace(rates=sign * dschedule.rates))

    def _at_rest(self, w: Array) -> Leaves:
        """The weights as the loss reads them."""
        return jax.lax.optimization_barrier(self.leaves(floating(w)))

    def _gradient(self, leaves: Leaves, others: Leaves, t: Array) -> Leaves:
        """The gradient, with the same bits wherever it is computed: the barriers part its program from what is around
        it, with which a compiler might fuse it in one direction and not in the other.
        """
        leaves, others = jax.lax.optimization_barrier((leaves, others))
        with narrow(self.x64):
            return jax.lax.optimization_barrier(jax.grad(self.value)(leaves, others, t))

    def _curvature(
        self, leaves: Leaves, others: Leaves, wanted: tuple[int, ...], direction: Array, t: Array
    ) -> tuple[Array, Leaves]:
        """∂/∂w (g·u) and ∂/∂θ (g·u) for u = direction: what the gradient by (w, θ) changes by along u, which needs no
        second pass backwards, because second derivatives are symmetric.
        """
        along = self.leaves(direction)

        def value(leaves: Leaves, some: Leaves) -> Array:
            mixed = list(others)
            for i, x in zip(wanted, some, strict=True):
                mixed[i] = x
            return self.value(leaves, mixed, t)

        def slopes(leaves: Leaves) -> tuple[Leaves, Leaves]:
            return jax.grad(value, argnums=(0, 1))(leaves, [others[i] for i in wanted])

        with narrow(self.x64):
            hessian, mixed = jax.jvp(slopes, (leaves,), (along,))[1]
        return flat(hessian), [x.astype(jnp.float64) for x in mixed]

    def _terms(self, schedule: Schedule) -> Terms:
        n = jnp.clip(numerators(schedule.momenta), self.least, DENOMINATOR - 1)
        rates = schedule.rates.astype(jnp.float64)
        damped = self.form == "damped"
        s = (n - DENOMINATOR).astype(jnp.float64) / DENOMINATOR if damped else jnp.ones(n.shape, jnp.float64)
        decay = None if schedule.decays is None else s * schedule.decays.astype(jnp.float64)
        return jax.lax.optimization_barrier(Terms(momentum(n), s, rates if damped else -rates, decay))

    def _sound(self, schedule: Schedule) -> Array:
        n = numerators(schedule.momenta)
        finite = [jnp.isfinite(x).all() for x in jax.tree.leaves(schedule)]
        return jnp.stack([(n >= self.least).all(), (n < DENOMINATOR).all(), *finite]).all()

    def _at(self, terms: Terms, t: Array) -> Terms:
        return jax.tree.map(lambda x: self._spread(x[t]), terms)

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
        return list(zip(ends[:-1], ends[1:], strict=True))

    def _spans(self) -> tuple[Array, Array, Array]:
        first, last = np.array(self._segments(), np.int32).T
        return jnp.arange(len(first), dtype=jnp.int32), jnp.asarray(first), jnp.asarray(last)


def flat(leaves: Leaves) -> Array:
    """Arrays as one vector f64[P]."""
    return jnp.concatenate([x.reshape(-1).astype(jnp.float64) for x in leaves])
