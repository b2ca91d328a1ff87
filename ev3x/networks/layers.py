"""Tables of layers: the parts of a network, whichever framework runs it."""

from __future__ import annotations

import dataclasses
import itertools
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

Tree = dict[str, Any]

MOMENTUM, EPSILON = 0.9, 1e-5  # of every batch normalization
_SPREAD = 0.8796256610342398  # standard deviation of a normal number between -2 and 2


@dataclasses.dataclass(frozen=True)
class Dense:
    """x @ kernel + bias: kernel f32[inputs, outputs], LeCun normal."""

    inputs: int
    outputs: int

    @property
    def drawn(self) -> int:
        """How many random numbers `fill` takes."""
        return self.inputs * self.outputs

    def fill(self, noise: Array) -> tuple[Tree, Tree]:
        """Fresh parameters made of normal numbers f32[drawn], and batch statistics (none)."""
        kernel = self.inputs**-0.5 * noise.reshape(self.inputs, self.outputs)
        return {"kernel": kernel, "bias": jnp.zeros(self.outputs)}, {}


@dataclasses.dataclass(frozen=True)
class Conv:
    """A convolution over `dims` axes without bias: kernel f32[window, ..., inputs, outputs], He normal."""

    inputs: int
    outputs: int
    window: int
    dims: int
    stride: int = 1

    @property
    def drawn(self) -> int:
        """How many random numbers `fill` takes."""
        return self.window**self.dims * self.inputs * self.outputs

    def fill(self, noise: Array) -> tuple[Tree, Tree]:
        """Fresh parameters made of normal numbers f32[drawn], and batch statistics (none)."""
        shape = (self.window,) * self.dims + (self.inputs, self.outputs)
        scale = (2 / (self.window**self.dims * self.inputs)) ** 0.5
        return {"kernel": scale * noise.reshape(shape)}, {}


@dataclasses.dataclass(frozen=True)
class Norm:
    """Batch normalization, channel by channel."""

    channels: int

    @property
    def drawn(self) -> int:
        """0: nothing is random."""
        return 0

    def fill(self, noise: Array) -> tuple[Tree, Tree]:
        """Fresh parameters and batch statistics."""
        ones, zeros = jnp.ones(self.channels), jnp.zeros(self.channels)
        return {"scale": ones, "bias": zeros}, {"mean": zeros, "var": ones}


@dataclasses.dataclass(frozen=True)
class Group:
    """Layers with their names, in order."""

    layers: tuple[tuple[str, Dense | Conv | Norm | Group], ...]

    @property
    def drawn(self) -> int:
        """How many random numbers `fill` takes."""
        return sum(layer.drawn for _, layer in self.layers)

    def fill(self, noise: Array) -> tuple[Tree, Tree]:
        """Fresh parameters and batch statistics, by name; layers without statistics are left out of them."""
        ends = itertools.accumulate(layer.drawn for _, layer in self.layers)
        made = {
            n: layer.fill(noise[end - layer.drawn : end]) for (n, layer), end in zip(self.layers, ends, strict=True)
        }
        return {name: p for name, (p, _) in made.items()}, {name: s for name, (_, s) in made.items() if s}


def init(layer: Dense | Conv | Norm | Group, key: Array) -> tuple[Tree, Tree]:
    """Fresh parameters and batch statistics.

    All random numbers are drawn at once, because a generator for each kernel would take a second each to compile. They
    are normal numbers, truncated at two standard deviations and then scaled to variance 1, as in `jax.nn.initializers`.
    """
    return layer.fill(jax.random.truncated_normal(key, -2.0, 2.0, (layer.drawn,), jnp.float32) / _SPREAD)


def convolve(x: Array, kernel: Array, stride: int) -> Array:
    """The convolution of x f32[n, ..., inputs] with a kernel f32[window, ..., inputs, outputs], padded as "SAME".

    On a CPU, and for one axis everywhere, it is computed as one product of matrices: XLA's convolutions are 6 to 10
    times slower there inside of a loop over training steps, even more with a kernel for each candidate.
    """
    if kernel.ndim == 3 or jax.default_backend() == "cpu":
        return by_windows(x, kernel, stride)
    return by_xla(x, kernel, stride)


def by_windows(x: Array, kernel: Array, stride: int) -> Array:
    """The convolution as a matrix product of all windows, flattened, with the kernel."""
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
