"""The greedy hypergradient, for comparison: what each step alone changes in the loss right after it."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from .rules import Rule
from .run import Array, FullMetaLoss, FullTrainLoss, Options, Run, clipped
from .schedules import Values, at


def greedy(
    train: FullTrainLoss, meta: FullMetaLoss, run: Run, values: Values, horizon: int, rule: Rule, options: Options
) -> tuple[Array, dict[str, Array], Run]:
    """The meta loss after the run, the sum over the steps of the gradients of the meta loss after each, and the run.

    Every step is differentiated by itself, its start held fixed: no effect on later steps counts.
    """

    def step(t: Array, carry: tuple[Run, dict[str, Array]]) -> tuple[Run, dict[str, Array]]:
        (run, found), t = carry, jnp.asarray(t, jnp.int32)
        (value, rest), g = jax.value_and_grad(train, has_aux=True)(run.params, run.rest, t)
        g = clipped(g, options.clip_gradient)
        hypers = at(values, t, horizon)

        def after(hypers: dict[str, Array]) -> Array:
            return meta(rule.step(rule.near(g), run.params, run.state, hypers)[0], rest)

        found = {n: found[n].at[t // (horizon // found[n].shape[0])].add(x) for n, x in jax.grad(after)(hypers).items()}
        params, state = rule.step(g, run.params, run.state, hypers)
        return Run(params, rest, state, run.finite & jnp.isfinite(value)), found

    zeros = {n: jnp.zeros_like(v) for n, v in values.items()}
    run, found = jax.lax.fori_loop(0, horizon, step, (run, zeros))
    return meta(run.params, run.rest), found, run
