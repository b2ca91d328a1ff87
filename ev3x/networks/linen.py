"""Tables of layers as modules of Flax Linen."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import flax.linen as nn
from jax import Array

from .layers import EPSILON, MOMENTUM, Conv, Dense, Group, Norm, convolve, init


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


def run(
    layers: Group, forward: Callable[[Any, Array, bool], Array], variables: Any, x: Array, train: bool
) -> tuple[Array, Any]:
    """The predictions of `forward` with these layers, and the collections that it updated."""
    module = Layers(layers)

    def bound(module: Layers, x: Array) -> Array:
        return forward(module, x, train)

    if train and "batch_stats" in variables:
        predictions, moved = nn.apply(bound, module, mutable=["batch_stats"])(variables, x)
        return predictions, moved
    return nn.apply(bound, module)(variables, x), {}


def _module(layer: Dense | Conv | Norm | Group) -> nn.Module:
    if isinstance(layer, Dense):
        return nn.Dense(layer.outputs)
    if isinstance(layer, Conv):
        return Convolution(layer)
    if isinstance(layer, Norm):
        return nn.BatchNorm(momentum=MOMENTUM, epsilon=EPSILON)
    return Layers(layer)
