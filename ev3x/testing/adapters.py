"""What is demanded of adapters."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ..core import contract
from ..core.adapt import Adapter, Form, move, without_restore
from ..core.data import Explore, Splits
from ..core.task import Task
from ..core.types import Decision, Model, Move, Outcome, PyTree
from . import common, trees
from .bench import StateBench, keys
from .checks import NothingToCheck, check, demand
from .rounds import FATES, assessment
from .tasks import MORPHISM

PLACE = 1  # the adapter stands between two others, whose calls are these
CALLS = (7, 0, 9)
PATIENCE = 64  # rounds without a promotion in which an adapter may call for the host
BETTER, UNDECIDED, WORSE = FATES


class AdapterBench(StateBench):
    """Decides after adapters that decided as `promote` does, between two that called for the host."""

    role = "adapter"
    moves = "decide"
    component: Adapter

    def __init__(self, component: Adapter, task: Task | None = None, splits: Splits | None = None) -> None:
        super().__init__(component, task, splits)
        self.metrics = self.task.metrics
        self.aims = tuple((1.0 if m.maximize else -1.0) / (i + 1) for i, m in enumerate(self.metrics))

    def run(self, component: Any, case: PyTree, fixed: PyTree) -> PyTree:
        """A fresh state, the decision, and the state after it."""
        component.accept(self.metrics, self.aims)
        decided = component.decide(PLACE, case["state"], case["decision"], case["selection"], case["confirmation"])
        decision, state = contract.pair(self.who, "decide", decided, "a Decision", "the next state")
        return {"fresh": component.init(self.site, self.metrics), "decision": decision, "state": state}

    def draw(self, i: int) -> PyTree:
        """A round whose winner is better, undecided, worse."""
        state = jax.jit(lambda: self.component.init(self.site, self.metrics))()
        return {"state": state} | self.round(i, FATES[i])

    def round(self, i: int, outcome: Outcome, *, found: bool = True) -> dict[str, Any]:
        """What an adapter is told of a round: what others decided, and both assessments."""
        one, two = keys(i, 2)
        move = {Outcome.BETTER: Move.TAKE, Outcome.WORSE: Move.RESTORE}.get(outcome, Move.KEEP)
        decision = Decision(
            move=jnp.int32(move if found else Move.KEEP),
            promote=jnp.asarray(outcome == Outcome.BETTER and found),
            aims=jnp.array(self.aims, jnp.float32),
            calls=jnp.array(CALLS, jnp.int32),
        )
        selection = assessment(one, self.metrics, (Outcome.UNDECIDED,) * 3, winner=1 if found else -1)
        confirmation = assessment(two, self.metrics, (outcome, Outcome.UNDECIDED), winner=0)
        return {"decision": decision, "selection": selection, "confirmation": confirmation}

    def decides(self, **other: Any) -> tuple[Decision, PyTree]:
        """The decision and state of case 1 with other entries."""
        said = self.jitted(self.component, {**self.inputs(1), **other}, self.fixed)
        return said["decision"], said["state"]


class Course:
    """A run as the loop makes it, with verdicts that are made up: what the adapter decides is done to a tiny model."""

    def __init__(self, bench: AdapterBench) -> None:
        self.bench = bench
        self.rounds = 0
        self.done: list[str] = []  # in words, what the host was called for
        current = bench.task.init(keys(0, 1)[0])
        model = Model(current, _copied(current), jnp.array(bench.aims, jnp.float32))
        self.state = bench.inputs(0)["state"]
        self.form = Form(bench.task, None, model)

    def pass_by(self, *verdicts: Outcome) -> bool:
        """Rounds with these verdicts; whether the adapter called for the host in any."""
        before = len(self.done)
        for verdict in verdicts:
            self._round(verdict)
        return len(self.done) > before

    def stall(self) -> bool:
        """Rounds that prove nothing until the adapter calls for the host, which it may leave."""
        return any(self.pass_by(UNDECIDED) for _ in range(PATIENCE))

    def _round(self, verdict: Outcome) -> None:
        told = self.bench.round(self.rounds, verdict)
        if self.form.champion is not None:
            told["decision"] = without_restore(told["decision"])
        decision, self.state = self.bench.decides(**told, state=self.state)
        self.rounds += 1
        if not bool(decision.applied):
            return
        if self.form.champion is not None:
            decision = without_restore(decision)
        winner = jax.tree.map(lambda x: x + jnp.asarray(0.01, x.dtype), self.form.model.current)
        model = move(self.form.model, winner, decision, succeeds=self.form.champion is None)
        if promoted := self.form.champion is not None and bool(decision.promote):
            model = dataclasses.replace(model, incumbent=_copied(model.current))
        self.form = dataclasses.replace(self.form, champion=None if promoted else self.form.champion, model=model)
        if call := int(np.asarray(decision.calls)[PLACE]):
            self._transform(call)

    def _transform(self, call: int) -> None:
        it, form, key = self.bench.component, self.form, keys(self.rounds, 1)[0]
        word = it.describe(call)
        demand(isinstance(word, str) and word, "a word from `describe`", repr(word), "say what the host is asked for")
        explore = self.bench.splits.explore
        probe = explore.batch(trees.row(explore.draw(key, 1), 0))
        done = [it.transform(key, call, self.state, form, p) for p in (probe, None)]
        pairs = [contract.pair(self.bench.who, "transform", d, "its own state", "the next Form") for d in done]
        (state, changed), (_, again) = pairs
        demand(isinstance(changed, Form), "a form", repr(changed), "return state, Form(task, champion, model)")
        parts = {"current": changed.task, "incumbent": changed.champion or changed.task}
        for name, task in parts.items():
            demand(isinstance(task, Task), "a form with a task", repr(task), "return Form(task, champion, model)")
            fault = trees.unlike(jax.eval_shape(task.init, key), getattr(changed.model, name))
            do = "return the task that belongs to the variables"
            demand(fault is None, f"{name} variables of its task", fault, do)
        fault = trees.unlike(changed.model, again.model)
        same = fault is None and changed.task == again.task
        demand(same, "the same shapes without a probe", fault, "go by key and shapes")
        grows = it.grows or changed.task == form.task
        demand(grows, "a class that says `grows`", "another task", "set grows = True in the class")
        fault = _other_incumbent(form, changed, probe)
        demand(fault is None, "the incumbent as it was", fault, "propose other variables: a round must prove them")
        prepared = it.prepare(state, explore)
        jax.eval_shape(lambda e, k: e.batch(trees.row(e.draw(k, 1), 0)), prepared, key)
        kept = it.keeps(state)
        do = "return {name: (task, variables)}"
        demand(isinstance(kept, Mapping), "a mapping from `keeps`", type(kept).__name__, do)
        self.state, self.form = state, changed
        self.done.append(word)


def _copied(tree: PyTree) -> PyTree:
    return jax.tree.map(jnp.array, tree)


def _other_incumbent(before: Form, after: Form, probe: PyTree) -> str | None:
    """Where the incumbent is not the one that was proven: other bits, or in another shape other predictions."""
    if trees.unlike(before.model.incumbent, after.model.incumbent) is None:
        return trees.differ(before.model.incumbent, after.model.incumbent)
    old, new = ((form.champion or form.task).predict(form.model.incumbent, probe) for form in (before, after))
    return trees.far(old, new, MORPHISM)


@check(*common.SOUND)
def decision_shapes(bench: AdapterBench) -> None:
    """It returns a `Decision`: a `Move` i32[], promote bool[], aims f32[M], calls i32[A]."""
    contract.decision(bench.who, bench.shape()["decision"], len(bench.metrics), len(CALLS))
    for said in bench.outcome:
        move = int(said["decision"].move)
        demand(move in {int(m) for m in Move}, "a move of Move", move, "use Move.KEEP, Move.TAKE or Move.RESTORE")


@check("decision_shapes", *common.SOUND)
def own_call(bench: AdapterBench) -> None:
    """It sets its own entry of `calls` and leaves those of others as they are."""
    for said in bench.outcome:
        calls = said["decision"].calls.tolist()
        kept = all(calls[i] == CALLS[i] for i in range(len(CALLS)) if i != PLACE)
        demand(kept, f"calls of others as in {CALLS}", calls, "use decision.calls.at[index].set(...)")


@check("decision_shapes", *common.SOUND)
def aims_kept(bench: AdapterBench) -> None:
    """The aims stay as they are. An adapter that moves them says so by excusing this."""
    state = bench.inputs(0)["state"]
    for i, outcome in enumerate(FATES * 2):
        decision, state = bench.decides(**bench.round(i, outcome), state=state)
        fault = trees.differ(jnp.array(bench.aims, jnp.float32), decision.aims)
        demand(fault is None, "the aims of the method", fault, "leave decision.aims, or excuse: it re-weights metrics")


@check("decision_shapes", *common.SOUND)
def nobody_won(bench: AdapterBench) -> None:
    """Where nobody could win (winner -1), nothing is promoted, and the move stays as it was: keep.

    The verdict then is on the current variables alone, whatever it says.
    """
    for i, outcome in enumerate((Outcome.BETTER, Outcome.WORSE)):
        decision, _ = bench.decides(**bench.round(i, outcome, found=False))
        sound = int(decision.move) == Move.KEEP and not bool(decision.promote)
        got = f"{Move(int(decision.move)).name}, promote {bool(decision.promote)}"
        demand(sound, "KEEP and no promotion", got, "ask selection.winner >= 0 first")


@check("decision_shapes", "nobody_won", *common.SOUND)
def flags(bench: AdapterBench) -> None:
    """Unless its class says `promotes`, it leaves move and promotion as they are: the order of a chain relies on it."""
    if bench.component.promotes:
        raise NothingToCheck("its class says that it promotes")
    for i, outcome in enumerate(FATES):
        told = bench.round(i, outcome)
        decision, _ = bench.decides(**told)
        for name in ("move", "promote"):
            before, after = (getattr(d, name).item() for d in (told["decision"], decision))
            demand(before == after, f"{name} as it was, {before}", after, "set promotes = True in the class")


@check("decision_shapes", "flags", *common.SOUND)
def non_finite(bench: AdapterBench) -> None:
    """A round with scores that are not finite leaves finite aims, and a state that recovers in the next sound round."""
    sick = bench.round(1, Outcome.WORSE)
    sick["confirmation"] = trees.inexact(lambda x: jnp.full_like(x, jnp.nan), sick["confirmation"])
    ends = []
    for told in (bench.round(1, Outcome.WORSE), sick):
        decision, state = bench.decides(**told)
        finite = bool(jnp.isfinite(decision.aims).all())
        demand(finite, "finite aims", decision.aims, "keep the aims where a score is not finite")
        ends.append(bench.decides(**bench.round(2, Outcome.BETTER), state=state))
    fault = trees.poisoned(*ends)
    demand(fault is None, "a state that recovers", fault, "leave out what is not finite (jnp.where, jnp.fmax)")


@check("decision_shapes", *common.SOUND)
def prepare(bench: AdapterBench) -> None:
    """`prepare` returns an explore split that gives batches."""
    explore = bench.component.prepare(bench.inputs(0)["state"], bench.splits.explore)
    demand(isinstance(explore, Explore), "an Explore", type(explore).__name__, "use dataclasses.replace(explore, ...)")
    jax.eval_shape(lambda e, k: e.batch(trees.row(e.draw(k, 1), 0)), explore, keys(0, 1)[0])


@check("decision_shapes", "own_call", "prepare", *common.SOUND)
def transition(bench: AdapterBench) -> str:
    """What it calls the host for can be done: `transform` gives a form whose variables are those of its tasks.

    Tried in a run that promotes, rolls back and stalls; a model that it grew is promoted in it, and one is not. The
    incumbent, proven on evidence, predicts as before. Without a probe, as in a resumed run, the shapes must be the
    same; a class that changes the model's shape says `grows`; the run goes on from its state.
    """
    course = Course(bench)
    course.pass_by(BETTER, BETTER, UNDECIDED, BETTER, WORSE, WORSE, BETTER)
    for after in ((BETTER, WORSE, UNDECIDED), (), (UNDECIDED, WORSE), ()):
        if not course.stall():
            break
        course.pass_by(*after)
    if not course.done:
        raise NothingToCheck(f"it called for nothing in {course.rounds} rounds")
    return f"transitions: {', '.join(course.done)}"


CHECKS = (
    *common.ALWAYS,
    *common.IN_A_ROUND,
    decision_shapes,
    own_call,
    aims_kept,
    nobody_won,
    flags,
    non_finite,
    prepare,
    transition,
    common.checkpoint_round_trip,
)
