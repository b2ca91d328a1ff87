"""Residual networks of the CIFAR form, 6n + 2 layers deep (He et al., arXiv 1512.03385, section 4.2)."""

from __future__ import annotations

import dataclasses
from typing import Annotated, Any, Literal

import jax
import jax.numpy as jnp
from annotated_types import Len
from jax import Array
from typing_extensions import Doc

from ..component import Count
from ..core.types import Variables
from .base import Network
from .layers import Conv, Dense, Group, Norm


@dataclasses.dataclass(frozen=True)
class ResNet(Network):
    """A stem, stages of residual blocks with twice the filters of the stage before, a mean over positions, `out`.

    Inputs are f32[n, length] or f32[n, length, channels] with dims = 1, f32[n, height, width(, channels)] with 2.
    (1, 1, 1), (2, 2, 2), (4, 4, 4) and (8, 8, 8) blocks are ResNet-8, 14, 26 and 50 of arXiv 2310.18893. The first
    block of later stages halves the resolution; its shortcut is a projection.

    "widen" doubles the filters; "deepen_one" adds a block to the stage with the fewest (the last of them); "deepen_all"
    doubles the blocks of each stage. A new block is the identity because the scale of its last normalization is 0. New
    filters have random weights; only the weights from them to old filters are 0.
    """

    blocks: Annotated[tuple[Count, ...], Len(1), Doc("residual blocks of each stage")] = (1, 1, 1)
    filters: Annotated[Count, Doc("channels of the first stage")] = 16
    classes: Annotated[Count, Doc("outputs")] = 100
    dims: Annotated[Literal[1, 2], Doc("axes that are convolved: 1 for sequences, 2 for images")] = 2

    @property
    def growths(self) -> tuple[str, ...]:
        """ "widen", "deepen_one" and "deepen_all"."""
        return ("widen", "deepen_one", "deepen_all")

    def layers(self, inputs: int) -> Group:
        """`stem`, `stem_norm`, `stage0_block0` ... and `out`."""
        width = self.filters
        table: list[tuple[str, Any]] = [("stem", Conv(inputs, width, 3, self.dims)), ("stem_norm", Norm(width))]
        for stage, blocks in enumerate(self.blocks):
            for i in range(blocks):
                new = self.filters * 2**stage
                table.append((f"stage{stage}_block{i}", self._block(width, new, stride=1 if new == width else 2)))
                width = new
        return Group((*table, ("out", Dense(width, self.classes))))

    def arranged(self, x: Array) -> Array:
        """f32[n, ..., channels]."""
        if x.ndim - self.dims not in (1, 2):
            raise ValueError(
                f"ResNet with dims = {self.dims} reads inputs with {self.dims + 1} or {self.dims + 2} axes "
                f"(examples, places, and channels if there are any), got shape {x.shape}"
            )
        return x[..., None] if x.ndim == self.dims + 1 else x

    def forward(self, module: Any, x: Array, train: bool) -> Array:
        """The logits, f32[n, classes]."""
        x = jax.nn.relu(module.stem_norm(module.stem(x), use_running_average=not train))
        for stage, blocks in enumerate(self.blocks):
            for i in range(blocks):
                x = _residual(getattr(module, f"stage{stage}_block{i}"), x, train, project=stage > 0 and i == 0)
        return jnp.asarray(module.out(x.mean(axis=tuple(range(1, x.ndim - 1)))))

    def larger(self, how: str) -> ResNet:
        """Twice the filters, one block more, or twice the blocks."""
        if how == "widen":
            return dataclasses.replace(self, filters=2 * self.filters)
        if how == "deepen_all":
            return dataclasses.replace(self, blocks=tuple(2 * n for n in self.blocks))
        last = max(i for i, n in enumerate(self.blocks) if n == min(self.blocks))
        return dataclasses.replace(self, blocks=tuple(n + (i == last) for i, n in enumerate(self.blocks)))

    def added(self, layer: Variables) -> Variables:
        """A block whose last scale is 0."""
        if "scale" not in layer["norm2"]:
            return layer
        return {**layer, "norm2": {**layer["norm2"], "scale": jnp.zeros_like(layer["norm2"]["scale"])}}

    def _block(self, inputs: int, width: int, stride: int) -> Group:
        block: tuple[tuple[str, Any], ...] = (
            ("conv1", Conv(inputs, width, 3, self.dims, stride)),
            ("norm1", Norm(width)),
            ("conv2", Conv(width, width, 3, self.dims)),
            ("norm2", Norm(width)),
        )
        if stride > 1:
            block += (("project", Conv(inputs, width, 1, self.dims, stride)), ("project_norm", Norm(width)))
        return Group(block)


def _residual(block: Any, x: Array, train: bool, project: bool) -> Array:
    running = not train
    y = jax.nn.relu(block.norm1(block.conv1(x), use_running_average=running))
    y = block.norm2(block.conv2(y), use_running_average=running)
    if project:
        x = block.project_norm(block.project(x), use_running_average=running)
    return jax.nn.relu(x + y)
