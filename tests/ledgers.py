"""Confirmations made up for budgets: what they said, and how a run of them goes."""

import functools

import jax
import jax.numpy as jnp

import ev3x

LEVEL = 0.05
NOTHING = dict.fromkeys(ev3x.Assessment.__dataclass_fields__)


def confirmation(better, p_value):
    """A confirmation of which a budget reads the outcome and the p-value of the winner, beside a second contender."""
    outcome = jnp.where(better, ev3x.Outcome.BETTER, ev3x.Outcome.UNDECIDED).astype(jnp.int32)
    second = jnp.int32(ev3x.Outcome.BETTER), jnp.float32(0.0)  # it is the current model, and counts for nothing
    said = {"outcome": jnp.stack([outcome, second[0]]), "p_value": jnp.stack([p_value, second[1]])}
    return ev3x.Assessment(**NOTHING | said)


@functools.partial(jax.jit, static_argnames="budget")
def told(budget, better, p_values):
    """Offers, figures after each confirmation, of a run with these outcomes bool[T] and p-values f32[T]."""
    level = jnp.float32(LEVEL)

    def one(state, said):
        alpha = budget.offer(state, level)
        state = budget.settle(state, alpha, confirmation(*said))
        return state, (alpha, budget.account(state, level))

    _, (alpha, account) = jax.lax.scan(one, budget.init(), (better, p_values))
    return alpha, account


@functools.partial(jax.jit, static_argnames=("budget", "level"))
def promotions(budget, p_values, level=LEVEL):
    """Which of the confirmations with these p-values f32[..., T] are discoveries: bool[..., T]; and their levels."""

    def one(state, p):
        alpha = budget.offer(state, jnp.float32(level))
        better = p <= alpha
        return budget.settle(state, alpha, confirmation(better, p)), (better, alpha)

    runs = jnp.vectorize(lambda p: jax.lax.scan(one, budget.init(), p)[1], signature="(t)->(t),(t)")
    return runs(p_values)
