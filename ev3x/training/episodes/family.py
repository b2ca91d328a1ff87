"""Families of tasks: a task whose examples are episodes, and whose predictions are those of the adapted model."""

from __future__ import annotations

import abc
import dataclasses
from collections.abc import Callable, Mapping
from typing import Annotated, Any, ClassVar

import jax
import jax.numpy as jnp
from typing_extensions import Doc

from ... import metrics as measures
from ...component import Count, Natural, Positive, unknown
from ...core.contract import BoundaryError, Who, described, real
from ...core.data import Arrays, Assess, Decide, Explore, Generated, Splits, check_source
from ...core.task import Data, Metric, Task
from ...core.types import Array, Batch, Predictions, PyTree, Variables
from ...values import checked_seed
from ..optimizers import Optimizer
from .drawn import Episodes, Pools, checked
from .inner import LOSSES, Inner, Objective


@dataclasses.dataclass(frozen=True)
class Family(Task):
    """Tasks that are alike: an example is an episode, and what is learned is how well the model adapts to a new one.

    A batch of n episodes is {"support": {"x": [n, s, ...], "y": [n, s, ...]}, "query": {"x": [n, q, ...], "y": [n, q,
    ...]}}. In each episode "params" take `steps` steps of `inner` on the whole support set, from the parameters that
    are trained; other collections stay as they are. Predictions are the answers of the adapted model on the query set,
    and a metric is a number per episode: a promotion then claims "adapts better to a new task of this family".

    Losses: "maml", "fomaml", "reptile" and "leap" (`LOSSES`).

    Subclasses say `init`, `answer`, `fit`, `metrics`, and how an `episode` is drawn; `Regression` and `Classification`
    have `fit` and `metrics`. A family over real data has `pools` besides.
    """

    tested: ClassVar[int] = 500  # episodes of the final report

    inner: Annotated[Optimizer, Doc("the optimizer inside of an episode; its state is fresh in each")] = Optimizer(
        "sgd", learning_rate=0.01
    )
    steps: Annotated[Count, Doc("steps of adaptation, each on the whole support set")] = 5
    remat: Annotated[bool, Doc("whether exact gradients compute steps again instead of storing them")] = False
    chunk: Annotated[Natural, Doc("episodes adapted at once; 0: all of a batch or block")] = 64
    batch_size: Annotated[Count, Doc("episodes in a training batch")] = 16

    @abc.abstractmethod
    def answer(self, variables: Variables, x: Any) -> Predictions:
        """The predictions for the points x of one episode: a pytree of arrays with a leading axis of points."""
        raise NotImplementedError

    @abc.abstractmethod
    def fit(self, predictions: Predictions, points: Batch) -> Array:
        """The loss of each point, f32[points], that adaptation lessens on the support set."""
        raise NotImplementedError

    def episode(self, key: Array, pool: Batch) -> Batch:
        """One episode: {"support": {"x", "y"}, "query": {"x", "y"}}, each with a leading axis of points.

        `pool` is the split's own part of `pools`, None where there are none.
        """
        raise NotImplementedError(f"{type(self).__name__} has no `episode`: give the Evolver your own splits")

    def pools(self, seed: int) -> Pools:
        """The real data of each split, that episodes are drawn from (on the host); none by default."""
        return Pools()

    @property
    def about(self) -> str:
        """A line about the data."""
        return f"episodes of {type(self).__name__}, drawn afresh"

    @property
    def losses(self) -> tuple[str, ...]:
        """ "maml", "fomaml", "reptile" and "leap"."""
        return tuple(LOSSES)

    @property
    def rule(self) -> Inner:
        """How parameters adapt inside of an episode."""
        return Inner(self.inner, self.steps, self.remat)

    def loss(
        self, name: str, variables: Variables, batch: Batch, key: Array, hypers: Mapping[str, Any]
    ) -> tuple[Array, Variables]:
        """The loss of each episode, f32[n], and the variables as they were."""
        if name not in LOSSES:
            raise ValueError(unknown("loss", name, LOSSES))

        def each(support: Batch, query: Batch) -> Array:
            own = self.objective(variables, support), self.objective(variables, query)
            return LOSSES[name](self.rule, *own, variables["params"])

        return jnp.asarray(self._each(each, batch)), variables

    def predict(self, variables: Variables, batch: Batch) -> Predictions:
        """The answers of the adapted model on the query set of each episode: [n, q, ...]."""

        def each(support: Batch, query: Batch) -> Predictions:
            adapted = self.rule.adapt(self.objective(variables, support), variables["params"])
            return self.answer({**variables, "params": adapted}, query["x"])

        return self._each(each, batch)

    def objective(self, variables: Variables, points: Batch) -> Objective:
        """The mean loss f32[] on the points of an episode, as a function of "params"; other collections are given."""
        wanted = jnp.shape(jax.tree.leaves(points)[0])[:1]

        def mean(params: PyTree) -> Array:
            each = self.fit(self.answer({**variables, "params": params}, points["x"]), points)
            if not real(each) or jnp.shape(each) != wanted:
                text = f"fit must return one loss per point, of shape {wanted}, got {described(each)}"
                raise BoundaryError(self._who, "fit", text, "sum over all axes but that of points, and do not average")
            return each.mean()

        return mean

    def load(self, seed: int) -> Data:
        """Endless episodes for each split, of its own pool, and 500 for the test."""
        pools, make = self.pools(checked_seed(seed)), Episodes(self)
        explore, assess, decide, test = keys = jax.random.split(jax.random.key(seed), 4)
        for name, key, pool in zip(Pools._fields, keys, pools, strict=True):
            check_source(name, Generated(key, make, pool))  # the test is drawn from its own below, and is no split
        pools = jax.tree.map(jnp.asarray, pools)  # on the device, or each call of a program would copy them
        splits = Splits(
            Explore(Generated(explore, make, pools.explore), self.batch_size),
            Assess(Generated(assess, make, pools.assess)),
            Decide(Generated(decide, make, pools.decide)),
        )
        return Data(splits, Arrays(make(test, self.tested, pools.test)), self.about)

    @property
    def _who(self) -> Who:
        return Who(type(self).__name__, "task", type(self))

    def _each(self, f: Callable[[Batch, Batch], Any], batch: Batch) -> Any:
        """f(support, query) of every episode, stacked; `chunk` of them have a copy of the parameters at a time."""
        parts = checked(self._who, batch)
        n = jax.tree.leaves(parts)[0].shape[0]
        if not 0 < self.chunk < n:
            return jax.vmap(lambda e: f(e["support"], e["query"]))(parts)
        return jax.lax.map(lambda e: f(e["support"], e["query"]), parts, batch_size=self.chunk)


