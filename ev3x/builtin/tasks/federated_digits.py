"""Federated digits: clients that hold few and very different scans of scikit-learn's digits."""

from __future__ import annotations

import dataclasses
from typing import Annotated, ClassVar

import jax
import jax.numpy as jnp
from annotated_types import Ge
from typing_extensions import Doc

from ev3x.component import Count, Kit, Positive, Real
from ev3x.core.types import Array, Batch
from ev3x.training.episodes import Classification, Pools
from ev3x.training.optimizers import Optimizer

from . import digits
from .perceptron import Perceptron


@dataclasses.dataclass(frozen=True)
class FederatedDigits(Perceptron, Classification):
    """Learn to adapt to a new client: a few noisy scans, mostly of a few digits, of scikit-learn's digits.

    An episode is a client. Its shares of the ten digits are Dirichlet; its support and query sets are drawn by these
    shares from two halves of the split's pool, divided anew for each client, so that no scan is in both; every pixel
    has normal noise. {"support": {"x": f32[support, 8, 8], "y": i32[support]}, "query": ...}. The model is softmax
    regression. No two splits share a scan: 900 to explore, 300 to assess, 300 to decide, 297 for the test, so that what
    is proven concerns clients of the 300 scans to decide. Needs `pip install "ev3x[examples]"`.
    """

    shape: ClassVar[tuple[int, ...]] = digits.SHAPE

    inner: Annotated[Optimizer, Doc("the optimizer inside of an episode; its state is fresh in each")] = Optimizer(
        "sgd", learning_rate=0.1
    )
    steps: Annotated[Count, Doc("steps of adaptation, each on the whole support set")] = 10
    hidden: Annotated[tuple[Count, ...], Doc("units of each hidden layer")] = ()
    support: Annotated[Count, Doc("scans of a client to adapt on")] = 20
    query: Annotated[Count, Doc("scans of a client to answer on")] = 20
    concentration: Annotated[Positive, Doc("of the Dirichlet shares of digits; the smaller, the fewer digits")] = 0.2
    noise: Annotated[Real, Ge(0), Doc("standard deviation of the noise of a pixel, of which scans have 0 to 1")] = 0.5

    kit = Kit({"steps": 2, "batch_size": 8})

    @property
    def outputs(self) -> int:
        """Ten digits."""
        return digits.CLASSES

    @property
    def about(self) -> str:
        """What the splits share."""
        text = "a promotion concerns clients of the decide pool"
        return f"scikit-learn's digits: clients with {self.support} noisy scans; no two pools share a scan; {text}"

    def pools(self, seed: int) -> Pools:
        """The scans of each split."""
        return digits.pools(seed)

    def episode(self, key: Array, pool: Batch) -> Batch:
        """The scans of one client."""
        shares, half, support, query = jax.random.split(key, 4)
        share = jax.random.dirichlet(shares, jnp.full(digits.CLASSES, self.concentration))
        side = jax.random.bernoulli(half, shape=pool["y"].shape)
        own = {"support": (support, side, self.support), "query": (query, ~side, self.query)}
        return {part: self._drawn(*how, share, pool) for part, how in own.items()}

    def _drawn(self, key: Array, side: Array, count: int, share: Array, pool: Batch) -> Batch:
        """Noisy scans {"x": f32[count, 8, 8], "y": i32[count]} from one side of the pool, by the shares of digits."""
        rows, noise = jax.random.split(key)
        held = jax.nn.one_hot(pool["y"], digits.CLASSES) * side[:, None].astype(jnp.float32)
        each = share / jnp.maximum(held.sum(axis=0), 1)  # of a scan of each digit
        # Where this half of a small pool has none of the client's digits, all of the half's scans are as likely.
        p = held @ each
        p = jnp.where(p.sum() > 0, p, side.astype(jnp.float32))
        found = jax.random.choice(rows, len(pool["y"]), (count,), p=p)
        x = pool["x"][found]
        return {"x": x + self.noise * jax.random.normal(noise, x.shape), "y": pool["y"][found]}
