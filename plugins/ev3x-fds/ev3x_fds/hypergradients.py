"""How the loss after a training run changes with the schedules of the run.

FDS: Micaelli and Storkey, Gradient-based Hyperparameter Optimization Over Long Horizons, NeurIPS 2021 (arXiv
2007.07869).
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from .greedy import greedy
from .rules import SGD, Rule
from .run import FullMetaLoss, FullTrainLoss, MetaLoss, Options, Run, TrainLoss, begun, full, plain
from .schedules import Values, checked
from .tangents import forward

Array = jax.Array
PyTree = Any


class Hypergradient(NamedTuple):
    """What a run with its tangents gives.

    The meta loss f[] after the run, its gradient by hyperparameter and window, the parameters that the run ends with,
    and whether all losses of the run, the meta loss and the gradient were finite, bool[].
    """

    value: Array
    gradient: dict[str, Array]
    params: PyTree
    finite: Array


def hypergradient(
    train_loss: TrainLoss,
    meta_loss: MetaLoss,
    params: PyTree,
    schedules: Values,
    *,
    horizon: int,
    rule: Rule = SGD,
    chunk: int | None = None,
    clip_gradient: float | None = None,
    clip_tangent: float | None = None,
    greedy: bool = False,
) -> Hypergradient:
    """The gradient of the meta loss after `horizon` steps, with respect to the schedules of the run.

    `train_loss(params, step)` is f_T on the batch of this step, i32[]; `meta_loss(params)` is f_V; both return one
    number. `params` hold float32 or float64. `schedules` map the name of a hyperparameter to f[windows], its value in
    each window: for `SGD` learning_rate, and momentum and weight_decay, which are 0 if left out. Windows share the
    horizon equally; `windows = horizon` gives every step a value of its own.

    The training loss is differentiated twice, for `chunk` values at a time (None: for all): memory is O(parameters x
    chunk), whatever the horizon. Tangents enter when the first window of their chunk begins. `clip_gradient` bounds the
    entries of g by so much, `clip_tangent` those of H Z; the paper's bounds are 3 and 1 (its Figure 1) or 100 (Figure
    4). `greedy` cuts the tangents after every step: the result is the sum over the steps of what each by itself changes
    in the loss right after it. Source: arXiv 2007.07869; its equations stand beside the lines, and in docs/fds.md.
    """
    values, rest = checked(schedules, horizon), ()
    options = Options(chunk, clip_gradient, clip_tangent, greedy)
    train, meta = full(train_loss, meta_loss)
    run = begun(params, rest, values, horizon, rule)
    value, gradient, run = differentiated(train, meta, run, values, horizon, rule, options)
    return Hypergradient(value, gradient, run.params, sound(run, gradient))


def train(
    train_loss: TrainLoss,
    params: PyTree,
    schedules: Values,
    *,
    horizon: int,
    rule: Rule = SGD,
    clip_gradient: float | None = None,
) -> PyTree:
    """The parameters after a run without tangents; arguments as for `hypergradient`. Can be differentiated by JAX."""
    values, options = checked(schedules, horizon), Options(clip_gradient=clip_gradient)
    run = begun(params, (), values, horizon, rule)
    return plain(full(train_loss)[0], run, values, horizon, rule, options).params


def differentiated(
    train: FullTrainLoss, meta: FullMetaLoss, run: Run, values: Values, horizon: int, rule: Rule, options: Options
) -> tuple[Array, dict[str, Array], Run]:
    """The meta loss after the run, its gradient, and the run; a run that was not finite says so."""
    found = (greedy if options.greedy else forward)(train, meta, run, values, horizon, rule, options)
    value, gradient, run = found
    gradient = {n: g.astype(values[n].dtype) for n, g in gradient.items()}
    return value, gradient, run._replace(finite=run.finite & jnp.isfinite(value))


def sound(run: Run, gradient: Values) -> Array:
    """Whether the run and its hypergradient were finite: bool[]."""
    return run.finite & jnp.stack([jnp.isfinite(g).all() for g in gradient.values()]).all()
