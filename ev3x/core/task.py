"""What is trained: the model, its losses and the metrics that really matter."""

from __future__ import annotations

import abc
import dataclasses
import functools
import hashlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar, Literal

import jax
import jax.numpy as jnp
import numpy as np

from ..component import Component
from ..values import apart32, checked_name, different, flag, number, short
from . import contract
from .data import Arrays, Assess, Decide, Explore, Splits, check_source
from .streams import Feed
from .types import Array, Batch, Predictions, PyTree, Variables


class MetricError(Exception):
    """A metric failed on the host, inside a callback: the text names it, its task, and what it raised."""


@dataclasses.dataclass(frozen=True)
class Metric:
    """A number per example (or per set of examples) that says how good a model is; it need not be differentiable.

    `fn(predictions, batch)` returns f32[n] or bool[n] for `kind="example"` and one number for `kind="set"` (AUROC, a
    ratio). Set-level metrics are computed on each block of examples; reports give their mean over blocks, and their
    uncertainty is estimated from the spread between blocks (a short last block is filled up from the one before). `low`
    and `high` are the range of a single value; `binary` says that values are 0 or 1 only, which makes exact tests
    possible. Differences below `margin` do not matter. `constant` says that a model has the same value on every example
    (its size, a price): a difference then needs no test. `host=True` calls plain Python on numpy arrays through a
    callback: slow, outside XLA, but any Python code will do.
    """

    name: str
    fn: Callable[[Predictions, Batch], Any]
    kind: Literal["example", "set"] = "example"
    low: float = -np.inf
    high: float = np.inf
    binary: bool = False
    maximize: bool = True
    margin: float = 0.0
    constant: bool = False
    host: bool = False

    def __post_init__(self) -> None:
        self._check_values()
        if self.kind not in ("example", "set"):
            raise ValueError(f"metric {self.name!r}: kind must be 'example' or 'set', got {self.kind!r}")
        if self.binary and self.kind == "set":
            raise ValueError(f"metric {self.name!r}: a set-level metric cannot be binary")
        if self.constant and (self.binary or self.kind == "set"):
            raise ValueError(f"metric {self.name!r}: what is constant can be neither binary nor set-level")
        apart32(f"metric {self.name!r}", self.low, self.high)
        if not 0 <= self.margin < self.high - self.low:
            text = "not be negative" if self.margin < 0 else "be below high - low, or no difference matters"
            raise ValueError(f"metric {self.name!r}: margin must {text}, got {self.margin}")
        if self.binary and (self.low, self.high) not in ((-np.inf, np.inf), (0, 1)):
            got = f"got [{self.low}, {self.high}]: leave out low and high"
            raise ValueError(f"metric {self.name!r}: the values of a binary metric are from 0 to 1, {got}")
        if self.binary:
            object.__setattr__(self, "low", 0.0)
            object.__setattr__(self, "high", 1.0)

    def _check_values(self) -> None:
        """Puts Python's numbers and bools in place of numpy's; ValueError for what is none, and for NaN."""
        who = f"metric {checked_name('the name of a metric', self.name)!r}"
        if not callable(self.fn):
            raise ValueError(f"{who}: fn must be a function of predictions and batch, got {self.fn!r}")
        for field in ("low", "high"):
            object.__setattr__(self, field, number(f"{who}: {field}", getattr(self, field), infinite=True))
        object.__setattr__(self, "margin", number(f"{who}: margin", self.margin))
        for field in ("binary", "maximize", "constant", "host"):
            object.__setattr__(self, field, flag(f"{who}: {field}", getattr(self, field)))

    def __call__(self, predictions: Predictions, batch: Batch, n: int, task: str = "") -> Array:
        """The metric's values: f32[n], or f32[] for a set-level one; messages name the class of the `task`."""
        shape = (n,) if self.kind == "example" else ()
        if self.host:
            result, call = jax.ShapeDtypeStruct(shape, jnp.float32), functools.partial(self._on_host, task)
            called: Array = jax.pure_callback(call, result, predictions, batch, vmap_method="sequential")
            return called
        return jnp.asarray(self._checked(self.fn(predictions, batch), shape), jnp.float32)

    def _on_host(self, task: str, predictions: Predictions, batch: Batch) -> np.ndarray[Any, np.dtype[np.float32]]:
        predictions, batch = jax.tree.map(np.asarray, (predictions, batch))
        shape = (_length(batch),) if self.kind == "example" else ()
        try:
            return np.asarray(self._checked(np.asarray(self.fn(predictions, batch)), shape), np.float32)
        except Exception as error:  # XLA passes on the text and the places of the last exception, nothing else
            said = " ".join(f"{type(error).__name__}: {error}".split())
            raise MetricError(f"{self._of(task)}: {said}").with_traceback(error.__traceback__) from error

    def _of(self, task: str) -> str:
        return f"metric {self.name!r}" + (f" of the task {task}" if task else "")

    def _checked(self, value: Any, shape: tuple[int, ...]) -> Any:
        wanted = "one value per example" if self.kind == "example" else "one number for the whole set"
        if not contract.real(value):
            got = contract.described(value)
            raise ValueError(f"metric {self.name!r} must return {wanted}, as an array of numbers or bools, got {got}")
        if np.shape(value) != shape:
            hint = " (or declare it with kind='set')" if self.kind == "example" and np.shape(value) == () else ""
            raise ValueError(
                f"metric {self.name!r} must return {wanted}: expected shape {shape}, got {np.shape(value)}{hint}"
            )
        return value


