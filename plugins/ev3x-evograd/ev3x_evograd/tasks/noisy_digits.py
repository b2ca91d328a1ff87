"""Digits of which many have a wrong label: which examples to trust is to be learned."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import Annotated, Any

import jax
import numpy as np
from annotated_types import Ge, Le
from typing_extensions import Doc

from ev3x import Data
from ev3x.component import Count, Real
from ev3x.metrics import cross_entropy

from .digits import CLASSES, Array, Batch, Digits, shuffled


@dataclasses.dataclass(frozen=True)
class NoisyDigits(Digits):
    """Train on 1,000 digits of which a share has wrong labels; 100 correct ones are the meta split.

    Losses: "labels" is the cross-entropy; "weighted" is that times a weight for each example, which a small network
    (1-100-1, the hyperparameter `weigher`) makes from it, divided by the mean weight of the batch: Meta-Weight-Net (Shu
    et al., NeurIPS 2019, arXiv 1902.07379). Its default gives all examples equal weights. Meta, assess, decide (100
    each) and test (497) have correct labels. Needs `pip install "ev3x-evograd[examples]"`.
    """

    corrupted: Annotated[Real, Ge(0), Le(1), Doc("share of training labels that are wrong")] = 0.4
    units: Annotated[Count, Doc("hidden units of the weigher")] = 100

    @property
    def losses(self) -> tuple[str, ...]:
        """ "weighted" and "labels"."""
        return ("weighted", "labels")

    @property
    def hypers(self) -> Mapping[str, Any]:
        """The weigher: a network of one loss to one weight, whose output layer is 0."""
        # PyTorch's uniform initialisation, which the original uses, for one input; a fixed draw, as it is a default.
        w, b = np.random.default_rng(0).uniform(-1, 1, (2, self.units)).astype(np.float32)
        zeros = np.zeros(self.units, np.float32)
        return {"weigher": {"w": w, "b": b, "v": zeros, "c": np.float32(0)}}

    def loss(self, name: str, variables: Any, batch: Batch, key: Array, hypers: Mapping[str, Any]) -> tuple[Array, Any]:
        """The loss of each example in nats, f32[n]."""
        each = cross_entropy(self.predict(variables, batch), batch)
        if name == "weighted":
            weights = weigh(hypers["weigher"], jax.lax.stop_gradient(each))
            each *= weights / weights.mean()
        return each, variables

    def load(self, seed: int) -> Data:
        """The splits of the run with this seed."""
        train, *rest = shuffled(seed, meta=100)
        draw = np.random.default_rng((seed, 1))
        wrong = draw.permutation(len(train["y"])) < round(self.corrupted * len(train["y"]))
        other = (train["y"] + draw.integers(1, CLASSES, len(train["y"]))) % CLASSES
        train = {**train, "y": np.where(wrong, other, train["y"]).astype(np.int32)}
        about = f"scikit-learn's digits: {wrong.sum():,} of {wrong.size:,} training labels are wrong, no others"
        return self._data([train, *rest], about)


def weigh(weigher: Mapping[str, Any], losses: Array) -> Array:
    """The weight of each example in (0, 1) from its loss: f32[n]."""
    hidden = jax.nn.relu(losses[:, None] * weigher["w"][None] + weigher["b"][None])
    return jax.nn.sigmoid(hidden @ weigher["v"] / math.sqrt(weigher["v"].size) + weigher["c"])
