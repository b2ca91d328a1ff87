"""EV3 as its released code runs it, in form: a Python loop over gradient steps, and pandas for the bounds.

The three differ only in how a step is dispatched. The code is our own; batches are drawn beforehand.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
import numpy as np
import optax
import pandas as pd
from problems import Batch, Dense, correct, xent

Params = Any
Step = Callable[[Params, Any, Batch], tuple[Params, Any]]


def eager_update(task: Dense, temperature: float, optimizer: optax.GradientTransformation) -> Step:
    """A step whose gradient is jitted and whose update is not."""
    gradient = jax.jit(jax.grad(_objective(task, temperature)))

    def step(params: Params, opt_state: Any, batch: Batch) -> tuple[Params, Any]:
        updates, opt_state = optimizer.update(gradient(params, batch), opt_state, params)
        return optax.apply_updates(params, updates), opt_state

    return step


def jitted_update(task: Dense, temperature: float, optimizer: optax.GradientTransformation) -> Step:
    """A step whose gradient and update are jitted, each by itself."""
    gradient = jax.jit(jax.grad(_objective(task, temperature)))

    @jax.jit
    def update(grads: Params, opt_state: Any, params: Params) -> tuple[Params, Any]:
        updates, opt_state = optimizer.update(grads, opt_state, params)
        return optax.apply_updates(params, updates), opt_state

    return lambda params, opt_state, batch: update(gradient(params, batch), opt_state, params)


def fused_step(task: Dense, temperature: float, optimizer: optax.GradientTransformation) -> Step:
    """A step that is one jitted function."""
    gradient = jax.grad(_objective(task, temperature))

    @jax.jit
    def step(params: Params, opt_state: Any, batch: Batch) -> tuple[Params, Any]:
        updates, opt_state = optimizer.update(gradient(params, batch), opt_state, params)
        return optax.apply_updates(params, updates), opt_state

    return step


BASELINES: dict[str, Callable[..., Step]] = {
    "jitted gradient, eager update": eager_update,
    "gradient and update jitted": jitted_update,
    "one jitted step": fused_step,
}


@dataclasses.dataclass
class StepByStep:
    """Rounds of EV3, one dispatch after another; `run` is one round on the batches that it is given."""

    task: Dense
    steps: Sequence[Step]
    optimizers: Sequence[optax.GradientTransformation]
    current: Params
    z: float = 1.96

    def __post_init__(self) -> None:
        self.stable = self.current
        self.opt_states = [o.init(self.current) for o in self.optimizers]
        predict = self.task.predict
        self.scores = jax.jit(lambda params, batch: correct(predict({"params": params}, batch), batch))

    def run(self, explore: Sequence[Batch], assess: Batch, decide: Batch) -> None:
        """Explore, assess, adapt; the optimizer states of losers go back to where they were."""
        ends = [self._train(i, iter(explore)) for i in range(len(self.steps))]
        winner = int(np.argmax(self._bounds([params for params, _ in ends], assess, z=0.0)["lower"]))
        params, opt_state = ends[winner]

        bounds = self._bounds([params, self.current, self.stable], decide, z=self.z)
        better = bounds["lower"][0] > bounds["upper"][2]
        worse = bounds["upper"][0] < bounds["lower"][2]
        if better:
            self.stable = params
        self.current = self.stable if worse else params
        if not worse:
            self.opt_states[winner] = opt_state

    def _train(self, i: int, batches: Iterator[Batch]) -> tuple[Params, Any]:
        params, opt_state = self.current, self.opt_states[i]
        for batch in batches:
            params, opt_state = self.steps[i](params, opt_state, batch)
        return params, opt_state

    def _bounds(self, models: list[Params], batch: Batch, z: float) -> pd.DataFrame:
        columns = {i: np.asarray(self.scores(params, batch), np.float32) for i, params in enumerate(models)}
        frame = pd.DataFrame(columns)
        off = z * frame.std() / np.sqrt(len(frame))
        return pd.DataFrame({"mean": frame.mean(), "lower": frame.mean() - off, "upper": frame.mean() + off})


def _objective(task: Dense, temperature: float) -> Callable[[Params, Batch], jax.Array]:
    return lambda params, batch: xent(task.predict({"params": params}, batch), batch, temperature).mean()
