"""Tables of layers as modules of Flax NNX."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import jax
from flax import nnx
from jax import Array

from .layers import EPSILON, MOMENTUM, Conv, Dense, Group, Norm, convolve, init


class Layers(nnx.Module):
    """The layers of a group, as attributes with their names."""

    def __init__(self, group: Group, rngs: nnx.Rngs) -> None:
        for name, layer in group.layers:
            setattr(self, name, _module(layer, rngs))


class Convolution(nnx.Module):
    """See `layers.Conv`."""

    def __init__(self, layer: Conv, rngs: nnx.Rngs) -> None:
        self.kernel = nnx.Param(init(layer, rngs.params())[0]["kernel"])
        self.stride = layer.stride

    def __call__(self, x: Array) -> Array:
        """The convolution of x."""
        return convolve(x, self.kernel[...], self.stride)


def run(
    layers: Group, forward: Callable[[Any, Array, bool], Array], variables: Any, x: Array, train: bool
) -> tuple[Array, Any]:
    """The predictions of `forward` with these layers, and the collections that it updated."""
    graph, params, stats = _abstract(layers)
    module = nnx.merge(graph, _filled(params, variables["params"]), _filled(stats, variables.get("batch_stats", {})))
    predictions = forward(module, x, train)
    if not (train and "batch_stats" in variables):
        return predictions, {}
    return predictions, {"batch_stats": nnx.to_pure_dict(nnx.state(module, nnx.BatchStat))}


@functools.lru_cache(maxsize=64)
def _abstract(layers: Group) -> tuple[Any, Any, Any]:
    """The graph of the module and its states, with shapes instead of values, so that the cache keeps no tracers."""
    module = nnx.eval_shape(lambda: Layers(layers, nnx.Rngs(0)))
    graph, *states = nnx.split(module, nnx.Param, nnx.BatchStat)
    return graph, states[0], states[1]


def _filled(state: Any, values: Any) -> Any:
    """The state with these values."""
    filled = jax.tree.map(lambda x: x, state)
    nnx.replace_by_pure_dict(filled, values)
    return filled


def _module(layer: Dense | Conv | Norm | Group, rngs: nnx.Rngs) -> nnx.Module:
    if isinstance(layer, Dense):
        return nnx.Linear(layer.inputs, layer.outputs, rngs=rngs)
    if isinstance(layer, Conv):
        return Convolution(layer, rngs)
    if isinstance(layer, Norm):
        return nnx.BatchNorm(layer.channels, momentum=MOMENTUM, epsilon=EPSILON, rngs=rngs)
    return Layers(layer, rngs)
