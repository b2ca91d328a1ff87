"""Tables of layers: what a network is made of, whichever framework runs it."""

from __future__ import annotations

import dataclasses
import itertools
from typing import Any

import jax
import jax.numpy as jnp

Array = jax.Array
Tree = dict[str, Any]

MOMENTUM, EPSILON = 0.9, 1e-5  # of every batch normalization


@dataclasses.dataclass(frozen=True)
class Dense:
    """x @ kernel + bias: kernel f32[inputs, outputs], LeCun normal."""

    inputs: int
    outputs: int

    def init(self, key: Array) -> tuple[Tree, Tree]:
        """Fresh parameters and batch statistics (none)."""
        kernel = jax.nn.initializers.lecun_normal()(key, (self.inputs, self.outputs), jnp.float32)
        return {"kernel": kernel, "bias": jnp.zeros(self.outputs)}, {}


@dataclasses.dataclass(frozen=True)
class Conv:
    """A convolution over `dims` axes without bias: kernel f32[window, ..., inputs, outputs], He normal."""

    inputs: int
    outputs: int
    window: int
    dims: int
    stride: int = 1

    def init(self, key: Array) -> tuple[Tree, Tree]:
        """Fresh parameters and batch statistics (none)."""
        shape = (self.window,) * self.dims + (self.inputs, self.outputs)
        return {"kernel": jax.nn.initializers.he_normal()(key, shape, jnp.float32)}, {}


@dataclasses.dataclass(frozen=True)
class Norm:
    """Batch normalization, channel by channel."""

    channels: int

    def init(self, key: Array) -> tuple[Tree, Tree]:
        """Fresh parameters and batch statistics."""
        ones, zeros = jnp.ones(self.channels), jnp.zeros(self.channels)
        return {"scale": ones, "bias": zeros}, {"mean": zeros, "var": ones}


@dataclasses.dataclass(frozen=True)
class Group:
    """Layers with their names, in order."""

    layers: tuple[tuple[str, Dense | Conv | Norm | Group], ...]

    def init(self, key: Array) -> tuple[Tree, Tree]:
        """Fresh parameters and batch statistics, by name; layers without statistics are left out of them."""
        made = {name: layer.init(jax.random.fold_in(key, i)) for i, (name, layer) in enumerate(self.layers)}
        return {name: p for name, (p, _) in made.items()}, {name: s for name, (_, s) in made.items() if s}


def convolve(x: Array, kernel: Array, stride: int) -> Array:
    """The convolution of x f32[n, ..., inputs] with a kernel f32[window, ..., inputs, outputs], as wide as "SAME".

    On a CPU, and along one axis everywhere, as one product of matrices: XLA's convolutions are 6 to 10 times slower
    there inside of a loop over training steps, the more so with a kernel for each candidate.
    """
    if kernel.ndim == 3 or jax.default_backend() == "cpu":
        return by_windows(x, kernel, stride)
    return by_xla(x, kernel, stride)


def by_windows(x: Array, kernel: Array, stride: int) -> Array:
    """The convolution as a product of all windows, laid flat, with the kernel."""
    dims, window = kernel.ndim - 2, kernel.shape[0]
    counts = [-(-size // stride) for size in x.shape[1:-1]]
    short = [max((n - 1) * stride + window - size, 0) for n, size in zip(counts, x.shape[1:-1], strict=True)]
    x = jnp.pad(x, ((0, 0), *((s // 2, s - s // 2) for s in short), (0, 0)))
    ends = [(n - 1) * stride + 1 for n in counts]
    parts = [
        x[(slice(None), *(slice(i, i + end, stride) for i, end in zip(at, ends, strict=True)))]
        for at in itertools.product(range(window), repeat=dims)
    ]
    return jnp.concatenate(parts, axis=-1) @ kernel.reshape(-1, kernel.shape[-1])


def by_xla(x: Array, kernel: Array, stride: int) -> Array:
    """The convolution as XLA's own."""
    dims = kernel.ndim - 2
    letters = "DHW"[-dims:]
    form = (f"N{letters}C", f"{letters}IO", f"N{letters}C")
    return jax.lax.conv_general_dilated(x, kernel, (stride,) * dims, "SAME", dimension_numbers=form)
