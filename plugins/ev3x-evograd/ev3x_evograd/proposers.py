"""Proposers that train the model and learn hyperparameters of its loss on the way."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from typing import Annotated, Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
import optax
from annotated_types import Ge
from typing_extensions import Doc

from ev3x import Candidates, Explore, Feedback, Kit, Loss, Optimizer, Proposer, Range, Ranges, Site, training
from ev3x.component import Count, Fault, Names, Positive, unknown

from .hypergradients import Hypergradient, MetaLoss, TrainLoss, evograd, one_step

Array = jax.Array
PyTree = Any
Hypers = dict[str, Any]


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Learned:
    """What is learned besides the model: the hyperparameters (logarithms of those with a logarithmic range)."""

    hypers: Hypers
    meta_optimizer: PyTree
    optimizer: PyTree  # of the model


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class LearnerState:
    """What the next trajectory starts from, and what it was when the incumbent was promoted."""

    now: Learned
    promoted: Learned


@dataclasses.dataclass(frozen=True)
class HyperLearner(Proposer):
    """One candidate: `length` gradient steps from the current variables, before each of which the hyperparameters take
    a step of their own that lowers the meta loss.

    The hyperparameters are state. A candidate that loses takes its optimizer state with it, but what it has learned
    about the hyperparameters stays (`losers = "keep"`), unless it was not finite or the model is rolled back to its
    incumbent, whose hyperparameters then come back too. They survive the growth of the model.
    """

    loss: Annotated[Loss, Doc("what the model trains on, f_T; reads the hyperparameters")]
    meta_loss: Annotated[Loss, Doc("what the hyperparameters are to lower on the meta split, f_V; reads none of them")]
    optimizer: Annotated[Optimizer, Doc("of the model")]
    meta_optimizer: Annotated[Optimizer, Doc("of the hyperparameters")]
    length: Annotated[Count, Doc("gradient steps per round, with as many steps of the hyperparameters")] = 100
    learn_only: Annotated[Names, Doc("hyperparameters to learn; none named: all the loss leaves open")] = ()
    ranges: Annotated[Ranges, Doc("name = { low = ..., high = ..., log = false }: where it must stay")] = Ranges()
    losers: Annotated[Literal["keep", "rewind"], Doc("what becomes of what a losing candidate has learned")] = "keep"

    needs = frozenset({"meta", "hypers"})
    kit = Kit(
        {
            "loss": "logistic",
            "meta_loss": "hinge",
            "optimizer": {"name": "sgd", "learning_rate": 0.1},
            "meta_optimizer": {"name": "sgd", "learning_rate": 0.1},
            "length": 1,
        }
    )

    def hypergradient(
        self, train_loss: TrainLoss, meta_loss: MetaLoss, params: PyTree, hypers: Hypers, key: Array
    ) -> Hypergradient:
        """The gradient of the meta loss with respect to the hyperparameters."""
        raise NotImplementedError

    def labels(self, site: Site) -> tuple[str, ...]:
        """`loss | optimizer | what is learned`."""
        return (f"{self.loss} | {self.optimizer} | {', '.join(self._names(site))}",)

    def init(self, site: Site, key: Array, current: PyTree) -> LearnerState:
        """The defaults of the task, and fresh optimizer states."""
        try:
            names = self._checked(site)
        except ValueError as error:
            raise ValueError(f"{type(self).__name__}: {error}") from None
        hypers = self._inner({n: jax.tree.map(_float, site.task.hypers[n]) for n in names})
        start = Learned(hypers, self.meta_optimizer.build().init(hypers), self._fresh(current))
        return LearnerState(start, start)

    def resize(self, site: Site, key: Array, current: PyTree, state: LearnerState, *, fresh: bool) -> LearnerState:
        """What was learned of the hyperparameters; optimizer states go on where the model does."""
        first = self._fresh(current)

        def resized(x: Learned) -> Learned:
            return dataclasses.replace(x, optimizer=first if fresh else training.carried(x.optimizer, first))

        return LearnerState(resized(state.now), resized(state.promoted))

    def propose(self, site: Site, key: Array, current: PyTree, state: LearnerState, explore: Explore) -> Candidates:
        """The end of the trajectory; it notes the hyperparameters that are numbers."""
        assert explore.meta is not None  # checked before the run, by `needs`
        task, meta, start = site.task, explore.meta, state.now
        optimizer = optax.with_extra_args_support(self.optimizer.build())
        meta_optimizer = optax.with_extra_args_support(self.meta_optimizer.build())
        keys = training.step_keys(key)
        meta_key, meta_draw_key, noise_key = jax.random.split(jax.random.fold_in(keys, 2**31), 3)
        drawn, meta_drawn = explore.draw(key, self.length), meta.draw(meta_draw_key, self.length)

        def step(i: Array, carry: tuple[PyTree, Learned, Array]) -> tuple[PyTree, Learned, Array]:
            variables, learned, finite = carry
            step_key = jax.random.fold_in(keys, i)
            batch = explore.batch(jax.tree.map(lambda x: x[i], drawn))
            meta_batch = meta.batch(jax.tree.map(lambda x: x[i], meta_drawn))

            def train_loss(params: PyTree, inner: Hypers) -> Array:
                here = {**variables, "params": params}
                return training.loss_value(task, self.loss, here, batch, step_key, self._outer(inner))[0]

            def meta_loss(params: PyTree) -> Array:
                here, once = {**variables, "params": params}, jax.random.fold_in(meta_key, i)
                return training.loss_value(task, self.meta_loss, here, meta_batch, once, {})[0]

            found = self.hypergradient(
                train_loss, meta_loss, variables["params"], learned.hypers, jax.random.fold_in(noise_key, i)
            )
            updates, meta_state = meta_optimizer.update(
                found.gradient, learned.meta_optimizer, learned.hypers, value=found.meta_loss, grad=found.gradient
            )
            hypers = self._within(optax.apply_updates(learned.hypers, updates))
            variables, opt_state, value = training.gradient_step(
                task, self.loss, optimizer, variables, learned.optimizer, batch, step_key, self._outer(hypers)
            )
            finite &= jnp.isfinite(value) & _finite(hypers)
            return variables, Learned(hypers, meta_state, opt_state), finite

        variables, learned, finite = jax.lax.fori_loop(0, self.length, step, (current, start, jnp.asarray(True)))
        notes = {n: jnp.reshape(x, 1) for n, x in self._outer(learned.hypers).items() if n in training.numbers(task)}
        stack = jax.tree.map(lambda x: x[None], variables)
        return Candidates(stack, finite[None], jnp.int32(self.length), memo=learned, notes=notes)

    def learn(
        self, site: Site, key: Array, state: LearnerState, candidates: Candidates, feedback: Feedback
    ) -> LearnerState:
        """The winner's state; of a loser, what it learned about the hyperparameters."""
        won, tried = feedback.won[0], candidates.memo
        kept = won | (candidates.eligible[0] & (self.losers == "keep"))
        old = state.now
        learned = Learned(
            training.where(kept, tried.hypers, old.hypers),
            training.where(kept, tried.meta_optimizer, old.meta_optimizer),
            training.where(won, tried.optimizer, old.optimizer),
        )
        return LearnerState(*training.follow(feedback.decision, learned, state.promoted))

    def _names(self, site: Site) -> tuple[str, ...]:
        fixed = set.intersection(*({n for n, _ in term.hypers} for term in self.loss.terms))
        return tuple(n for n in site.task.hypers if n not in fixed and (not self.learn_only or n in self.learn_only))

    def _checked(self, site: Site) -> tuple[str, ...]:
        """The names of what is learned, or a ValueError that says what does not fit the task."""
        for loss in (self.loss, self.meta_loss):
            if fault := training.check_loss(site.task, loss):
                raise ValueError(fault)
        names = self._names(site)
        for option, asked in (("learn_only", self.learn_only), ("ranges", [r.name for r in self.ranges])):
            for name in asked:
                if name not in site.task.hypers:
                    raise ValueError(f"{option}: {unknown('hyperparameter', name, site.task.hypers)}")
                if name not in names:
                    raise ValueError(
                        f"{option}: {name!r} is not learned: the loss fixes it, or learn_only leaves it out"
                    )
        if not names:
            raise ValueError(f"the loss {self.loss} fixes all hyperparameters of the task: nothing is left to learn")
        for path, value in jax.tree_util.tree_leaves_with_path({n: site.task.hypers[n] for n in names}):
            if not (isinstance(value, int | float) or jnp.issubdtype(value.dtype, jnp.floating)):
                raise ValueError(f"hypers{jax.tree_util.keystr(path)} must be floating point, got {value.dtype}")
        for r in self.ranges:
            for value in jax.tree.leaves(site.task.hypers[r.name]):
                if not (np.all(r.low <= value) and np.all(value <= r.high)):
                    raise ValueError(f"ranges: {r.name!r} starts outside of [{r.low:g}, {r.high:g}], at {value}")
        return names

    def _fresh(self, current: PyTree) -> PyTree:
        return self.optimizer.build().init(current["params"])

    def _inner(self, hypers: Hypers) -> Hypers:
        """The coordinates in which the hyperparameters take their steps."""
        return self._mapped(hypers, lambda r, x: jnp.log(x) if r.log else x)

    def _outer(self, inner: Hypers) -> Hypers:
        """What the losses read."""
        return self._mapped(inner, lambda r, x: jnp.exp(x) if r.log else x)

    def _within(self, inner: Hypers) -> Hypers:
        def clip(r: Range, x: Array) -> Array:
            low, high = (math.log(r.low), math.log(r.high)) if r.log else (r.low, r.high)
            return jnp.clip(x, low, high)

        return self._mapped(inner, clip)

    def _mapped(self, hypers: Hypers, f: Callable[[Range, Array], Array]) -> Hypers:
        ranges = {r.name: r for r in self.ranges}
        return {n: jax.tree.map(lambda x, r=ranges[n]: f(r, x), v) if n in ranges else v for n, v in hypers.items()}


