"""Tables of layers as modules of Flax Linen."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import flax.linen as nn
import jax

from .layers import EPSILON, MOMENTUM, Conv, Dense, Group, Norm, convolve, init

if TYPE_CHECKING:
    from .base import Network

Array = jax.Array


class Layers(nn.Module):
    """The layers of a group, as attributes with their names."""

    group: Group

    def setup(self) -> None:
        """Flax calls this before the first use of an attribute."""
        for name, layer in self.group.layers:
            setattr(self, name, _module(layer))


class Convolution(nn.Module):
    """See `layers.Conv`."""

    layer: Conv

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """The convolution of x."""
        kernel = self.param("kernel", lambda key: init(self.layer, key)[0]["kernel"])
        return convolve(x, kernel, self.layer.stride)


def run(network: Network, inputs: int, variables: Any, x: Array, train: bool) -> tuple[Array, Any]:
    """The predictions, and the collections that moved."""
    module = Layers(network.layers(inputs))

    def forward(module: Layers, x: Array) -> Array:
        return network.forward(module, x, train)

    if train and "batch_stats" in variables:
        predictions, moved = nn.apply(forward, module, mutable=["batch_stats"])(variables, x)
        return predictions, moved
    return nn.apply(forward, module)(variables, x), {}


def _module(layer: Dense | Conv | Norm | Group) -> nn.Module:
    if isinstance(layer, Dense):
        return nn.Dense(layer.outputs)
    if isinstance(layer, Conv):
        return Convolution(layer)
    if isinstance(layer, Norm):
        return nn.BatchNorm(momentum=MOMENTUM, epsilon=EPSILON)
    return Layers(layer)