@dataclasses.dataclass(frozen=True)
class Task(Component):
    """What is trained: functions and metrics. Data are arguments, so that they never become constants of a program.

    `variables` is a mapping of collections with at least "params"; optimizers update "params", a loss may update the
    rest (batch statistics). `hypers` declares the hyperparameters of the losses with their defaults: a number each, or
    a pytree of arrays (a network that weighs examples, an angle per axis) that a proposer can learn.
    """

    role: ClassVar[str] = "task"

    @property
    @abc.abstractmethod
    def metrics(self) -> tuple[Metric, ...]:
        """The metrics; the first one decides, unless a method says otherwise."""
        raise NotImplementedError

    @property
    def losses(self) -> tuple[str, ...]:
        """The names that `loss` accepts; none by default, for a task whose proposers need no gradients."""
        return ()

    @property
    def hypers(self) -> Mapping[str, PyTree]:
        """The hyperparameters that the losses read, with their defaults: numbers, or pytrees of float arrays."""
        return {}

    @abc.abstractmethod
    def init(self, key: Array) -> Variables:
        """Fresh variables: a mapping of collections with at least "params"."""
        raise NotImplementedError

    def loss(
        self, name: str, variables: Variables, batch: Batch, key: Array, hypers: Mapping[str, Any]
    ) -> tuple[Array, Variables]:
        """The loss of each example, f32[n], and the variables, in which all collections but "params" may be updated."""
        raise NotImplementedError(f"{type(self).__name__} has no `loss`")

    @abc.abstractmethod
    def predict(self, variables: Variables, batch: Batch) -> Predictions:
        """The predictions for this batch, any pytree of arrays: what the metrics read."""
        raise NotImplementedError

    @property
    def growths(self) -> tuple[str, ...]:
        """The names that `grow` accepts as `how`; none by default."""
        return ()

    def grow(self, how: str, key: Array, variables: Variables) -> tuple[Task, Variables]:
        """A larger task, and variables for it that compute the same function as these."""
        raise NotImplementedError(f"{type(self).__name__} names growths but has no `grow`")

    def weigh(self, batch: Batch) -> Array | None:
        """The weight of each example, f32[n], or None for equal ones; it never depends on a candidate."""
        return None

    def load(self, seed: int) -> Data:
        """The task's own data (on the host): splits for a run with this seed, and a test set for the final report."""
        raise NotImplementedError(f"task {type(self).__name__} brings no data: give the Evolver your own splits")


@dataclasses.dataclass(frozen=True)
class _Loss:
    name: str
    fn: Callable[[Predictions, Batch], Array]


@dataclasses.dataclass(frozen=True)
class _Model:
    init: Callable[[Array], Any]
    apply: Callable[[Any, Batch], Predictions]


@dataclasses.dataclass(frozen=True)
class _FunctionTask(Task):
    model: _Model
    loss_functions: tuple[_Loss, ...]
    measures: tuple[Metric, ...]

    @property
    def metrics(self) -> tuple[Metric, ...]:
        return self.measures

    @property
    def losses(self) -> tuple[str, ...]:
        return tuple(loss.name for loss in self.loss_functions)

    def init(self, key: Array) -> Variables:
        return {"params": self.model.init(key)}

    def loss(
        self, name: str, variables: Variables, batch: Batch, key: Array, hypers: Mapping[str, Any]
    ) -> tuple[Array, Variables]:
        found = next(loss for loss in self.loss_functions if loss.name == name)
        return found.fn(self.predict(variables, batch), batch), variables

    def predict(self, variables: Variables, batch: Batch) -> Predictions:
        return self.model.apply(variables["params"], batch)


