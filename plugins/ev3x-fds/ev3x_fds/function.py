"""Schedules learned over training runs, as plain functions: FDS, and random search to compare it with."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from ev3x import training

from . import search
from .hypergradients import differentiated, sound
from .rules import SGD, Rule
from .run import MetaLoss, Options, TrainLoss, begun, full, plain
from .schedules import PAPER, Schedule, drawn, length

Array = jax.Array
PyTree = Any


class Found(NamedTuple):
    """The schedules of lowest meta loss, that loss f[], the parameters after their run, and all runs in `history`.

    `history` holds arrays with a leading axis of runs: "value" f[runs] (inf: the run was not finite, or did not take
    place, because the search had stopped) and "schedules", by name f[runs, windows].
    """

    schedules: dict[str, Array]
    value: Array
    params: PyTree
    history: dict[str, Any]


def fds(
    train_loss: TrainLoss,
    meta_loss: MetaLoss,
    params: PyTree,
    schedules: Sequence[Schedule] = PAPER,
    *,
    horizon: int,
    outer: int = 10,
    rule: Rule = SGD,
    update: search.Update = "sign",
    tolerance: float = 0.05,
    chunk: int | None = None,
    clip_gradient: float | None = None,
    clip_tangent: float | None = None,
    greedy: bool = False,
) -> Found:
    """The best schedules that `outer` steps of forward-mode differentiation with sharing find (arXiv 2007.07869).

    Every outer step is a run of `horizon` steps from `params`, with its hypergradient; what the last step leads to is
    tried in a run without. The losses, `rule`, `chunk`, the clips and `greedy` are those of `hypergradient`.
    `update="sign"` moves every value by its step, which is halved whenever the sign turns; "adam" moves it by that many
    units of Adam. The search stops when every step is below `tolerance` of its value. It can be jitted and mapped.
    """
    specs, options = tuple(schedules), Options(chunk, clip_gradient, clip_tangent, greedy)
    train, meta = full(train_loss, meta_loss)
    first = search.begun(_checked(specs, horizon, outer, rule, update), update, _dtype(params))

    def trial(values: Any, value: Array, run: Any, i: Array, best: Found) -> Found:
        """The best of all runs so far, this one included."""
        value = jnp.where(run.finite, value, jnp.inf)
        past = jax.tree.map(lambda all_, x: all_.at[i].set(x), best.history, {"value": value, "schedules": values})
        better = value < best.value
        here, there = (values, value, run.params), (best.schedules, best.value, best.params)
        schedules, value, params = training.where(better, here, there)
        return Found(schedules, value, params, past)

    def step(carry: tuple[Array, search.Search, Found]) -> tuple[Array, search.Search, Found]:
        i, at, best = carry
        start = begun(params, (), at.values, horizon, rule)
        value, gradient, run = differentiated(train, meta, start, at.values, horizon, rule, options)
        best = trial(at.values, value, run, i, best)
        return i + 1, search.moved(specs, update, tolerance, at, gradient, sound(run, gradient)), best

    nothing = _nothing(first.values, params, outer + 1)
    i, at, best = jax.lax.while_loop(lambda c: (c[0] < outer) & ~c[1].stopped, step, (jnp.int32(0), first, nothing))
    run = plain(train, begun(params, (), at.values, horizon, rule), at.values, horizon, rule, options)
    value = meta(run.params, run.rest)
    return trial(at.values, value, run._replace(finite=run.finite & jnp.isfinite(value)), i, best)


def random_search(
    train_loss: TrainLoss,
    meta_loss: MetaLoss,
    params: PyTree,
    key: Array,
    schedules: Sequence[Schedule] = PAPER,
    *,
    horizon: int,
    runs: int,
    rule: Rule = SGD,
    clip_gradient: float | None = None,
    together: int = 1,
) -> Found:
    """The best of `runs` runs with schedules drawn uniformly from their ranges; `together` train at a time."""
    specs = _checked(tuple(schedules), horizon, runs, rule, "sign")
    options = Options(clip_gradient=clip_gradient)
    train, meta = full(train_loss, meta_loss)
    dtype = _dtype(params)

    def one(key: Array) -> tuple[Array, Any]:
        values = drawn(specs, key, dtype)
        run = plain(train, begun(params, (), values, horizon, rule), values, horizon, rule, options)
        value = meta(run.params, run.rest)
        return jnp.where(run.finite & jnp.isfinite(value), value, jnp.inf), values

    found, tried = jax.lax.map(one, jax.random.split(key, runs), batch_size=together if together > 1 else None)
    best = jnp.argmin(found)
    values = jax.tree.map(lambda x: x[best], tried)
    run = plain(train, begun(params, (), values, horizon, rule), values, horizon, rule, options)
    return Found(values, found[best], run.params, {"value": found, "schedules": tried})


def _checked(
    schedules: tuple[Schedule, ...], horizon: int, outer: int, rule: Rule, update: search.Update
) -> tuple[Schedule, ...]:
    """The schedules, or a ValueError that names the argument that does not fit."""
    names = tuple(s.name for s in schedules)
    if len({*names}) < len(names) or not names:
        raise ValueError(f"schedules must name each hyperparameter once, got {', '.join(names) or 'none'}")
    for s in schedules:
        length(s.name, s.windows, horizon)
    if outer < 1:
        raise ValueError(f"there must be at least one run, got {outer}")
    if update not in ("sign", "adam"):
        raise ValueError(f"update must be 'sign' or 'adam', got {update!r}")
    rule.check(names)
    return schedules


def _dtype(params: PyTree) -> Any:
    leaves = jax.tree.leaves(params)
    return jnp.result_type(*leaves) if leaves else jnp.float32


def _nothing(values: Any, params: PyTree, runs: int) -> Found:
    """What is known before the first run."""
    dtype = _dtype(params)
    past = {
        "value": jnp.full(runs, jnp.inf, dtype),
        "schedules": jax.tree.map(lambda x: jnp.full((runs, *x.shape), jnp.nan, x.dtype), values),
    }
    return Found(values, jnp.asarray(jnp.inf, dtype), jax.tree.map(jnp.asarray, params), past)
