"""What is demanded of budgets."""

from __future__ import annotations

import math
from typing import Any

import jax
import jax.numpy as jnp

from ..core.budget import Budget
from ..core.types import Array, Outcome, PyTree
from . import common, trees
from .bench import Bench, keys
from .checks import NothingToCheck, check, demand
from .rounds import assessment
from .worlds import METRICS, TinyTask

LEVEL = 0.05
FATES = (Outcome.BETTER, Outcome.UNDECIDED, Outcome.WORSE)
ROUNDS = 100


class BudgetBench(Bench):
    """Offers a level, and settles after the confirmation."""

    role = "budget"
    component: Budget

    def __init__(self, component: Budget) -> None:
        super().__init__(component)
        self.given = {"component": component}
        self.task = TinyTask()

    def run(self, component: Any, lane: PyTree, fixed: PyTree) -> PyTree:
        """A fresh state, the level that is offered, and state and figures after the confirmation at that level."""
        alpha = component.offer(lane["state"], lane["level"])
        state = component.settle(lane["state"], alpha, lane["confirmation"])
        account = component.account(state, lane["level"])
        return {"fresh": component.init(), "alpha": alpha, "state": state, "account": account}

    def draw(self, i: int) -> PyTree:
        """A confirmation that is better, undecided, worse."""
        confirmation = assessment(keys(i, 1)[0], METRICS, (FATES[i], Outcome.UNDECIDED), winner=0)
        state = jax.jit(self.component.init)()
        return {"state": state, "level": jnp.float32(LEVEL), "confirmation": confirmation}

    def states(self) -> list[tuple[str, PyTree, PyTree]]:
        """The state."""
        return [("state", self.inputs(0)["state"], self.shape()["state"])]

    def state_of(self, lane: PyTree) -> PyTree:
        """The state that a lane begins with."""
        return lane["state"]

    def with_state(self, lane: PyTree, state: PyTree) -> PyTree:
        """The lane with another state."""
        return {**lane, "state": state}

    def following(self) -> PyTree:
        """The next round."""
        return {**self.inputs(1), "state": self.outcome[0]["state"]}

    def course(self, confirmations: Any) -> list[tuple[float, dict[str, Array]]]:
        """The level offered before each of these confirmations, and the figures after it."""
        state, course = self.inputs(0)["state"], []
        for confirmation in confirmations:
            said = self.jitted(self.component, {**self.inputs(0), "state": state, "confirmation": confirmation}, ())
            course.append((float(said["alpha"]), said["account"]))
            state = said["state"]
        return course


@check("options")
def words(bench: BudgetBench) -> None:
    """`words` says what is promised, with {level} where the level stands; every summary quotes it."""
    text = bench.component.words
    stated = isinstance(text, str) and "{level}" in text and "0.05" in text.format(level=LEVEL)
    demand(stated, "a sentence with {level}", repr(text), "say which chance is at most {level}")


@check(*common.SOUND)
def offer(bench: BudgetBench) -> None:
    """`offer` gives an f32[] above 0 and at most the level, in 100 rounds of all verdicts: it shares the level out."""
    alpha = bench.shape()["alpha"]
    have = f"{alpha.dtype}{list(alpha.shape)}"
    demand(have == "float32[]", "float32[]", have, "cast with jnp.float32")
    fates = [bench.inputs(i % len(FATES))["confirmation"] for i in range(ROUNDS)]
    for told in (fates, fates[1:2] * ROUNDS):
        for i, (level, _) in enumerate(bench.course(told)):
            demand(0 < level <= LEVEL * (1 + 1e-6), f"a level in (0, {LEVEL}]", f"{level} in round {i}", "share it out")


@check("offer", *common.SOUND)
def non_finite(bench: BudgetBench) -> None:
    """A confirmation whose scores are not finite leaves a ledger that offers as after one that found nothing."""
    sick = trees.inexact(lambda x: jnp.full_like(x, jnp.nan), bench.inputs(1)["confirmation"])
    levels = [level for level, _ in bench.course([sick] * 3)]
    sound = all(math.isfinite(level) and level > 0 for level in levels)
    demand(sound, "levels above 0", levels, "go by confirmation.outcome, not by scores that may be NaN")


@check("offer", *common.SOUND)
def account(bench: BudgetBench) -> None:
    """`account` gives finite f32[] figures by name; what was "spent" never decreases, in 100 rounds of all verdicts."""
    figures = bench.shape()["account"]
    have = {name: f"{x.dtype}{list(x.shape)}" for name, x in figures.items()}
    if not have:
        raise NothingToCheck("it gives no figures")
    demand(set(have.values()) == {"float32[]"}, "float32[] for each name", have, "cast with .astype(jnp.float32)")
    fates = [bench.inputs(i % len(FATES))["confirmation"] for i in range(ROUNDS)]
    spent = 0.0
    for i, (_, said) in enumerate(bench.course(fates)):
        sick = {name: float(x) for name, x in said.items() if not math.isfinite(x)}
        demand(not sick, "finite figures", f"{sick} in round {i}", "carry in the state what they follow from")
        now = float(said.get("spent", spent))
        demand(
            now >= spent, f'"spent" of at least {spent}', f"{now} in round {i}", "add up the levels that settle gets"
        )
        spent = now


CHECKS = (
    common.options,
    common.config,
    common.no_backend_at_import,
    common.quiet_import,
    words,
    common.traces,
    common.no_config_change,
    common.nothing_on_self,
    common.no_tracer_leak,
    common.no_callbacks,
    common.stable_tree,
    common.inputs_untouched,
    common.same_key_same_bits,
    common.jit_equals_eager,
    common.vmap_equals_loop,
    common.one_trace,
    offer,
    non_finite,
    account,
    common.checkpoint_round_trip,
)
