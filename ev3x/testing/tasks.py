"""What is demanded of tasks."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ..core import contract
from ..core.data import Splits
from ..core.task import Data, Metric, Task, score
from ..core.types import Array, PyTree, Variables
from . import common, trees
from .bench import RoundBench, Split, keys
from .checks import NothingToCheck, Unmet, check, demand

MORPHISM = 1e-3  # what a growth may change a prediction by, relative to max(1, |it|)


class TaskBench(RoundBench):
    """Initialises, predicts, scores and takes every loss, on batches of its own data or of the given splits."""

    role = "task"
    component: Task

    def __init__(self, component: Task, splits: Splits | None = None) -> None:
        super().__init__(component, splits=splits)
        self.task = component

    @functools.cached_property
    def data(self) -> Data | None:
        """What it loads; None when it brings no data."""
        return None if type(self.component).load is Task.load else self.component.load(0)

    @functools.cached_property
    def splits(self) -> Splits:
        """The splits that batches come from."""
        if (given := self.given["splits"]) is not None:
            return given
        if self.data is None or not isinstance(self.data.splits, Splits):
            raise Unmet("splits", "a task that loads none", "hand them over: check_task(task, splits=...)")
        return self.data.splits

    def run(self, component: Any, case: PyTree, fixed: PyTree) -> PyTree:
        """Fresh variables, predictions, scores, weights, and every loss with the moved variables."""
        key, batch, seen = case["key"], case["batch"], case["seen"]
        variables = component.init(key)
        losses = {name: self.loss(component, name, variables, batch, key) for name in component.losses}
        return {
            "variables": variables,
            "predictions": component.predict(variables, seen),
            "scores": score(component, variables, seen),
            "weights": component.weigh(seen),
            "losses": losses,
        }

    def loss(self, component: Any, name: str, variables: Variables, batch: PyTree, key: Array) -> PyTree:
        """A loss of each example, the moved variables, and the gradient of the mean."""

        def mean(params: PyTree) -> tuple[Array, PyTree]:
            said = component.loss(name, {**variables, "params": params}, batch, key, dict(component.hypers))
            each, moved = contract.pair(self.who, "loss", said, "the loss of each example", "the variables")
            return each.mean(), (each, moved)

        gradient, (each, moved) = jax.grad(mean, has_aux=True)(variables["params"])
        return {"each": each, "moved": moved, "gradient": gradient}

    def draw(self, i: int) -> PyTree:
        """A key, an explore batch and as many examples of the assess split."""
        key, drawn = keys(i, 2)
        explore = self.splits.explore
        batch = explore.batch(trees.row(explore.draw(drawn, 1), 0))
        seen, _ = self.splits.assess.block(i, explore.batch_size)
        return {"key": key, "batch": batch, "seen": seen}

    def states(self) -> Iterator[tuple[str, str, str, PyTree, PyTree]]:
        """The variables, before and after every loss."""
        shape = self.shape()
        for name, loss in shape["losses"].items():
            yield f"variables ({name})", "loss", "init", shape["variables"], loss["moved"]

    def sharded(self, split: Split) -> tuple[PyTree, PyTree]:
        """Batches divided along the examples."""
        case = self.inputs(0)
        long = {name: split.along(0, case[name]) for name in ("batch", "seen")}
        return long | {"key": split.whole(case["key"])}, ()

    @property
    def n(self) -> int:
        """The examples of a batch."""
        return int(np.shape(jax.tree.leaves(self.inputs(0)["seen"])[0])[0])


@check("options")
def names(bench: TaskBench) -> None:
    """It names its losses and metrics, each once; hyperparameters are numbers, or pytrees of float arrays."""
    task = bench.component
    losses = task.losses
    sound = isinstance(losses, tuple) and len({*losses}) == len(losses)
    demand(sound, "a tuple of different loss names", repr(losses), "name every loss once")
    metrics = task.metrics
    sound = isinstance(metrics, tuple) and bool(metrics) and all(isinstance(m, Metric) for m in metrics)
    demand(sound, "a tuple of Metric records", repr(metrics), "give at least the metric that decides")
    demand(len({m.name for m in metrics}) == len(metrics), "different names", [m.name for m in metrics], "rename one")
    demand(isinstance(task.hypers, Mapping), "a mapping of hypers", repr(task.hypers), "return {name: default}")
    for name, value in task.hypers.items():
        kinds = [jnp.result_type(x) for x in jax.tree.leaves(value)]
        sound = isinstance(value, int | float) or all(jnp.issubdtype(kind, jnp.inexact) for kind in kinds)
        demand(sound, f"hyper {name!r} to be a number or float arrays", repr(value), "cast it to float")


@check(*common.SOUND)
def variables(bench: TaskBench) -> None:
    """`init` gives a mapping of collections with "params", of finite arrays."""
    made = bench.outcome[0]["variables"]
    sound = isinstance(made, Mapping) and "params" in made and jax.tree.leaves(made["params"])
    demand(sound, 'collections with "params"', jax.tree.structure(made), 'return {"params": ...}')
    finite = jax.tree.map(lambda x: bool(jnp.isfinite(x).all()), trees.inexact(lambda x: x, made))
    demand(all(jax.tree.leaves(finite)), "finite variables", finite, "initialise them with finite numbers")


@check("variables", "same_key_same_bits", *common.SOUND)
def other_key_differs(bench: TaskBench) -> None:
    """Another key gives other fresh variables. Excuse it where they are not drawn."""
    same = trees.differ(*(said["variables"]["params"] for said in bench.outcome[:2])) is None
    demand(not same, "other variables under another key", "the same", "draw from the key, or excuse: nothing is drawn")


@check(*common.SOUND)
def losses(bench: TaskBench) -> None:
    """Every loss gives one finite floating-point number per example, with finite gradients for all parameters."""
    if not bench.component.losses:
        raise NothingToCheck("it names no losses")
    for name in bench.component.losses:
        for said in bench.outcome:
            loss = said["losses"][name]
            have = f"{loss['each'].dtype}{list(loss['each'].shape)}"
            n = np.shape(jax.tree.leaves(bench.inputs(0)["batch"])[0])[0]
            shaped = loss["each"].shape == (n,) and jnp.issubdtype(loss["each"].dtype, jnp.floating)
            demand(shaped, f"loss {name!r} to be float[{n}]", have, "do not average over examples")
            for what in ("each", "gradient"):
                finite = all(bool(jnp.isfinite(x).all()) for x in jax.tree.leaves(loss[what]))
                demand(finite, f"finite {what} of loss {name!r}", "others", "use log_softmax, jnp.where on both sides")


@check(*common.SOUND)
def params_unmoved(bench: TaskBench) -> None:
    """A loss moves no parameters: it gives "params" back as they came, and may move the other collections."""
    if not bench.component.losses:
        raise NothingToCheck("it names no losses")
    for name in bench.component.losses:
        said = bench.outcome[0]
        fault = trees.differ(said["variables"]["params"], said["losses"][name]["moved"]["params"])
        demand(fault is None, f'"params" as they were after loss {name!r}', fault, "leave them to optimizers")


@check("variables", *common.SOUND)
def scores(bench: TaskBench) -> None:
    """Every metric gives finite scores in its range, of fresh variables on the assess split; a binary one 0 or 1."""
    for said in bench.outcome:
        for metric, row in zip(bench.component.metrics, np.asarray(said["scores"]), strict=True):
            demand(np.isfinite(row).all(), f"finite scores of {metric.name!r}", row, "clip what can overflow")
            within = (row >= metric.low) & (row <= metric.high)
            where = f"[{metric.low}, {metric.high}]"
            demand(within.all(), f"scores of {metric.name!r} in {where}", row[~within], "declare low and high")
            bits = not metric.binary or np.isin(row, (0, 1)).all()
            demand(bits, f"scores of {metric.name!r} to be 0 or 1", row, "declare binary=False")
            one = not metric.constant or (row == row[0]).all()
            demand(one, f"one score of {metric.name!r} for all examples", row, "declare constant=False")


@check(*common.SOUND)
def weights(bench: TaskBench) -> None:
    """`weigh` gives None or f32[n] of finite weights, none negative and not all zero."""
    for said in bench.outcome:
        got = said["weights"]
        if got is None:
            continue
        demand(got.shape == (bench.n,), f"one weight for each of {bench.n} examples", list(got.shape), "weigh examples")
        sound = bool((jnp.isfinite(got) & (got >= 0)).all() & (got > 0).any())
        demand(sound, "weights of at least 0, some above", got, "clip them at 0")


@check("variables", *common.SOUND)
def examples_apart(bench: TaskBench) -> None:
    """Predictions of an example do not depend on the others of its batch: evidence counts examples as independent.

    Batch normalization, say, must use its running means in `predict`.
    """
    case, order = bench.inputs(0), np.random.default_rng(0).permutation(bench.n)
    made = bench.outcome[0]["variables"]
    seen = case["seen"]
    predict = jax.jit(bench.component.predict)
    whole = predict(made, seen)
    half = np.concatenate([order[: bench.n // 2]] * 2)[: bench.n]
    for rows in (order, half):
        part = predict(made, jax.tree.map(lambda x, rows=rows: x[rows], seen))
        fault = trees.far(jax.tree.map(lambda x, rows=rows: x[rows], whole), part)
        demand(fault is None, "the same prediction in another batch", fault, "use running statistics in `predict`")


@check(*common.SOUND)
def loads(bench: TaskBench) -> str:
    """`load(seed)` gives disjoint splits and a test set, the same for the same seed."""
    if bench.data is None:
        raise NothingToCheck("it brings no data")
    data = bench.data
    if isinstance(data.splits, Splits):
        try:
            data.splits.check()
        except (ValueError, TypeError) as error:
            raise Unmet("splits that share no example", error, "divide the examples by a permutation") from error
    same = data.fingerprint() == bench.component.load(0).fingerprint()
    demand(same, "the same data for the same seed", "others", "draw from the seed alone")
    fresh = bench.outcome[0]["variables"]
    some = jax.tree.map(lambda x: x[: min(data.test.size, bench.n)], data.test.tree)
    jax.eval_shape(lambda v, b: score(bench.component, v, b), fresh, some)
    return data.about


@check("variables", *common.SOUND)
def growths(bench: TaskBench) -> None:
    """Every growth gives a larger task whose variables fit it and predict the same, to 1e-3 of max(1, |prediction|)."""
    task, case = bench.component, bench.inputs(0)
    if not task.growths:
        raise NothingToCheck("it names no growths")
    made = bench.outcome[0]["variables"]
    before = task.predict(made, case["seen"])
    for name in task.growths:
        grown = task.grow(name, case["key"], made)
        larger, wider = contract.pair(bench.who, "grow", grown, "the larger task", "its variables")
        demand(isinstance(larger, Task) and larger != task, f"another task from {name!r}", larger, "change its options")
        fault = trees.unlike(jax.eval_shape(larger.init, case["key"]), wider)
        demand(fault is None, f"variables that fit the task grown by {name!r}", fault, "grow both alike")
        fault = trees.far(before, larger.predict(wider, case["seen"]), MORPHISM)
        demand(fault is None, f"the same predictions after {name!r}", fault, "begin what is new at zero")


CHECKS = (
    *common.ALWAYS,
    names,
    *common.IN_A_ROUND,
    variables,
    other_key_differs,
    losses,
    params_unmoved,
    scores,
    weights,
    examples_apart,
    loads,
    growths,
    common.sharded,
)
