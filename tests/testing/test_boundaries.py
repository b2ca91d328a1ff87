"""The kit names the method at fault, in the words of a run: what a method returns is looked at before others get it."""

import dataclasses
from pathlib import Path

import jax.numpy as jnp
import pytest
from sound import Halving, Jitter, Line, Take, ZTest

from ev3x.builtin.assessors.mean_bounds import MeanBounds
from ev3x.testing import trial

FILE = Path(__file__)


@dataclasses.dataclass(frozen=True)
class Widens(Jitter):
    def learn(self, site, key, state, candidates, feedback):
        return {**state, "scale": jnp.ones(3, jnp.float32)}


@dataclasses.dataclass(frozen=True)
class Drops(Jitter):
    def learn(self, site, key, state, candidates, feedback):
        return {"seen": state["seen"]}


@dataclasses.dataclass(frozen=True)
class TooFew(Jitter):
    def propose(self, site, key, current, state, explore):
        return dataclasses.replace(self, count=2).propose_as(site, key, current, state, explore)

    def propose_as(self, *args):
        return super().propose(*args)

    def learn(self, site, key, state, candidates, feedback):
        return {**state, "scale": state["scale"] + (candidates.eligible * feedback.value).max()}


@dataclasses.dataclass(frozen=True)
class Forgets(Jitter):
    def propose(self, site, key, current, state, explore):
        super().propose(site, key, current, state, explore)


@dataclasses.dataclass(frozen=True)
class Alone(Take):
    def decide(self, index, state, decision, selection, confirmation):
        return decision


@dataclasses.dataclass(frozen=True)
class Loses(ZTest):
    def observe(self, evidence, block, question, metrics):
        return {"n": super().observe(evidence, block, question, metrics)["n"]}


@dataclasses.dataclass(frozen=True)
class Settles(Halving):
    def settle(self, state, alpha, confirmation):
        return {"no": state}

    def account(self, state, level):
        return {"n": state + 0.0}


@dataclasses.dataclass(frozen=True)
class OnlyEach(Line):
    def loss(self, name, variables, batch, key, hypers):
        return super().loss(name, variables, batch, key, hypers)[0]


@dataclasses.dataclass(frozen=True)
class Modest(MeanBounds):
    ranks_only = False


def test_who_calls_nobody_better_says_that_it_only_ranks():
    detail = trial(Modest(block=64)).finding("power").detail
    assert "expected the best to be called better" in detail and "let the class say ranks_only = True" in detail
    assert trial(MeanBounds(block=64)).finding("power").status == "passed"


@dataclasses.dataclass(frozen=True)
class Loose(Jitter):
    def learn(self, site, key, state, candidates, feedback):
        return {**state, "scale": state["scale"] * (jnp.ones(3) * jnp.ones((2, 3))).max()}


@dataclasses.dataclass(frozen=True)
class Mixed(Jitter):
    def learn(self, site, key, state, candidates, feedback):
        return {**state, "seen": state["seen"] + jnp.ones(3, jnp.int8).max()}


@pytest.mark.parametrize(("kind", "do"), [(Loose, "as many axes, w[None] * x"), (Mixed, "the same type, with .astype")])
def test_a_message_of_a_strict_jax_says_who_made_it_strict_and_what_to_write(kind, do):
    detail = trial(kind()).finding("traces").detail
    assert "as `ev3x.testing.distribution` makes it in tests" in detail and do in detail
    assert f"({FILE.name}, line " in detail


FAULTS = {
    Widens: ("stable_tree", "learn", "the next state['scale'] must be float32[] as before, got float32[3]"),
    Drops: ("stable_tree", "learn", "the next state must have the structure of the last"),
    TooFew: ("traces", "propose", "(3 candidates on the leading axis), got float32[2"),
    Forgets: ("traces", "propose", "propose must return Candidates, got None: have you forgotten the `return`?"),
    Alone: ("traces", "decide", "decide must return a Decision and the next state, got Decision"),
    Loses: ("traces", "observe", "the next evidence must have the structure of the last"),
    Settles: ("traces", "settle", "the next state must have the structure of the last"),
    OnlyEach: (
        "traces",
        "loss",
        "loss must return the loss of each example and the variables, got float32 of shape (8,)",
    ),
}


@pytest.mark.parametrize("kind", FAULTS, ids=lambda kind: kind.__name__)
def test_the_method_at_fault_is_named_with_its_place(kind):
    check, method, text = FAULTS[kind]
    detail = trial(kind()).finding(check).detail
    assert text in detail and f"`{kind.__name__}.{method}`, {FILE}:" in detail
    assert f"{kind.role} '{kind.__name__}'" in detail and ", returns" not in detail
