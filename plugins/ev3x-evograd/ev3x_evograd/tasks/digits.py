"""What the tasks on scikit-learn's digits share: 1,797 scans of 8 x 8 points, a small network, accuracy."""

from __future__ import annotations

import dataclasses
import functools
from typing import TYPE_CHECKING, Annotated, Any

import jax
import jax.numpy as jnp
import numpy as np
from typing_extensions import Doc

from ev3x import Arrays, Assess, Data, Decide, Explore, Metric, Splits, Task, metrics
from ev3x.component import Count, checked_seed

if TYPE_CHECKING:
    import flax.linen as nn

Array = jax.Array
Batch = dict[str, Array]
Host = dict[str, np.ndarray[Any, Any]]
PIXELS, CLASSES = 64, 10

# How many scans the splits get; a task says how many are for meta, and what is left is the test set.
TRAIN, ASSESS, DECIDE = 1000, 100, 100


@dataclasses.dataclass(frozen=True)
class Digits(Task):
    """Batches are {"x": f32[n, 64] in [0, 1], "y": i32[n]}; the model is a perceptron with ReLU."""

    hidden: Annotated[tuple[Count, ...], Doc("units of each hidden layer")] = (64,)
    batch_size: Annotated[Count, Doc("examples in a training batch")] = 64
    meta_batch_size: Annotated[Count, Doc("examples in a batch of the meta split")] = 64

    @property
    def metrics(self) -> tuple[Metric, ...]:
        """Accuracy, which decides, and cross-entropy in nats."""
        return (
            Metric("accuracy", metrics.accuracy, binary=True),
            Metric("cross_entropy", metrics.cross_entropy, low=0.0, maximize=False),
        )

    def init(self, key: Array) -> Any:
        """A fresh network: {"params": ...}."""
        return self._network().init(key, jnp.zeros((1, PIXELS)))

    def predict(self, variables: Any, batch: Batch) -> Array:
        """The logits, f32[n, 10]."""
        return jnp.asarray(self._network().apply(variables, batch["x"]))

    def _network(self) -> nn.Module:
        import flax.linen as nn

        layers: list[Any] = []
        for width in self.hidden:
            layers += [nn.Dense(width), nn.relu]
        return nn.Sequential([*layers, nn.Dense(CLASSES)])

    def _data(self, parts: list[Host], about: str) -> Data:
        """The splits from five parts: train, meta, assess, decide, test."""
        train, meta, assess, decide, test = (Arrays({n: jnp.asarray(x) for n, x in p.items()}) for p in parts)
        explore = Explore(train, self.batch_size, meta=Explore(meta, self.meta_batch_size))
        # 100 scans are soon spent: they are read again, and the records say so.
        return Data(Splits(explore, Assess(assess), Decide(decide, reuse=True)), test, about)


def shuffled(seed: int, meta: int) -> list[Host]:
    """The scans in the order of this seed, cut into train, meta (so many), assess, decide and test."""
    x, y = _scans()
    order = np.random.default_rng(checked_seed(seed)).permutation(len(y))
    cuts = np.cumsum([TRAIN, meta, ASSESS, DECIDE])
    return [{"x": x[part], "y": y[part]} for part in np.split(order, cuts)]


@functools.cache
def _scans() -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    try:
        from sklearn.datasets import load_digits
    except ImportError as error:
        raise ImportError(f'the digits need scikit-learn ({error}): pip install "ev3x-evograd[examples]"') from error
    found = load_digits()
    return (found.data / 16).astype(np.float32), found.target.astype(np.int32)