def make_task(
    init: Callable[[Array], Any],
    apply: Callable[[Any, Batch], Predictions],
    losses: Mapping[str, Callable[[Predictions, Batch], Array]],
    metrics: Sequence[Metric],
) -> Task:
    """The task made of plain functions: `init(key)` gives parameters, `apply(params, batch)` predictions.

    A loss takes predictions and batch and returns f32[n]. For batch statistics, hyperparameters or randomness in a
    loss, subclass `Task`.
    """
    if not isinstance(losses, Mapping) or not isinstance(metrics, list | tuple):
        got = f"losses {short(losses)} and metrics {short(metrics)}"
        raise TypeError(f"make_task: must have losses as {{name: function}} and a list of metrics, got {got}")
    for name, fn in {"init": init, "apply": apply, **losses}.items():
        if not callable(fn):
            raise TypeError(f"make_task: {name} must be a function, got {short(fn)}")
    functions = tuple(_Loss(checked_name("the name of a loss", name), fn) for name, fn in losses.items())
    return _FunctionTask(_Model(init, apply), functions, tuple(metrics))


def check_names(task: Task) -> None:
    """Raises ValueError when two metrics, losses or growths of the task have one name, or when there is no metric."""
    who = contract.Who("task", kind=type(task))
    for name in ("losses", "growths"):
        contract.listed(who, name, getattr(task, name), "names")
    contract.returned(who, "hypers", task.hypers, Mapping, "return {name: default}, {} for none")
    different(f"the hyperparameters of {type(task).__name__}", list(task.hypers))
    contract.arrays(who, "hypers", dict(task.hypers), "hypers")
    for metric in contract.listed(who, "metrics", task.metrics, "ev3x.Metric(...)"):
        contract.returned(who, "metrics", metric, Metric, "list records: ev3x.Metric(name, function)")
    if not task.metrics:
        raise ValueError("the task has no metrics: at least one is needed to compare candidates")
    different(f"the metrics of {type(task).__name__}", [metric.name for metric in task.metrics])
    different(f"the losses of {type(task).__name__}", task.losses)
    different(f"the growths of {type(task).__name__}", task.growths)


def score(task: Task, variables: Variables, batch: Batch) -> Array:
    """The scores f32[M, n] of one model; the one value of a set-level metric fills its row."""
    n = _length(batch)
    predictions = task.predict(variables, batch)
    rows, name = [], type(task).__name__
    for metric in task.metrics:
        try:
            rows.append(jnp.broadcast_to(metric(predictions, batch, n, name), (n,)))
        except Exception as error:
            error.add_note(f"in metric {metric.name!r} of the task {name}")
            raise
    return jnp.stack(rows)


def weigh(task: Task, batch: Batch, mask: Array | None) -> Array | None:
    """The weights f32[M, n] of a block, None when all are equal; a set-level value counts once a block."""
    n = _length(batch)
    weights = task.weigh(batch)
    if weights is not None and not (contract.real(weights) and np.shape(weights) == (n,)):
        who = contract.Who("task", kind=type(task))
        got = np.shape(weights) if contract.real(weights) else contract.described(weights)
        text = f"{type(task).__name__}.weigh must return one weight per example: expected ({n},), got {got}"
        raise contract.BoundaryError(who, "weigh", text, "keep the axis of examples, or return None for equal weights")
    weights = None if weights is None else jnp.asarray(weights, jnp.float32)
    if mask is not None:
        weights = mask if weights is None else weights * mask
    kinds = [m.kind for m in task.metrics]
    if weights is None and "set" not in kinds:
        return None
    each = jnp.ones(n) if weights is None else weights
    once = jnp.zeros(n).at[0].set(1.0)
    return jnp.stack([once if kind == "set" else each for kind in kinds])


def _length(batch: Batch) -> int:
    return int(np.shape(jax.tree.leaves(batch)[0])[0])


@dataclasses.dataclass(frozen=True)
class Data:
    """What a task loads: the splits of the rounds, the test set of the final report, and a line about them."""

    splits: Splits | Feed
    test: Arrays
    about: str = ""

    def __post_init__(self) -> None:
        if not isinstance(self.splits, Splits | Feed):
            raise TypeError(f"data: `splits` must be Splits(...) or Feed(...), got {short(self.splits)}")
        contract.instance("data: `test`", self.test, Arrays)
        contract.instance("data: `about`", self.about, str)
        leaves = jax.tree.leaves(self.test.tree)
        if leaves and np.shape(leaves[0])[:1] != (0,):  # what is empty is told where it is scored
            check_source("test", self.test)

    def fingerprint(self) -> str:
        """A digest of all examples and keys that are not streamed; a resumed run compares it with the saved one."""
        digest = hashlib.sha256()
        parts = [getattr(self.splits, name) for name in ("explore", "assess", "decide")]
        held = [part for part in parts if isinstance(part, Explore | Assess | Decide)]
        for path, leaf in jax.tree_util.tree_leaves_with_path((held, self.test)):
            value = jax.random.key_data(leaf) if jnp.issubdtype(jnp.asarray(leaf).dtype, jax.dtypes.prng_key) else leaf
            array = np.asarray(value)
            digest.update(f"{jax.tree_util.keystr(path)} {array.dtype} {array.shape}".encode())
            digest.update(np.ascontiguousarray(array).tobytes())
        return digest.hexdigest()