@dataclasses.dataclass(frozen=True)
class Regression(Family):
    """A family of regression tasks: adaptation lessens the squared error; the metric "error" is clipped.

    The error of an episode is the mean of `fit` on its query set, at most `clip`, which is also what an episode counts
    whose adaptation diverged. Confirmation by betting needs that range: the smaller it is, the fewer episodes it reads.
    """

    clip: Annotated[Positive, Doc("the most that the error of an episode counts")] = 10.0

    @property
    def metrics(self) -> tuple[Metric, ...]:
        """ "error", from 0 to `clip`."""
        return (Metric("error", Clipped(self), low=0.0, high=self.clip, maximize=False),)

    def fit(self, predictions: Predictions, points: Batch) -> Array:
        """The squared distance of each answer from "y", f32[points]."""
        if jnp.shape(predictions) != jnp.shape(points["y"]):
            text = f"answer must return the shape of y, {jnp.shape(points['y'])}, got {described(predictions)}"
            raise BoundaryError(self._who, "answer", text, "give each point one answer, or say your own `fit`")
        away = jnp.square(predictions - points["y"])
        return away.reshape(len(away), -1).sum(axis=1)


@dataclasses.dataclass(frozen=True)
class Clipped:
    """The mean error on the query set of each episode, at most its family's `clip`: f32[n]."""

    family: Regression

    def __call__(self, predictions: Predictions, batch: Batch) -> Array:
        """What is not finite counts `clip`."""
        each = jax.vmap(self.family.fit)(predictions, batch["query"]).mean(axis=1)
        return jnp.where(jnp.isfinite(each), jnp.minimum(each, self.family.clip), self.family.clip)


@dataclasses.dataclass(frozen=True)
class Classification(Family):
    """A family of classification tasks: adaptation lessens the cross-entropy; the metric is accuracy.

    Answers are logits f32[points, classes], "y" is the class, i32[points]. The accuracy of an episode is the share of
    its query set that is right, from 0 to 1; an episode whose adaptation diverged has 0.
    """

    @property
    def metrics(self) -> tuple[Metric, ...]:
        """ "accuracy", from 0 to 1."""
        return (Metric("accuracy", right, low=0.0, high=1.0),)

    def fit(self, predictions: Predictions, points: Batch) -> Array:
        """The cross-entropy of each answer with its class, f32[points], in nats."""
        return measures.cross_entropy(predictions, points)


def right(predictions: Predictions, batch: Batch) -> Array:
    """The share of the query set of each episode that is right: f32[n]."""
    return jax.vmap(measures.accuracy)(predictions, batch["query"]).mean(axis=1)
