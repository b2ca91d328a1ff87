"""The base of every network: options, a table of layers, and how its variables grow with it."""

from __future__ import annotations

import dataclasses
from typing import Annotated, Any, Literal

import jax
import numpy as np
from typing_extensions import Doc

from ..component import Component, unknown
from ..core.programs import compiled
from ..core.types import Array, Variables
from .layers import Group, init


@dataclasses.dataclass(frozen=True)
class Network(Component):
    """A network that grows, as a value: its variables are plain dicts of arrays, the same for both frameworks.

    Variables are {"params": ...}, and {"batch_stats": ...} where there is batch normalization. Subclasses define their
    `layers`, `forward`, and how they grow. Running one needs Flax: `pip install "ev3x[examples]"`.
    """

    framework: Annotated[Literal["linen", "nnx"], Doc("which of Flax's two kinds of modules runs it")] = (
        dataclasses.field(default="linen", kw_only=True)
    )

    @property
    def growths(self) -> tuple[str, ...]:
        """The names that `grow` accepts as `how`."""
        return ()

    def layers(self, inputs: int) -> Group:
        """The table of layers, whose first layer has this many inputs (features or channels)."""
        raise NotImplementedError

    def arranged(self, x: Array) -> Array:
        """The inputs in the shape that the first layer reads, channels last."""
        raise NotImplementedError

    def forward(self, module: Any, x: Array, train: bool) -> Array:
        """The predictions of a module that has the layers as attributes, for arranged inputs."""
        raise NotImplementedError

    def larger(self, how: str) -> Network:
        """The network with the options that it has after this growth."""
        raise NotImplementedError

    def init(self, key: Array, x: Array) -> Variables:
        """Fresh variables for inputs like x; the same in both frameworks."""
        return _fresh(self, key, self._inputs(x))

    def apply(self, variables: Variables, x: Array, train: bool = False) -> tuple[Array, Variables]:
        """The predictions, and the variables.

        With `train`, batch normalization uses the statistics of this batch and updates the running ones. Without, it
        uses the running ones, and the variables come back unchanged.
        """
        x = self.arranged(x)
        predictions, moved = _framework(self.framework).run(self.layers(x.shape[-1]), self.forward, variables, x, train)
        return predictions, {**variables, **moved} if moved else variables

    def parameters(self, x: Array | jax.ShapeDtypeStruct) -> int:
        """How many numbers in "params" there are, for inputs like x."""
        shapes = jax.eval_shape(lambda: _fresh(self, jax.random.key(0), self._inputs(x)))
        return sum(int(np.prod(leaf.shape)) for leaf in jax.tree.leaves(shapes["params"]))

    def grow(self, how: str, key: Array, variables: Variables) -> tuple[Network, Variables]:
        """The larger network, and variables for it that compute the same function, in training and in evaluation.

        Old entries come first: an old array is the leading corner of the array that replaces it.
        """
        if how not in self.growths:
            raise ValueError(unknown("growth", how, self.growths))
        larger = self.larger(how)
        return larger, _grown(larger, key, self._inputs_of(variables), variables)

    def added(self, layer: Variables) -> Variables:
        """A fresh layer (or its batch statistics) made to compute the identity, for a place that had no layer."""
        return layer

    def _inputs(self, x: Array | jax.ShapeDtypeStruct) -> int:
        return jax.eval_shape(self.arranged, x).shape[-1]

    def _inputs_of(self, variables: Variables) -> int:
        first, _ = self.layers(1).layers[0]
        return int(variables["params"][first]["kernel"].shape[-2])


# Jitted, here and below: without jit, each operation would be compiled for each shape.
@compiled("inputs")
def _grown(network: Network, key: Array, inputs: int, old: Variables) -> Variables:
    """The old layers inside of fresh ones, by name; a new layer becomes the identity."""
    return {
        collection: {
            name: jax.tree.map(widened, old[collection][name], layer)
            if name in old[collection]
            else network.added(layer)
            for name, layer in layers.items()
        }
        for collection, layers in _fresh(network, key, inputs).items()
    }


@compiled("inputs")
def _fresh(network: Network, key: Array, inputs: int) -> Variables:
    params, stats = init(network.layers(inputs), key)
    return {"params": params, "batch_stats": stats} if stats else {"params": params}


def widened(old: Array, fresh: Array) -> Array:
    """The fresh array with the old one in its leading corner; new inputs of a kernel have no effect on old outputs.

    A kernel is [..., inputs, outputs] for dense layers and convolutions alike. Old outputs stay as they were. New units
    have random weights from all inputs; only the weights from new units to old ones are zero, and these learn from the
    first step on.
    """
    if old.shape == fresh.shape:
        return old
    if old.ndim > 1:
        fresh = fresh.at[..., old.shape[-2] :, : old.shape[-1]].set(0)
    return fresh.at[tuple(slice(size) for size in old.shape)].set(old.astype(fresh.dtype))


def _framework(name: str) -> Any:
    try:
        if name == "nnx":
            from . import nnx

            return nnx
        from . import linen
    except ImportError as error:
        raise ImportError(f'networks need Flax ({error}): pip install "ev3x[examples]"') from error
    return linen
