"""Gradient steps on a task: the building block of proposers that train."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import jax
import jax.numpy as jnp
import optax

from ..component import unknown
from ..core.contract import BoundaryError, Who, pair, returned
from ..core.data import Explore
from ..core.layout import where
from ..core.task import Task
from ..core.types import Array, Decision, Move, PyTree, Variables
from ..values import number, plain
from .losses import Loss


def check_loss(task: Task, loss: Loss) -> str | None:
    """What is wrong with this loss for this task, or None."""
    for term in loss.terms:
        if term.name not in task.losses:
            return unknown("loss", term.name, task.losses)
        for name, value in term.hypers:
            if name not in task.hypers:
                return f"loss {term.name!r}: {unknown('hyperparameter', name, task.hypers)}"
            if name not in numbers(task):
                return f"loss {term.name!r}: the hyperparameter {name!r} is a whole pytree and cannot be {value:g}"
    return None


def numbers(task: Task) -> dict[str, float]:
    """The hyperparameters of the task that are a single number, with their defaults."""
    hypers = {name: plain(value) for name, value in task.hypers.items()}
    return {name: number(f"the hyperparameter {name!r}", value) for name, value in hypers.items() if _is_number(value)}


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def loss_value(
    task: Task, loss: Loss, variables: Variables, batch: PyTree, key: Array, hypers: Mapping[str, Any]
) -> tuple[Array, Variables]:
    """The mean loss f32[] over a batch, and the variables, whose collections other than "params" may be updated.

    `hypers` replace the task's defaults where a term does not fix its own, and may be traced.
    """
    total = jnp.float32(0.0)
    n = jax.tree.leaves(batch)[0].shape[0]
    for i, term in enumerate(loss.terms):
        values = {**task.hypers, **hypers, **dict(term.hypers)}
        who, what = Who("task", kind=type(task)), f"{type(task).__name__}.loss({term.name!r}) must return"
        made = task.loss(term.name, variables, batch, jax.random.fold_in(key, i), values)
        each, moved = pair(who, "loss", made, "the loss of each example", "the variables")
        if jnp.shape(each) != (n,):
            text = f"{what} one value per example: expected shape ({n},), got {jnp.shape(each)}"
            raise BoundaryError(who, "loss", text, "do not average: the mean is taken after it")
        if not jnp.issubdtype(each.dtype, jnp.floating):
            raise BoundaryError(who, "loss", f"{what} floats, got {each.dtype}", "what is rounded has no gradient")
        returned(who, "loss", moved, Mapping, "return the variables that it gets, other collections updated")
        if set(moved) != set(variables):
            text = f"{what} the variables with their collections {sorted(variables)}, got {sorted(moved)}"
            raise BoundaryError(who, "loss", text, "return the variables that it gets, other collections updated")
        variables = moved
        total += term.weight * each.mean()
    return total, variables


def gradient_step(
    task: Task,
    loss: Loss,
    optimizer: optax.GradientTransformationExtraArgs,
    variables: Variables,
    opt_state: PyTree,
    batch: PyTree,
    key: Array,
    hypers: Mapping[str, Any],
) -> tuple[Variables, PyTree, Array]:
    """The variables and optimizer state after one step on this batch, and the loss f32[] before the step.

    The optimizer gets the parameters that it updates (weight decay acts on them), and the loss as `value`.
    """

    def objective(params: PyTree) -> tuple[Array, Variables]:
        return loss_value(task, loss, {**variables, "params": params}, batch, key, hypers)

    params = variables["params"]
    (value, moved), grads = jax.value_and_grad(objective, has_aux=True)(params)
    updates, opt_state = optimizer.update(grads, opt_state, params, value=value, grad=grads)
    return {**moved, "params": optax.apply_updates(params, updates)}, opt_state, value


def step_keys(key: Array) -> Array:
    """The key into which each step of a trajectory folds its number; independent of the batches drawn from `key`."""
    return jax.random.fold_in(key, 2**31)  # no pass over the data has this number


def train(
    task: Task,
    loss: Loss,
    optimizer: optax.GradientTransformation,
    variables: Variables,
    opt_state: PyTree,
    explore: Explore,
    drawn: PyTree,
    key: Array,
    *,
    steps: Array | int,
    hypers: Mapping[str, Any] = MappingProxyType({}),
) -> tuple[Variables, PyTree, Array]:
    """The variables and optimizer state after `steps` steps on the drawn batches; whether all losses were finite."""
    optimizer = optax.with_extra_args_support(optimizer)
    key = step_keys(key)

    def step(i: Array, carry: tuple[Variables, PyTree, Array]) -> tuple[Variables, PyTree, Array]:
        variables, opt_state, finite = carry
        batch = explore.batch(jax.tree.map(lambda x: x[i], drawn))
        variables, opt_state, value = gradient_step(
            task, loss, optimizer, variables, opt_state, batch, jax.random.fold_in(key, i), hypers
        )
        return variables, opt_state, finite & jnp.isfinite(value)

    end: tuple[Variables, PyTree, Array] = jax.lax.fori_loop(0, steps, step, (variables, opt_state, jnp.asarray(True)))
    return end


def carried(old: PyTree, first: PyTree) -> PyTree:
    """The optimizer state of a grown model: its first state, with old entries wherever paths and dtypes agree.

    Where an array grew, the old entries come first and the new ones keep their first values; where an array shrank, all
    entries are first values.
    """
    kept = {path: leaf for path, leaf in jax.tree_util.tree_leaves_with_path(old)}

    def carry(path: Any, leaf: Array) -> Array:
        was = kept.get(path)
        if was is None or was.dtype != leaf.dtype or was.ndim != leaf.ndim:
            return leaf
        if any(a > b for a, b in zip(was.shape, leaf.shape, strict=True)):
            return leaf
        return leaf.at[tuple(slice(0, n) for n in was.shape)].set(was)

    return jax.tree_util.tree_map_with_path(carry, first)


def follow(decision: Decision, moved: PyTree, promoted: PyTree) -> tuple[PyTree, PyTree]:
    """The optimizer states that belong to the next current variables and to the next incumbent.

    Both are pytrees of one structure; what comes back is (current, incumbent), for the next state of a proposer.

    Args:
        decision: `feedback.decision`, in `learn`.
        moved: the state of the next current variables if they are not rolled back. Say what they are for each move:
            TAKE: that of the winner if it is a candidate of this proposer (kept in the memo, found by
            `feedback.won`), else the state before the round, for variables of somebody else's;
            KEEP: the state before the round.
        promoted: the state that belonged to the incumbent before the round.

    KEEP and TAKE give `moved` as the current state, RESTORE gives `promoted`. A promotion makes the current state that
    of the incumbent, too; without one, `promoted` stays.
    """
    current = where(decision.move == Move.RESTORE, promoted, moved)
    return current, where(decision.promote, current, promoted)
