"""Sinusoids: regression tasks of MAML's first experiment."""

from __future__ import annotations

import dataclasses
from typing import Annotated

import jax
import jax.numpy as jnp
from typing_extensions import Doc

from ev3x.component import Count, Kit
from ev3x.core.types import Array, Batch
from ev3x.training.episodes import Regression, episode

from .perceptron import Perceptron

AMPLITUDE, PHASE, X = (0.1, 5.0), (0.0, jnp.pi), (-5.0, 5.0)


@dataclasses.dataclass(frozen=True)
class Sinusoids(Perceptron, Regression):
    """Learn to fit a new sinusoid from a few points: a sin(x - b), a from .1 to 5, b from 0 to pi, x from -5 to 5.

    The family of MAML's first experiment (Finn, Abbeel and Levine, arXiv 1703.03400, section 5.1), with its network and
    its inner rate. An episode is {"support": {"x": f32[support, 1], "y": f32[support, 1]}, "query": ...}, drawn
    afresh; the metric is the mean squared error on the query points, at most `clip`.
    Needs `pip install "ev3x[examples]"`.
    """

    support: Annotated[Count, Doc("points to adapt on")] = 10
    query: Annotated[Count, Doc("points to answer on")] = 10

    kit = Kit({"hidden": [8], "steps": 2, "batch_size": 8})

    def episode(self, key: Array, pool: Batch) -> Batch:
        """Points of one sinusoid."""
        size, shift, where = jax.random.split(key, 3)
        amplitude = jax.random.uniform(size, minval=AMPLITUDE[0], maxval=AMPLITUDE[1])
        phase = jax.random.uniform(shift, minval=PHASE[0], maxval=PHASE[1])
        x = jax.random.uniform(where, (self.support + self.query, 1), minval=X[0], maxval=X[1])
        return episode(x, amplitude * jnp.sin(x - phase), support=self.support)
