"""Quadratics that share their curvature: a family whose best adaptation is known in closed form."""

from __future__ import annotations

import dataclasses
import functools
from typing import Annotated, Any

import jax
import jax.numpy as jnp
import numpy as np
import numpy.typing as npt
from annotated_types import Ge
from typing_extensions import Doc

from ev3x.component import Count, Kit, Positive, Real, Seed
from ev3x.core.types import Array, Batch, Predictions, Variables
from ev3x.training.episodes import Regression
from ev3x.training.optimizers import Optimizer


@dataclasses.dataclass(frozen=True)
class Quadratics(Regression):
    """Learn to descend a new bowl 1/2 (g - c)' H (g - c), whose center c ~ N(0, I) is new and whose curvature H is not.

    The parameters are the place g itself. H = Q diag(logspace(-log10(condition), 0)) Q' with a random rotation Q, or
    none. Support and query set of an episode are the same single point {"x": f32[1, 1] (of no meaning), "y": f32[1,
    dimension]}, the center: the metric is what is left of the loss after the steps, at most `clip`. Gradient descent
    with one rate leaves much along flat directions, whatever the start; a learned geometry need not.
    """

    inner: Annotated[Optimizer, Doc("the optimizer inside of an episode; its state is fresh in each")] = Optimizer(
        "sgd", learning_rate=0.5
    )
    steps: Annotated[Count, Doc("steps of adaptation")] = 10
    clip: Annotated[Positive, Doc("the most that the error of an episode counts")] = 5.0
    dimension: Annotated[Count, Doc("coordinates")] = 10
    condition: Annotated[Real, Ge(1), Doc("the largest curvature, which is 1, over the smallest")] = 100.0
    rotation: Annotated[Seed, Doc("the seed of the rotation")] = 0
    diagonal: Annotated[bool, Doc("whether the curvature is not rotated")] = False

    kit = Kit({"steps": 2, "dimension": 3, "batch_size": 8})

    def init(self, key: Array) -> Variables:
        """A place drawn from N(0, I)."""
        return {"params": {"place": jax.random.normal(key, (self.dimension,))}}

    def answer(self, variables: Variables, x: Any) -> Array:
        """The place, for each point."""
        return jnp.broadcast_to(variables["params"]["place"][None], (len(x), self.dimension))

    def fit(self, predictions: Predictions, points: Batch) -> Array:
        """The height of each place in its bowl."""
        away = predictions - points["y"]
        rotation = None if self.diagonal else self.rotation
        curvature = jnp.asarray(matrix(self.dimension, self.condition, rotation), away.dtype)
        return 0.5 * jnp.sum(away * (away @ curvature), axis=1)

    def episode(self, key: Array, pool: Batch) -> Batch:
        """A bowl, known by its center."""
        point = {"x": jnp.zeros((1, 1)), "y": jax.random.normal(key, (1, self.dimension))}
        return {"support": point, "query": point}


@functools.lru_cache(maxsize=64)
def matrix(dimension: int, condition: float, rotation: int | None) -> npt.NDArray[np.float64]:
    """H, f64[dimension, dimension]."""
    values = np.logspace(-np.log10(condition), 0, dimension)
    if rotation is None:
        return np.diag(values)
    q, r = np.linalg.qr(np.random.default_rng(rotation).standard_normal((dimension, dimension)))
    q = q * np.sign(np.diag(r))  # so that every rotation (or reflection) is equally likely
    found: npt.NDArray[np.float64] = (q * values) @ q.T
    return found
