"""The classifiers and the data of the timings: plain functions, and values that no timing depends on."""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

import ev3x

Array = jax.Array
Batch = dict[str, Array]
Variables = dict[str, Any]


def correct(logits: Array, batch: Batch) -> Array:
    """Which examples are classified correctly: bool[n]."""
    return logits.argmax(-1) == batch["y"]


def xent(logits: Array, batch: Batch, temperature: Array | float) -> Array:
    """The cross-entropy of each example, f32[n]."""
    return optax.softmax_cross_entropy_with_integer_labels(logits / temperature, batch["y"])


@dataclasses.dataclass(frozen=True)
class Dense(ev3x.Task):
    """A network of dense layers with ReLU between them; `sizes` are inputs, hidden units and classes."""

    sizes: tuple[int, ...] = (2, 8, 2)

    metrics = (ev3x.Metric("accuracy", correct, binary=True),)
    losses = ("xent",)

    @property
    def hypers(self) -> Mapping[str, float]:
        """The number that logits are divided by."""
        return {"temperature": 1.0}

    @property
    def shapes(self) -> list[tuple[int, ...]]:
        """The shape of every layer's weights; outputs last."""
        return list(itertools.pairwise(self.sizes))

    def init(self, key: Array) -> Variables:
        """Normal weights of variance 2 / inputs; biases of 0."""
        keys = jax.random.split(key, len(self.shapes))
        layers = {}
        for i, shape in enumerate(self.shapes):
            scale = math.sqrt(2 / math.prod(shape[:-1]))
            layers[f"layer{i}"] = {"w": scale * jax.random.normal(keys[i], shape), "b": jnp.zeros(shape[-1])}
        return {"params": layers}

    def predict(self, variables: Variables, batch: Batch) -> Array:
        """The logits, f32[n, classes]."""
        *hidden, last = variables["params"].values()
        x = batch["x"]
        for layer in hidden:
            x = jax.nn.relu(x @ layer["w"] + layer["b"])
        return x @ last["w"] + last["b"]

    def loss(
        self, name: str, variables: Variables, batch: Batch, key: Array, hypers: Mapping[str, Any]
    ) -> tuple[Array, Variables]:
        """The cross-entropy of each example, and the variables as they came."""
        return xent(self.predict(variables, batch), batch, hypers["temperature"]), variables


@dataclasses.dataclass(frozen=True)
class Conv(Dense):
    """The CNN published with MNIST-1D (arXiv 2011.14439): 3 times 25 channels, window 5, stride 2."""

    sizes: tuple[int, ...] = (40, 10)

    @property
    def shapes(self) -> list[tuple[int, ...]]:
        """Three convolutions of 40, 20 and 10 points, then 5 points x 25 channels to the classes."""
        return [(5, 1, 25), (5, 25, 25), (5, 25, 25), (5 * 25, self.sizes[-1])]

    def predict(self, variables: Variables, batch: Batch) -> Array:
        """The logits, f32[n, classes]."""
        *convolutions, last = variables["params"].values()
        x = batch["x"][..., None]
        for layer in convolutions:
            axes = ("NWC", "WIO", "NWC")
            x = jax.lax.conv_general_dilated(x, layer["w"], (2,), "SAME", dimension_numbers=axes)
            x = jax.nn.relu(x + layer["b"])
        return x.reshape(x.shape[0], -1) @ last["w"] + last["b"]


TASKS: dict[str, Dense] = {
    "2-8-2": Dense(),
    "MLP-256": Dense((40, 256, 10)),
    "CNN": Conv(),
}


@dataclasses.dataclass(frozen=True)
class Labelled:
    """Makes examples: normal inputs, labelled by a fixed linear rule. A `make` for `Generated`."""

    inputs: int
    classes: int

    def __call__(self, key: Array, n: int) -> Batch:
        """n examples: x f32[n, inputs], y i32[n]."""
        rule = np.random.default_rng(0).normal(size=(self.inputs, self.classes)).astype(np.float32)
        x = jax.random.normal(key, (n, self.inputs))
        return {"x": x, "y": (x @ rule).argmax(-1)}


def splits(task: Dense, *, fresh: bool = False, batch_size: int = 32, decide: int = 40 * 2048) -> ev3x.Splits:
    """4,096 examples to explore, as many to assess and `decide` to decide; if fresh, there is no end."""
    make = Labelled(task.sizes[0], task.sizes[-1])
    keys = jax.random.split(jax.random.key(1), 3)
    if fresh:
        sources: list[Any] = [ev3x.Generated(key, make) for key in keys]
    else:
        sources = [ev3x.Arrays(make(key, n)) for key, n in zip(keys, (4096, 4096, decide), strict=True)]
    explore, assess, confirm = sources
    return ev3x.Splits(ev3x.Explore(explore, batch_size), ev3x.Assess(assess), ev3x.Decide(confirm))
