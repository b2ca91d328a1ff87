"""What is demanded of budgets."""

from __future__ import annotations

import math
from typing import Any

import jax
import jax.numpy as jnp

from ..core import contract
from ..core.budget import Budget
from ..core.types import Array, Outcome, PyTree
from . import common, trees
from .bench import StateBench, because, fault, keys
from .checks import NothingToCheck, check, demand
from .rounds import FATES, assessment
from .worlds import METRICS

LEVEL = 0.05
ROUNDS = 100


class BudgetBench(StateBench):
    """Offers a level, and settles after the confirmation."""

    role = "budget"
    moves = "settle"
    component: Budget

    def run(self, component: Any, case: PyTree, fixed: PyTree) -> PyTree:
        """A fresh state, the level that is offered, and state and figures after the confirmation at that level."""
        alpha = component.offer(case["state"], case["level"])
        with because(fault(lambda: contract.number(self.who, "offer", alpha, "f"))):
            state = component.settle(case["state"], alpha, case["confirmation"])
        with because(fault(lambda: contract.state(self.who, "settle", state, case["state"]))):
            account = component.account(state, case["level"])
        contract.returned(self.who, "account", account, dict, "return a dict of scalars by name, {} for none")
        return {"fresh": component.init(), "alpha": alpha, "state": state, "account": account}

    def draw(self, i: int) -> PyTree:
        """A confirmation that is better, undecided, worse."""
        confirmation = assessment(keys(i, 1)[0], METRICS, (FATES[i], Outcome.UNDECIDED), winner=0)
        state = jax.jit(self.component.init)()
        return {"state": state, "level": jnp.float32(LEVEL), "confirmation": confirmation}

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
    *common.ALWAYS,
    words,
    *common.IN_A_ROUND,
    offer,
    non_finite,
    account,
    common.checkpoint_round_trip,
)
