"""Raise the accuracy itself, which has no gradient: SNES on a line through the plane.

python accuracy.py
"""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
from ev3x_evosax import component

import ev3x

Array = jax.Array
ACCURACY = ev3x.Metric("accuracy", lambda logits, batch: (logits > 0) == batch["y"], binary=True)


@dataclasses.dataclass(frozen=True)
class Line(ev3x.Task):
    """Two classes on two sides of a line; the task has no loss."""

    @property
    def metrics(self) -> tuple[ev3x.Metric, ...]:
        """How many are on the right side."""
        return (ACCURACY,)

    def init(self, key: Array) -> Any:
        """A line through zero."""
        return {"params": {"w": 0.1 * jax.random.normal(key, (2,)), "b": jnp.zeros(())}}

    def predict(self, variables: Any, batch: Any) -> Array:
        """The side of each example."""
        params = variables["params"]
        return batch["x"] @ params["w"] + params["b"]


def examples(key: Array, n: int) -> Any:
    """n examples, the line between them through (1, 0)."""
    x = jax.random.normal(key, (n, 2))
    return {"x": x, "y": x[:, 0] - x[:, 1] > 1}


def main() -> float:
    """The accuracy of the promoted model after 60 rounds."""
    sources = [ev3x.Generated(key, examples) for key in jax.random.split(jax.random.key(7), 3)]
    build: Any = ev3x.Host().build
    method = ev3x.Method(
        [component("snes")(population=16, std=0.3)],
        build("assessor", "mean_bounds", {"block": 256}),
        build("assessor", "paired", {"block": 256}),
        [build("adapter", "promote")],
        build("budget", "over_run"),
    )
    splits = ev3x.Splits(ev3x.Explore(sources[0], 1), ev3x.Assess(sources[1]), ev3x.Decide(sources[2]))
    evolver = ev3x.Evolver(Line(), method, splits)
    state, _ = evolver.rounds(evolver.init(0), 60)
    test = examples(jax.random.key(1), 10_000)
    right = (Line().predict(state.model.incumbent, test) > 0) == test["y"]
    return float(right.mean())


if __name__ == "__main__":
    print(f"accuracy {main():.1%}")
