"""A proposer whose candidate is a whole training run, and which learns the run's hyperparameters."""

from __future__ import annotations

import dataclasses
import math
from typing import Annotated, Any

import jax
import jax.numpy as jnp
import optax
from annotated_types import Ge, Gt, Lt
from typing_extensions import Doc

from ev3x import Candidates, Explore, Feedback, Kit, Loss, Optimizer, Proposer, Site, Task, training
from ev3x.component import Count, Fault, Names, Real, unknown

from .fixed_point import DENOMINATOR, LIMIT, LOCAL, numerator
from .tape import Form
from .training import train

Array = jax.Array
PyTree = Any
Hypers = dict[str, Any]

SCHEDULES = ("rates", "momenta", "decays")
RUN = (*SCHEDULES, "scales")  # what a run has on any task
GREATEST = 0.999  # no momentum is learned beyond it
PASSES = 100  # batches at most that make the statistics of a model at the end of its run


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class ReversibleState:
    """What is learned: logarithms of rates and scales, logits of momenta, decays, hyperparameters of the task."""

    hypers: Hypers
    meta_optimizer: PyTree


@dataclasses.dataclass(frozen=True)
class Reversible(Proposer):
    """One candidate: `length` steps of SGD with momentum from fresh variables, by schedules that are learned.

    After each run its exact hypergradient, found by running it backwards (Maclaurin, Duvenaud and Adams, arXiv
    1502.03492), moves the hyperparameters a step that lowers the meta loss at the end of the run. They stay what they
    have become when the candidate loses, and when the model is rolled back, from which no run starts. After a run whose
    numbers were not finite, left the range, or did not lead back to its start, learned rates are halved. Losses see
    the collections other than "params" as they are at the start; at the end they are made by batches of the run.
    """

    loss: Annotated[Loss, Doc("what the model trains on; may read hyperparameters")]
    meta_loss: Annotated[Loss, Doc("what the hyperparameters are to lower on the meta split")]
    optimizer: Annotated[Optimizer, Doc("sgd with momentum: its values are where the schedules start")]
    meta_optimizer: Annotated[Optimizer, Doc("of the hyperparameters, one step a round")]
    length: Annotated[Count, Doc("gradient steps of a run, the horizon")] = 100
    learn_only: Annotated[Names, Doc("rates, momenta, decays, scales (of initial weights), or names of the task")] = (
        "rates",
        "momenta",
    )
    window: Annotated[Count, Doc("steps that share one number of a schedule; divides length")] = 1
    decay: Annotated[Real, Ge(0), Doc("weight decay, where its schedule starts")] = 0.0
    form: Annotated[Form, Doc("of the update: classical as optax.sgd, or damped as in the paper")] = "classical"
    least_momentum: Annotated[Real, Gt(0), Lt(1), Doc("the smallest momentum; decides how much is remembered")] = 0.5
    meta_batches: Annotated[Count, Doc("batches of the meta split that judge a run")] = 1

    needs = frozenset({"meta"}) if LOCAL else frozenset({"meta", "x64"})
    kit = Kit(
        {
            "loss": "logistic",
            "meta_loss": "hinge",
            "optimizer": {"name": "sgd", "learning_rate": 0.1, "momentum": 0.9},
            "meta_optimizer": {"name": "sgd", "learning_rate": 0.1},
            "length": 2,
        }
    )

    def check(self) -> list[Fault]:
        """What does not fit together."""
        faults = []
        given = dict(self.optimizer.options)
        if self.optimizer.factory is not optax.sgd or given.get("nesterov") or given.get("accumulator_dtype"):
            faults.append(
                Fault(("optimizer",), f"must be sgd with momentum, which can be reversed, got {self.optimizer}")
            )
        else:
            for name, low, high in (("learning_rate", 0.0, LIMIT / 2), ("momentum", self.least_momentum, GREATEST)):
                value = given.get(name)
                if not isinstance(value, int | float) or not (low <= value <= high and value > 0):
                    text = f"{name} must be a number above 0 in [{low:g}, {high:g}], got {value}"
                    faults.append(Fault(("optimizer",), text))
        n = numerator(self.least_momentum)
        if not 0 < n < DENOMINATOR:
            text = f"must lie above 0 and below 1 also as n / {DENOMINATOR}, got {self.least_momentum:g}, n = {n}"
            faults.append(Fault(("least_momentum",), text))
        if self.length % self.window:
            faults.append(Fault(("window",), f"must divide length = {self.length}, got {self.window}"))
        if not self.learn_only:
            faults.append(Fault(("learn_only",), "must name what is to be learned, got nothing"))
        return faults

    def labels(self, site: Site) -> tuple[str, ...]:
        """`loss | optimizer | what is learned`."""
        return (f"{self.loss} | {self.optimizer} | {', '.join(self.learn_only)}",)

    def init(self, site: Site, key: Array, current: PyTree) -> ReversibleState:
        """The values that the options and the task say, as schedules."""
        try:
            self._check_task(site)
        except ValueError as error:
            raise ValueError(f"{type(self).__name__}: {error}") from None
        options = self.optimizer.numbers
        starts: Hypers = {
            "rates": math.log(options["learning_rate"]),
            "momenta": _logit(options["momentum"]),
            "decays": self.decay,
        }
        full = {name: jnp.full(self.length // self.window, start, jnp.float32) for name, start in starts.items()}
        full["scales"] = jax.tree.map(lambda _: jnp.float32(0), current["params"])
        named = {name: jax.tree.map(jnp.asarray, value) for name, value in site.task.hypers.items()}
        hypers = {name: full[name] if name in full else named[name] for name in self.learn_only}
        return ReversibleState(hypers, self.meta_optimizer.build().init(hypers))

    def resize(
        self, site: Site, key: Array, current: PyTree, state: ReversibleState, *, fresh: bool
    ) -> ReversibleState:
        """What was learned; scales of arrays that are new start at 1."""
        first: ReversibleState = training.carried(state, self.init(site, key, current))
        return first

    def propose(self, site: Site, key: Array, current: PyTree, state: ReversibleState, explore: Explore) -> Candidates:
        """The end of a run; it notes the mean rate and momentum, and the meta loss."""
        assert explore.meta is not None  # checked before the run, by `needs`
        task, meta = site.task, explore.meta
        start_key, draw_key, meta_key = jax.random.split(jax.random.fold_in(key, 0), 3)
        keys, fresh = training.step_keys(key), task.init(start_key)
        judged = meta.draw(meta_key, self.meta_batches)

        def batches(step: Array) -> tuple[PyTree, Array]:
            # One step's indices are drawn at a time: those of all would need memory that grows with the horizon.
            drawn = explore.draw(jax.random.fold_in(draw_key, step), 1)
            return explore.batch(jax.tree.map(lambda x: x[0], drawn)), step

        def train_loss(params: PyTree, hypers: Hypers, batch: tuple[PyTree, Array]) -> Array:
            examples, step = batch
            here = {**fresh, "params": params}
            return training.loss_value(task, self.loss, here, examples, jax.random.fold_in(keys, step), hypers)[0]

        def meta_loss(params: PyTree) -> Array:
            def one(drawn: PyTree) -> Array:
                here, once = {**fresh, "params": params}, jax.random.fold_in(meta_key, 0)
                return training.loss_value(task, self.meta_loss, here, meta.batch(drawn), once, {})[0]

            return jax.lax.map(one, judged).mean()

        def run(hypers: Hypers) -> tuple[Array, PyTree]:
            outer = self._outer(hypers)
            params = fresh["params"]
            if "scales" in outer:
                params = jax.tree.map(jnp.multiply, params, outer["scales"])
            end = train(
                train_loss,
                params,
                self._named(task, outer),
                outer["rates"],
                outer["momenta"],
                batches=batches,
                decays=outer.get("decays"),
                form=self.form,
                least_momentum=self.least_momentum,
            )
            return meta_loss(end), end

        (value, end), slopes = jax.value_and_grad(run, has_aux=True)(state.hypers)
        optimizer = optax.with_extra_args_support(self.meta_optimizer.build())
        updates, moved = optimizer.update(slopes, state.meta_optimizer, state.hypers, value=value, grad=slopes)
        learned = ReversibleState(self._within(optax.apply_updates(state.hypers, updates)), moved)
        sound = jnp.stack([jnp.isfinite(x).all() for x in jax.tree.leaves((value, end, slopes, learned))]).all()
        outer = self._outer(state.hypers)
        notes = {"rate": outer["rates"].mean()[None], "momentum": outer["momenta"].mean()[None]}
        notes["meta_loss"] = value[None]

        def passed(step: Array, variables: PyTree) -> PyTree:
            examples, _ = batches(step)
            once = jax.random.fold_in(keys, step)
            moved = training.loss_value(task, self.loss, variables, examples, once, self._named(task, outer))[1]
            return {**moved, "params": end}

        ended = {**fresh, "params": end}
        if len(fresh) > 1:  # the run moves parameters alone; statistics of batches follow, with those of its end
            ended = jax.lax.fori_loop(0, min(self.length, PASSES), passed, ended)
        stack = jax.tree.map(lambda x: x[None], ended)
        return Candidates(stack, sound[None], jnp.int32(self.length), memo=learned, notes=notes)

    def learn(
        self, site: Site, key: Array, state: ReversibleState, candidates: Candidates, feedback: Feedback
    ) -> ReversibleState:
        """What was learned, whether the candidate won or not; where the run failed, smaller rates."""
        failed: Hypers = dict(state.hypers)
        if "rates" in failed:
            failed["rates"] = failed["rates"] - jnp.float32(math.log(2))
        kept: ReversibleState = training.where(
            candidates.eligible[0], candidates.memo, ReversibleState(failed, state.meta_optimizer)
        )
        return kept

    def _outer(self, hypers: Hypers) -> Hypers:
        """What a run gets: schedules f[length] or one number, factors of the initial weights, hyperparameters."""
        options = self.optimizer.numbers
        outer: Hypers = {"rates": options["learning_rate"], "momenta": options["momentum"]}
        if self.decay:
            outer["decays"] = self.decay
        for name, value in hypers.items():
            if name in SCHEDULES:
                maps = {"rates": jnp.exp, "momenta": jax.nn.sigmoid, "decays": jnp.asarray}
                outer[name] = jnp.repeat(maps[name](value), self.window, total_repeat_length=self.length)
            else:
                outer[name] = jax.tree.map(jnp.exp, value) if name == "scales" else value
        schedules = {name: jnp.broadcast_to(jnp.float32(outer[name]), self.length) for name in ("rates", "momenta")}
        return outer | schedules

    def _named(self, task: Task, outer: Hypers) -> Hypers:
        """The hyperparameters of the task among them."""
        return {name: outer[name] for name in self.learn_only if name in task.hypers and name not in RUN}

    def _within(self, hypers: Hypers) -> Hypers:
        """The same where it may be: momenta between the smallest and .999, rates and decays in the range."""
        top = LIMIT / 2
        ends = {
            "rates": (-math.inf, math.log(top)),
            "momenta": (_logit(self.least_momentum + 1 / DENOMINATOR), _logit(GREATEST)),
            "decays": (0.0, top),
        }
        return {name: jnp.clip(x, *ends[name]) if name in ends else x for name, x in hypers.items()}

    def _check_task(self, site: Site) -> None:
        """Raises a ValueError that says what does not fit the task."""
        task = site.task
        for loss in (self.loss, self.meta_loss):
            if fault := training.check_loss(task, loss):
                raise ValueError(fault)
        fixed = set.intersection(*({n for n, _ in term.hypers} for term in self.loss.terms))
        for name in self.learn_only:
            if name in RUN:
                continue
            if name not in task.hypers:
                known = (*RUN, *task.hypers)
                raise ValueError(f"learn_only: {unknown('hyperparameter', name, known)}")
            if name in fixed:
                raise ValueError(f"learn_only: {name!r} is not learned: the loss {self.loss} fixes it")
            for value in jax.tree.leaves(task.hypers[name]):
                if not (isinstance(value, float) or jnp.issubdtype(jnp.result_type(value), jnp.floating)):
                    raise ValueError(f"learn_only: {name!r} must be floating point, got {jnp.result_type(value)}")


def _logit(p: float) -> float:
    return math.log(p / (1 - p))
