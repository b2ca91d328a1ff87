"""scikit-learn's digits: 1,797 scans of 8 x 8 points, and a network of one hidden layer."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping
from typing import Annotated, Any

import jax
import jax.numpy as jnp
import numpy as np
from typing_extensions import Doc

from ev3x import Arrays, Assess, Data, Decide, Explore, Metric, Splits, Task, metrics
from ev3x.component import Count, checked_seed

Array = jax.Array
Batch = dict[str, Array]
PIXELS, CLASSES = 64, 10

# How many scans the splits get; what is left is the test set.
TRAIN, META, ASSESS, DECIDE = 1000, 300, 100, 100


@dataclasses.dataclass(frozen=True)
class Digits(Task):
    """Digits: 1,000 to train on, 300 for the meta split, assess and decide (100 each), test (297).

    Batches are {"x": f32[n, 64] in [0, 1], "y": i32[n]}; the model is a perceptron with tanh, from Glorot's normal
    initialization; the loss is "labels", the cross-entropy. Needs `pip install "ev3x-fds[examples]"`.
    """

    hidden: Annotated[Count, Doc("units of the hidden layer")] = 32
    batch_size: Annotated[Count, Doc("examples in a training batch")] = 32
    meta_batch_size: Annotated[Count, Doc("examples in a batch of the meta split")] = META

    @property
    def metrics(self) -> tuple[Metric, ...]:
        """Accuracy, which decides, and cross-entropy in nats."""
        return (
            Metric("accuracy", metrics.accuracy, binary=True),
            Metric("cross_entropy", metrics.cross_entropy, low=0.0, maximize=False),
        )

    @property
    def losses(self) -> tuple[str, ...]:
        """ "labels"."""
        return ("labels",)

    def init(self, key: Array) -> Any:
        """A fresh network: {"params": ...}."""
        first, second = jax.random.split(key)
        draw = jax.nn.initializers.glorot_normal()
        return {
            "params": {
                "hidden": {
                    "w": draw(first, (PIXELS, self.hidden), jnp.float32),
                    "b": jnp.zeros(self.hidden, jnp.float32),
                },
                "out": {"w": draw(second, (self.hidden, CLASSES), jnp.float32), "b": jnp.zeros(CLASSES, jnp.float32)},
            }
        }

    def predict(self, variables: Any, batch: Batch) -> Array:
        """The logits, f32[n, 10]."""
        hidden, out = variables["params"]["hidden"], variables["params"]["out"]
        return jnp.tanh(batch["x"] @ hidden["w"] + hidden["b"][None]) @ out["w"] + out["b"][None]

    def loss(self, name: str, variables: Any, batch: Batch, key: Array, hypers: Mapping[str, Any]) -> tuple[Array, Any]:
        """The cross-entropy of each example in nats, f32[n]."""
        return metrics.cross_entropy(self.predict(variables, batch), batch), variables

    def load(self, seed: int) -> Data:
        """The splits of the run with this seed."""
        parts = [
            Arrays({n: jnp.asarray(x) for n, x in p.items()}) for p in shuffled(seed, (TRAIN, META, ASSESS, DECIDE))
        ]
        train, meta, assess, decide, test = parts
        explore = Explore(train, self.batch_size, meta=Explore(meta, self.meta_batch_size))
        # 100 scans are soon spent: they are read again, and the records say so.
        return Data(Splits(explore, Assess(assess), Decide(decide, reuse=True)), test, "scikit-learn's digits")


def shuffled(seed: int, sizes: tuple[int, ...]) -> list[dict[str, np.ndarray[Any, Any]]]:
    """The scans in the order of this seed, cut into parts of these sizes and one of what is left."""
    x, y = _scans()
    order = np.random.default_rng(checked_seed(seed)).permutation(len(y))
    return [{"x": x[part], "y": y[part]} for part in np.split(order, np.cumsum(sizes))]


@functools.cache
def _scans() -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    try:
        from sklearn.datasets import load_digits
    except ImportError as error:
        raise ImportError(f'the digits need scikit-learn ({error}): pip install "ev3x-fds[examples]"') from error
    found = load_digits()
    return (found.data / 16).astype(np.float32), found.target.astype(np.int32)
