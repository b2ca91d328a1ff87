"""A multilayer perceptron with ReLU."""

from __future__ import annotations

import dataclasses
from typing import Annotated, Any

import jax
import jax.numpy as jnp
from jax import Array
from typing_extensions import Doc

from ..component import Count
from ..core.types import Variables
from .base import Network
from .layers import Dense, Group


@dataclasses.dataclass(frozen=True)
class MLP(Network):
    """Dense layers `hidden_0`, `hidden_1`, ... with ReLU, and `out`; inputs of any shape are laid flat.

    "widen" doubles every hidden layer; "deepen" adds one as wide as the last. A new layer computes the identity,
    because its inputs are not negative.
    """

    hidden: Annotated[tuple[Count, ...], Doc("units of each hidden layer")] = (100, 100)
    classes: Annotated[Count, Doc("outputs")] = 10

    @property
    def growths(self) -> tuple[str, ...]:
        """ "widen" and "deepen"; none without a hidden layer."""
        return ("widen", "deepen") if self.hidden else ()

    def layers(self, inputs: int) -> Group:
        """`hidden_0` ... and `out`."""
        widths = (inputs, *self.hidden)
        hidden = tuple((f"hidden_{i}", Dense(*widths[i : i + 2])) for i in range(len(self.hidden)))
        return Group((*hidden, ("out", Dense(widths[-1], self.classes))))

    def arranged(self, x: Array) -> Array:
        """f32[n, features]."""
        return x.reshape(x.shape[0], -1)

    def forward(self, module: Any, x: Array, train: bool) -> Array:
        """The logits, f32[n, classes]."""
        for i in range(len(self.hidden)):
            x = jax.nn.relu(getattr(module, f"hidden_{i}")(x))
        return jnp.asarray(module.out(x))

    def larger(self, how: str) -> MLP:
        """Twice the units in each hidden layer, or one layer more."""
        hidden = tuple(2 * n for n in self.hidden) if how == "widen" else (*self.hidden, self.hidden[-1])
        return dataclasses.replace(self, hidden=hidden)

    def added(self, layer: Variables) -> Variables:
        """The identity matrix."""
        return {**layer, "kernel": jnp.eye(len(layer["kernel"]), dtype=layer["kernel"].dtype)}
