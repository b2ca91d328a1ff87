"""Few-shot digits: tell a few classes of scikit-learn's scans apart, known from one or a few scans each."""

from __future__ import annotations

import dataclasses
from typing import Annotated, ClassVar, Literal

import jax
import jax.numpy as jnp
import numpy as np
from annotated_types import Ge, Le
from typing_extensions import Doc

from ev3x.component import Count, Fault, Kit
from ev3x.core.types import Array, Batch
from ev3x.training.episodes import Classification, Pools
from ev3x.training.optimizers import Optimizer

from . import digits
from .perceptron import Perceptron


@dataclasses.dataclass(frozen=True)
class FewShotDigits(Perceptron, Classification):
    """Learn to tell `ways` digits apart from `shots` scans of each: by default 1-shot 5-way, on scikit-learn's digits.

    An episode draws its classes, their order, and different scans of each from the pool of its split: {"support": {"x":
    f32[ways shots, 8, 8] in [0, 1], "y": i32[ways shots], the place of the class in the order}, "query": ...}. No two
    splits share a scan; there are 900 to explore, 300 to assess, 300 to decide, 297 for the test, so that what is
    proven concerns episodes of the 300 scans to decide. With apart = "classes" they share no digit either: 4 digits to
    explore, 2 for each other split, for 2 ways at most.
    Needs `pip install "ev3x[examples]"`.
    """

    shape: ClassVar[tuple[int, ...]] = digits.SHAPE

    inner: Annotated[Optimizer, Doc("the optimizer inside of an episode; its state is fresh in each")] = Optimizer(
        "sgd", learning_rate=0.5
    )
    ways: Annotated[int, Ge(2), Le(digits.CLASSES), Doc("classes of an episode")] = 5
    shots: Annotated[Count, Doc("scans of each class to adapt on")] = 1
    queries: Annotated[Count, Doc("scans of each class to answer on")] = 5
    apart: Annotated[Literal["scans", "classes"], Doc("what no two splits share")] = "scans"

    kit = Kit({"hidden": [8], "steps": 2, "batch_size": 8})

    def check(self) -> list[Fault]:
        """A fault when there are fewer classes than ways."""
        least = min(digits.FEW_CLASSES)
        if self.apart == "scans" or self.ways <= least:
            return []
        return [Fault(("ways",), f"must be at most {least} where no two splits share a class, got {self.ways}")]

    @property
    def outputs(self) -> int:
        """One for each class of an episode."""
        return self.ways

    @property
    def about(self) -> str:
        """What the splits share."""
        what = "scan" if self.apart == "scans" else "class"
        text = "a promotion concerns episodes of the decide pool"
        return f"scikit-learn's digits: {self.shots}-shot {self.ways}-way episodes; no two pools share a {what}; {text}"

    def pools(self, seed: int) -> Pools:
        """The scans of each split; ValueError when one has too few of a class."""
        found, wanted = digits.pools(seed, classes=self.apart == "classes"), self.shots + self.queries
        for name, pool in found._asdict().items():
            classes, counts = np.unique(pool["y"], return_counts=True)
            if (least := int(counts.min())) < wanted:
                text = f"an episode needs shots + queries = {wanted} of each class"
                digit = classes[counts.argmin()]
                raise ValueError(f"few-shot digits: {text}, but the {name} pool has {least} scans of the digit {digit}")
        return found

    def episode(self, key: Array, pool: Batch) -> Batch:
        """Scans of a few classes."""
        which, order = jax.random.split(key)
        held = pool["y"][None] == jnp.arange(digits.CLASSES, dtype=pool["y"].dtype)[:, None]  # [10, n]
        lots = jax.random.uniform(which, (digits.CLASSES,))
        _, classes = jax.lax.top_k(jnp.where(held.any(axis=1), lots, -1.0), self.ways)
        lots = jax.random.uniform(order, (1, len(pool["y"])))
        _, rows = jax.lax.top_k(jnp.where(held[classes], lots, -1.0), self.shots + self.queries)  # [ways, scans]
        y = jnp.broadcast_to(jnp.arange(self.ways, dtype=jnp.int32)[:, None], rows.shape)

        def part(cut: slice) -> Batch:
            return {"x": pool["x"][rows[:, cut].reshape(-1)], "y": y[:, cut].reshape(-1)}

        return {"support": part(slice(self.shots)), "query": part(slice(self.shots, None))}
