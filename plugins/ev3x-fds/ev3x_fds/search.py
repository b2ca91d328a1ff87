"""How schedules move by their hypergradients: by the sign, as in the paper, or with Adam."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import optax

from .schedules import Schedule, Values, starts, within

Array = jax.Array
Update = Literal["sign", "adam"]


class Search(NamedTuple):
    """Where the search for schedules is; all but the last two by hyperparameter, f[windows].

    `values` are those of the next run, `steps` how far each moves, `signs` the last directions, `sound` the values of
    the last run that was finite, `moments` what Adam keeps, `stopped` bool[] whether the stopping rule holds.
    """

    values: dict[str, Array]
    steps: dict[str, Array]
    signs: dict[str, Array]
    sound: dict[str, Array]
    moments: Any
    stopped: Array


def begun(schedules: Sequence[Schedule], update: Update, dtype: Any = jnp.float32) -> Search:
    """The search before the first run."""
    values = starts(schedules, dtype)
    steps = {s.name: jnp.full(s.windows, s.step, dtype) for s in schedules}
    zeros = {n: jnp.zeros_like(v) for n, v in values.items()}
    moments = optax.scale_by_adam().init(values) if update == "adam" else ()
    return Search(values, steps, zeros, values, moments, jnp.asarray(False))


def moved(
    schedules: Sequence[Schedule],
    update: Update,
    tolerance: float,
    search: Search,
    gradient: Values,
    finite: Array,
) -> Search:
    """The search after a run with this hypergradient.

    Of a run that was not finite nothing is known but that it went too far: the values go half the way back to those of
    the last run that was finite, and from there half as far as before.
    """
    gradient = {n: jnp.where(finite, g, 0) for n, g in gradient.items()}
    found = (_by_sign if update == "sign" else _by_adam)(search, gradient)
    found = found._replace(values=within(schedules, found.values), sound=search.values)
    back = search._replace(
        values={n: (v + search.sound[n]) / 2 for n, v in search.values.items()},
        steps={n: s / 2 for n, s in search.steps.items()},
    )
    found = jax.tree.map(lambda a, b: jnp.where(finite, a, b), found, back)
    # step / λ < tolerance for all, without the division: λ may be 0, and then has not arrived
    arrived = [(s < tolerance * jnp.abs(found.values[n])).all() for n, s in found.steps.items()]
    return found._replace(stopped=search.stopped | (finite & jnp.stack(arrived).all()))


def _by_sign(search: Search, gradient: Values) -> Search:
    signs = {n: jnp.sign(g) for n, g in gradient.items()}  # s = sign(h)
    # where the sign turned, half the step
    steps = {
        n: jnp.where(s * search.signs[n] < 0, 0.5, 1.0).astype(s.dtype) * search.steps[n] for n, s in signs.items()
    }
    values = {n: v - signs[n] * steps[n] for n, v in search.values.items()}  # λ <- λ - s step
    return search._replace(values=values, steps=steps, signs=signs)


def _by_adam(search: Search, gradient: Values) -> Search:
    with jax.numpy_dtype_promotion("standard"):  # optax takes a power of a decay and a count
        ways, moments = optax.scale_by_adam().update(dict(gradient), search.moments)
    values = {n: v - ways[n] * search.steps[n] for n, v in search.values.items()}
    return search._replace(values=values, moments=moments)
