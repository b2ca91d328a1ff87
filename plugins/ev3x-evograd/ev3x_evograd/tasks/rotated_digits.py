"""Digits that are upright to train on and turned to be judged on: the angle is to be learned."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Annotated, Any

import jax
import jax.numpy as jnp
import numpy as np
from typing_extensions import Doc

from ev3x import Data
from ev3x.component import Real
from ev3x.metrics import cross_entropy

from .digits import Array, Batch, Digits, shuffled

SIDE = 8


def turned(x: Array, angle: Array | float) -> Array:
    """The scans f32[n, 64], turned counter-clockwise by an angle in degrees; differentiable in the angle.

    Bilinear interpolation about the middle of the picture; what comes from outside is 0.
    """
    radians = jnp.deg2rad(jnp.asarray(angle, x.dtype))
    middle = (SIDE - 1) / 2
    rows, columns = (g - middle for g in jnp.meshgrid(*2 * [jnp.arange(SIDE, dtype=x.dtype)], indexing="ij"))
    cos, sin = jnp.cos(radians), jnp.sin(radians)
    places = jnp.stack([cos * rows + sin * columns, cos * columns - sin * rows]) + middle

    def one(image: Array) -> Array:
        return jax.scipy.ndimage.map_coordinates(image, list(places), order=1)

    return jax.vmap(one)(x.reshape(-1, SIDE, SIDE)).reshape(x.shape)


@dataclasses.dataclass(frozen=True)
class RotatedDigits(Digits):
    """Train on 1,000 upright digits such that digits turned by `angle` degrees are recognized.

    Losses: "turned" is the cross-entropy on training digits turned by the hyperparameter `angle`, "labels" that on
    digits as they are. Meta (300), assess and decide (100 each) and test (297) are turned by the true angle. A model
    that trains upright gets about half of them right. After the rotation transformer of arXiv 2106.10575.
    Needs `pip install "ev3x-evograd[examples]"`.
    """

    angle: Annotated[Real, Doc("degrees, counter-clockwise, by which the target digits are turned")] = 30.0

    @property
    def losses(self) -> tuple[str, ...]:
        """ "turned" and "labels"."""
        return ("turned", "labels")

    @property
    def hypers(self) -> Mapping[str, float]:
        """The angle by which "turned" turns, in degrees."""
        return {"angle": 0.0}

    def loss(self, name: str, variables: Any, batch: Batch, key: Array, hypers: Mapping[str, Any]) -> tuple[Array, Any]:
        """The cross-entropy of each example in nats, f32[n]."""
        if name == "turned":
            batch = {**batch, "x": turned(batch["x"], hypers["angle"])}
        return cross_entropy(self.predict(variables, batch), batch), variables

    def load(self, seed: int) -> Data:
        """The splits of the run with this seed."""
        train, *rest = shuffled(seed, meta=300)
        rest = [{**part, "x": np.asarray(turned(jnp.asarray(part["x"]), self.angle))} for part in rest]
        return self._data([train, *rest], f"scikit-learn's digits: train upright, the rest turned by {self.angle:g}°")
