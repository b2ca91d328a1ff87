"""The base of families whose model is a multilayer perceptron."""

from __future__ import annotations

import dataclasses
from typing import Annotated, Any, ClassVar

import jax.numpy as jnp
from typing_extensions import Doc

from ev3x.component import Count
from ev3x.core.types import Array, Variables
from ev3x.networks import MLP
from ev3x.training.episodes import Family


@dataclasses.dataclass(frozen=True)
class Perceptron(Family):
    """Answers with a multilayer perceptron with ReLU. Needs `pip install "ev3x[examples]"`.

    It has no growths: a larger network that computes the same function adapts in another way, and predictions are those
    of the adapted network.
    """

    shape: ClassVar[tuple[int, ...]] = (1,)  # of a point

    hidden: Annotated[tuple[Count, ...], Doc("units of each hidden layer")] = (40, 40)

    @property
    def outputs(self) -> int:
        """How many numbers an answer has."""
        return 1

    @property
    def network(self) -> MLP:
        """The architecture."""
        return MLP(self.hidden, self.outputs)

    def init(self, key: Array) -> Variables:
        """A fresh network."""
        return self.network.init(key, jnp.zeros((1, *self.shape)))

    def answer(self, variables: Variables, x: Any) -> Array:
        """The outputs of the network: f32[points, outputs]."""
        return self.network.apply(variables, x)[0]
