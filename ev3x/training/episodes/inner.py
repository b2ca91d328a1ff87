"""Adaptation inside of one episode, and the losses that learn from it: MAML, first-order MAML, Reptile and Leap.

Each loss of an episode is a function of the inner rule, the support and the query objective, and the parameters from
which adaptation starts. Its gradient is all that counts; its value is that of the method's own objective, so that a
diverging episode has a loss that is not finite, with which no candidate can win.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping

import jax
import jax.numpy as jnp
import optax

from ...core.types import Array, PyTree
from ...values import integer
from ..optimizers import Optimizer

Objective = Callable[[PyTree], Array]


@dataclasses.dataclass(frozen=True)
class Inner:
    """How parameters adapt inside of an episode: `steps` steps of an optimizer, whose state is fresh in each episode.

    With `remat`, differentiation through the steps computes each again instead of storing what is inside of it.
    """

    optimizer: Optimizer
    steps: int
    remat: bool = False

    def __post_init__(self) -> None:
        integer("adaptation: steps", self.steps)  # an option of a family, or what a class put in its place

    def start(self, params: PyTree) -> PyTree:
        """The state of the optimizer before the first step."""
        return self.optimizer.build().init(params)

    def step(self, objective: Objective, params: PyTree, state: PyTree) -> tuple[PyTree, PyTree]:
        """The parameters and the state of the optimizer after one step on the objective."""
        optimizer = optax.with_extra_args_support(self.optimizer.build())
        value, gradient = jax.value_and_grad(objective)(params)
        facts = {"value": value, "grad": gradient, "value_fn": objective}
        updates, state = optimizer.update(gradient, state, params, **facts)
        return optax.apply_updates(params, updates), state

    def adapt(self, objective: Objective, params: PyTree) -> PyTree:
        """The parameters after all steps; exact gradients pass through them."""

        def step(carry: tuple[PyTree, PyTree], _: None) -> tuple[tuple[PyTree, PyTree], None]:
            return self.step(objective, *carry), None

        body = jax.checkpoint(step) if self.remat else step
        (adapted, _), _ = jax.lax.scan(body, (params, self.start(params)), None, length=self.steps)
        return adapted


def maml(inner: Inner, support: Objective, query: Objective, params: PyTree) -> Array:
    """The query loss of the adapted parameters, differentiated through the steps (Finn et al., arXiv 1703.03400)."""
    return query(inner.adapt(support, params))


def fomaml(inner: Inner, support: Objective, query: Objective, params: PyTree) -> Array:
    """The query loss of the adapted parameters, whose distance from the start counts as constant (first-order MAML)."""
    adapted = inner.adapt(support, jax.lax.stop_gradient(params))
    # Adding p - p changes no bit of the value and makes the derivative the identity.
    return query(jax.tree.map(lambda a, p: a + (p - jax.lax.stop_gradient(p)), adapted, params))


def reptile(inner: Inner, support: Objective, query: Objective, params: PyTree) -> Array:
    """Half the squared distance to the adapted parameters, held constant (Nichol et al., arXiv 1803.02999).

    Its gradient is the start minus the adapted parameters. The query set has no part in it.
    """
    adapted = jax.lax.stop_gradient(inner.adapt(support, jax.lax.stop_gradient(params)))
    return 0.5 * _dot(away := _minus(params, adapted), away)


def leap(inner: Inner, support: Objective, query: Objective, params: PyTree) -> Array:
    """The length of the path of adaptation; its gradient is the sum of (theta_i - theta_{i+1}) / norm over the steps.

    Leap (Flennerhag et al., arXiv 1812.01054) as WarpGrad's code simplifies it: the loss is no coordinate of the path,
    and the points of the path count as constants. A step that moves nothing adds nothing. The query set has no part.
    """
    start = jax.lax.stop_gradient(params)

    def step(carry: tuple[PyTree, PyTree, PyTree, Array], _: None) -> tuple[tuple[PyTree, PyTree, PyTree, Array], None]:
        here, state, direction, length = carry
        there, state = inner.step(support, here, state)
        moved = _minus(here, there)
        norm = jnp.sqrt(_dot(moved, moved))
        scale = 1 / jnp.where(norm == 0, jnp.ones_like(norm), norm)
        direction = jax.tree.map(lambda d, x: d + x * scale.astype(x.dtype), direction, moved)
        return (there, state, direction, length + norm), None

    first = (start, inner.start(start), jax.tree.map(jnp.zeros_like, start), jnp.zeros_like(_dot(start, start)))
    (_, _, direction, length), _ = jax.lax.scan(step, first, None, length=inner.steps)
    return length + _dot(_minus(params, start), direction)  # the second term is 0, with `direction` as its gradient


LOSSES: Mapping[str, Callable[[Inner, Objective, Objective, PyTree], Array]] = {
    "maml": maml,
    "fomaml": fomaml,
    "reptile": reptile,
    "leap": leap,
}


def _minus(a: PyTree, b: PyTree) -> PyTree:
    return jax.tree.map(jnp.subtract, a, b)


def _dot(a: PyTree, b: PyTree) -> Array:
    """The inner product of two pytrees alike."""
    return jnp.sum(jnp.stack(jax.tree.leaves(jax.tree.map(lambda x, y: jnp.sum(x * y), a, b))))
