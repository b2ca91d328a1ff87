"""Where components are tried: a task that compiles in a fraction of a second, its splits, and drawn scores."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Annotated, Any

import jax
import jax.numpy as jnp
import numpy as np
import numpy.typing as npt
from typing_extensions import Doc

from ..component import Count
from ..core.data import Arrays, Assess, Decide, Explore, Generated, Splits
from ..core.task import Data, Metric, Task
from ..core.types import Array, Batch, Variables

Floats = npt.NDArray[np.float32]


def accuracy(predictions: Array, batch: Batch) -> Array:
    """Whether each example is on the right side: bool[n]."""
    return (predictions > 0) == batch["y"]


def likelihood(predictions: Array, batch: Batch) -> Array:
    """The log-likelihood of each example: f32[n]."""
    return jax.nn.log_sigmoid(jnp.where(batch["y"], predictions, -predictions))


def share(predictions: Array, batch: Batch) -> Array:
    """The probability of the right class, f32[n]: in 0 ... 1, but neither 0 nor 1."""
    return jax.nn.sigmoid(jnp.where(batch["y"], predictions, -predictions))


SHARE = Metric("share", share, low=0.0, high=1.0)
METRICS = (Metric("accuracy", accuracy, binary=True), Metric("likelihood", likelihood, high=0.0))


@dataclasses.dataclass(frozen=True)
class TinyTask(Task):
    """Two overlapping classes in the plane, told apart by a sum of linear units; it can grow, and has statistics.

    Its losses are "logistic" and "hinge", its hyperparameter is "temperature", its growth "widen".
    """

    width: Annotated[Count, Doc("linear units")] = 2

    @property
    def metrics(self) -> tuple[Metric, ...]:
        """Accuracy, which decides, and the log-likelihood."""
        return METRICS

    @property
    def losses(self) -> tuple[str, ...]:
        """ "logistic" and "hinge"."""
        return ("logistic", "hinge")

    @property
    def hypers(self) -> Mapping[str, float]:
        """What the margin is divided by."""
        return {"temperature": 1.0}

    def init(self, key: Array) -> Variables:
        """Random units, and the running mean of the inputs."""
        weight = 0.1 * jax.random.normal(key, (self.width, 2), jnp.float32)
        params = {"weight": weight, "bias": jnp.zeros(self.width, jnp.float32)}
        return {"params": params, "statistics": {"mean": jnp.zeros(2, jnp.float32)}}

    def predict(self, variables: Variables, batch: Batch) -> Array:
        """The logit of each example: f32[n]."""
        units = batch["x"] @ variables["params"]["weight"].T + variables["params"]["bias"][None]
        return units.sum(-1)

    def loss(
        self, name: str, variables: Variables, batch: Batch, key: Array, hypers: Mapping[str, Any]
    ) -> tuple[Array, Variables]:
        """The loss of each example, and the moved mean of the inputs."""
        temperature = jnp.asarray(hypers["temperature"], jnp.float32)
        margin = jnp.where(batch["y"], 1.0, -1.0).astype(jnp.float32) * self.predict(variables, batch) / temperature
        each = {"logistic": lambda: -jax.nn.log_sigmoid(margin), "hinge": lambda: jax.nn.relu(1 - margin)}[name]()
        mean = 0.9 * variables["statistics"]["mean"] + 0.1 * batch["x"].mean(0)
        return each, {**variables, "statistics": {"mean": mean}}

    @property
    def growths(self) -> tuple[str, ...]:
        """ "widen"."""
        return ("widen",)

    def grow(self, how: str, key: Array, variables: Variables) -> tuple[Task, Variables]:
        """Twice as many units; the new ones are zero."""
        wider = jax.tree.map(lambda x: jnp.concatenate([x, jnp.zeros_like(x)]), variables["params"])
        return dataclasses.replace(self, width=2 * self.width), {**variables, "params": wider}

    def load(self, seed: int) -> Data:
        """Endless splits, and 256 test examples."""
        test = Arrays(examples(jax.random.fold_in(jax.random.key(seed), 4), 256))
        return Data(splits(seed), test, "two overlapping classes in the plane")


def loaded(task: Task) -> Splits:
    """The splits that a task loads with seed 0; ValueError when they are streamed."""
    found = task.load(0).splits
    if not isinstance(found, Splits):
        raise ValueError(f"{type(task).__name__} loads a stream, but checks need splits: hand over splits=Splits(...)")
    return found


def examples(key: Array, n: int) -> dict[str, Array]:
    """n examples, {"x": f32[n, 2], "y": bool[n]}; the classes lie 1.4 standard deviations apart."""
    label, noise = jax.random.split(key)
    y = jax.random.bernoulli(label, shape=(n,))
    x = jax.random.normal(noise, (n, 2), jnp.float32) + jnp.where(y, 0.5, -0.5).astype(jnp.float32)[:, None]
    return {"x": x, "y": y}


def splits(seed: int = 0, batch_size: int = 8) -> Splits:
    """Endless splits of such examples, with a meta split."""
    keys = jax.random.split(jax.random.key(seed), 4)
    explore, meta, assess, decide = (Generated(key, examples) for key in keys)
    return Splits(
        Explore(explore, batch_size, meta=Explore(meta, batch_size)),
        Assess(assess),
        Decide(decide),
    )


def scores(
    rng: np.random.Generator, metrics: tuple[Metric, ...], gains: Sequence[float], copied: float, shape: tuple[int, ...]
) -> tuple[Floats, Floats]:
    """Scores f32[..., K, M, n] of contenders with these gains, and of the reference, f32[..., M, n]; shape is [..., n].

    A gain of 0 is the reference's own law, 1 is very much better. On a fraction `copied` of the examples a contender
    scores as the reference does: two models of one run agree on most. The last axis is a block of examples: a set-level
    metric has one value on it, a constant one has one value at all. Drawn by numpy: there is nothing to compile.
    """
    reference = np.stack([drawn(rng, metric, 0.0, shape) for metric in metrics], axis=-2)
    contenders = []
    for gain in gains:
        rows = []
        for i, metric in enumerate(metrics):
            alone = metric.kind == "set" or metric.constant
            same = rng.random(shape, np.float32) < (0.0 if alone else copied)
            rows.append(np.where(same, reference[..., i, :], drawn(rng, metric, gain, shape)))
        contenders.append(np.stack(rows, axis=-2))
    return np.stack(contenders, axis=-3), reference


def drawn(rng: np.random.Generator, metric: Metric, gain: float, shape: tuple[int, ...]) -> Floats:
    """Scores f32[..., n] in the range of a metric, the better the larger the gain."""
    gain = gain if metric.maximize else -gain
    u = rng.random((*shape[:-1], 1) if metric.kind == "set" else shape, np.float32)
    u = np.full_like(u, 0.5) if metric.constant else np.maximum(u, np.float32(1e-6))
    low, high = math.isfinite(metric.low), math.isfinite(metric.high)
    if metric.binary:
        made: npt.NDArray[Any] = u < 0.5 + 0.4 * gain
    elif low and high:
        made = metric.low + (metric.high - metric.low) * (0.25 + 0.5 * u + 0.2 * gain)
    elif high:
        made = metric.high + np.log(u) * math.exp(-gain)  # skewed, as a log-likelihood is
    elif low:
        made = metric.low - np.log(u) * math.exp(gain)
    else:
        made = np.log(u) + gain
    return np.broadcast_to(made, shape).astype(np.float32)


def weights(metrics: tuple[Metric, ...], mask: Floats) -> Floats:
    """The weights f32[..., M, n] of blocks with this mask f32[..., n]; a set-level value counts once a block."""
    once = np.zeros_like(mask)
    once[..., 0] = 1.0
    return np.stack([once if metric.kind == "set" else mask for metric in metrics], axis=-2)