@dataclasses.dataclass(frozen=True)
class EvoGrad(HyperLearner):
    """A training run whose hyperparameters follow EvoGrad's hypergradients (Bohdal et al., arXiv 2106.10575).

    Before each gradient step, `copies` of the parameters are perturbed and weighed by their training losses; the
    hyperparameters move such that the weighted mean does better on a batch of the meta split. See `evograd`.
    """

    copies: Annotated[Count, Ge(2), Doc("perturbed copies of the parameters, K")] = 2
    sigma: Annotated[Positive, Doc("size of the perturbations")] = 1e-3
    tau: Annotated[Positive, Doc("temperature of the weights softmax(-loss / tau)")] = 0.05
    noise: Annotated[Literal["sign", "gaussian"], Doc("+1 and -1, or normal numbers")] = "sign"
    antithetic: Annotated[bool, Doc("whether every perturbation comes with its mirror image")] = False
    regenerate: Annotated[bool | None, Doc("whether noise is made again instead of kept; none: by size")] = None

    def check(self) -> list[Fault]:
        """Mirror images come in pairs."""
        if self.antithetic and self.copies % 2:
            return [Fault(("copies",), f"must be even with antithetic noise, got {self.copies}")]
        return []

    def hypergradient(
        self, train_loss: TrainLoss, meta_loss: MetaLoss, params: PyTree, hypers: Hypers, key: Array
    ) -> Hypergradient:
        """EvoGrad's estimate."""
        return evograd(
            train_loss,
            meta_loss,
            params,
            hypers,
            key,
            copies=self.copies,
            sigma=self.sigma,
            tau=self.tau,
            noise=self.noise,
            antithetic=self.antithetic,
            regenerate=self.regenerate,
        )


@dataclasses.dataclass(frozen=True)
class OneStep(HyperLearner):
    """A training run whose hyperparameters follow the exact hypergradient after one step of gradient descent (T1-T2).

    Differentiates the training loss twice. See `one_step`.
    """

    look_ahead: Annotated[Positive, Doc("learning rate of the step that is differentiated through")] = 0.1

    def hypergradient(
        self, train_loss: TrainLoss, meta_loss: MetaLoss, params: PyTree, hypers: Hypers, key: Array
    ) -> Hypergradient:
        """The exact gradient."""
        return one_step(train_loss, meta_loss, params, hypers, learning_rate=self.look_ahead)


def _float(x: Any) -> Array:
    return jnp.asarray(x, jnp.result_type(float) if isinstance(x, int | float) else None)


def _finite(tree: PyTree) -> Array:
    return jnp.stack([jnp.isfinite(x).all() for x in jax.tree.leaves(tree)]).all()
