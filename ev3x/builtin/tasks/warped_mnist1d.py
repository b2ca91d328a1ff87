"""MNIST-1D seen through a warp of each task's own: a family of classification tasks without end."""

from __future__ import annotations

import dataclasses
from typing import Annotated, ClassVar, Literal

import jax
import jax.numpy as jnp
from typing_extensions import Doc

from ev3x.component import Count, Fault, Kit
from ev3x.core.types import Array, Batch
from ev3x.training.episodes import Classification, episode
from ev3x.training.optimizers import Optimizer

from . import mnist1d
from .perceptron import Perceptron

SCALES = 0.5, 2.0


@dataclasses.dataclass(frozen=True)
class WarpedMnist1D(Perceptron, Classification):
    """Learn to classify MNIST-1D through a new warp: every task scales and shifts its signals and permutes the classes.

    An episode is {"support": {"x": f32[support, 40], "y": i32[support]}, "query": ...}, made of fresh examples, each of
    a random digit. Its signals are multiplied by one number from .5 to 2 (uniform in the logarithm), rotated by one
    number of points, and its ten classes are renamed. Give it many support examples: at 5 per class a perceptron is
    near chance. A block of 1,024 episodes of 150 examples is 25 MB: set confirm.block = 128 for more.
    Needs `pip install "ev3x[examples]"`.
    """

    shape: ClassVar[tuple[int, ...]] = (mnist1d.LENGTH,)

    inner: Annotated[Optimizer, Doc("the optimizer inside of an episode; its state is fresh in each")] = Optimizer(
        "sgd", learning_rate=0.1
    )
    support: Annotated[Count, Doc("examples to adapt on")] = 100
    query: Annotated[Count, Doc("examples to answer on")] = 50
    warps: Annotated[tuple[Literal["scale", "shift", "permute"], ...], Doc("what differs between tasks")] = (
        *("scale", "shift", "permute"),
    )

    kit = Kit({"hidden": [8], "steps": 2, "batch_size": 4, "support": 20, "query": 10})

    def check(self) -> list[Fault]:
        """A fault for a warp named twice."""
        return [Fault(("warps",), "names a warp twice")] if len(set(self.warps)) < len(self.warps) else []

    @property
    def outputs(self) -> int:
        """Ten classes."""
        return mnist1d.CLASSES

    def episode(self, key: Array, pool: Batch) -> Batch:
        """Fresh examples behind one warp."""
        drawn, scale, shift, classes = jax.random.split(key, 4)
        made = mnist1d.generate(drawn, self.support + self.query)
        x, y = made["x"], made["y"]
        if "scale" in self.warps:
            low, high = jnp.log(jnp.array(SCALES))
            x = x * jnp.exp(jax.random.uniform(scale, minval=low, maxval=high))
        if "shift" in self.warps:
            x = jnp.roll(x, jax.random.randint(shift, (), 0, mnist1d.LENGTH), axis=1)
        if "permute" in self.warps:
            y = jax.random.permutation(classes, mnist1d.CLASSES).astype(y.dtype)[y]
        return episode(x, y, support=self.support)
