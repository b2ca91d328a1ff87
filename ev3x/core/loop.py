"""The round and the rounds, as one program each. Nothing here imports an implementation or the plugin host."""

from __future__ import annotations

import dataclasses
import functools
import zlib
from collections.abc import Callable, Mapping
from typing import Any, Concatenate, ParamSpec, TypeVar

import jax
import jax.numpy as jnp

from ..ops import native
from . import contract
from .adapt import Form, carried_out, move, undecided, without_restore
from .assess import assess
from .data import Explore, Splits
from .layout import pick, where
from .objectives import aims
from .plan import Plan
from .programs import compiled
from .types import (
    Array,
    Assessment,
    Batch,
    Candidates,
    Decision,
    Feedback,
    Model,
    Move,
    Outcome,
    PyTree,
    Question,
    Record,
    State,
    Variables,
)

P = ParamSpec("P")
R = TypeVar("R")


def _natively(f: Callable[Concatenate[Plan, P], R]) -> Callable[Concatenate[Plan, P], R]:
    """The function, traced with or without native code, as its plan says."""

    @functools.wraps(f)
    def wrapped(plan: Plan, /, *args: P.args, **kwargs: P.kwargs) -> R:
        with native.using(plan.native):
            return f(plan, *args, **kwargs)

    return wrapped


@compiled()
@_natively
def init(plan: Plan, key: Array, variables: Variables | None = None) -> State:
    """The state before the first round. `variables` (default: fresh ones) become current and incumbent."""
    site, method = plan.site, plan.method
    current = plan.task.init(named(key, "init")) if variables is None else jax.tree.map(jnp.array, variables)
    if not isinstance(current, Mapping) or "params" not in current:
        got = sorted(current) if isinstance(current, Mapping) else type(current).__name__
        text = f"the variables must be a mapping of collections with 'params', got {got}"
        if variables is not None:
            raise ValueError(f"{text}; give what the task's `init` returns")
        raise contract.BoundaryError(_task(plan), "init", text, "return {'params': ...}")
    first = jnp.array(aims(method.weights, plan.task.metrics, method.select), jnp.float32)
    return State(
        key=key,
        round=jnp.int32(0),
        spent=jnp.int32(0),
        model=Model(current=current, incumbent=jax.tree.map(jnp.array, current), aims=first),
        proposers={n: _begun(n, "proposer", p, site, named(key, n + "/init"), current) for n, p in method.proposers},
        adapters={n: _begun(n, "adapter", a, site, plan.task.metrics) for n, a in method.adapters},
        budget=_begun("budget", "", method.budget),
    )


def _begun(label: str, role: str, component: Any, *given: Any) -> PyTree:
    """The first state of a component, a pytree of arrays."""
    return contract.arrays(contract.Who(label, role, type(component)), "init", component.init(*given), "state")


@compiled()
@_natively
def round_(plan: Plan, splits: Splits, state: State) -> tuple[State, Record]:
    """The state after one round, and its record."""
    key = jax.random.fold_in(state.key, state.round)
    trials, finite = _propose(plan, splits, state, key)
    selection, winner = _select(plan, splits, state, key, trials)
    confirmed = _confirm(plan, splits, state, key, winner)
    counts = (selection.winner >= 0) & ~confirmed.spent
    budget = _settle(plan, state, confirmed, counts)
    decision, adapters = _adapt(plan, state, selection, confirmed.assessment, counts)
    done = carried_out(decision, state.model)
    model = move(state.model, winner, done, succeeds=plan.champion is None)
    proposers = _learn(plan, state, key, trials, selection, confirmed.assessment, done)
    record = Record(
        round=state.round,
        alpha=confirmed.alpha,
        eligible=_eligible(trials),
        finite=finite,
        selection=selection,
        confirmation=confirmed.assessment,
        evidence=confirmed.evidence,
        ledger=contract.ledger(_budget(plan), plan.method.budget.account(budget, plan.level)),
        decision=decision,
        steps=sum((t.steps for t in trials.values()), jnp.int32(0)),
        parameters=jnp.array([count(winner), count(state.model.incumbent)], jnp.int32),
        notes={name: t.notes for name, t in trials.items()},
        uses=splits.decide.uses(state.spent, confirmed.blocks, plan.method.confirm.block),
        aims=state.model.aims,
    )
    return State(state.key, state.round + 1, state.spent + confirmed.blocks, model, proposers, adapters, budget), record


def _propose(plan: Plan, splits: Splits, state: State, key: Array) -> tuple[dict[str, Candidates], Array]:
    """The candidates of every proposer, from the current variables, and which are finite; others cannot win."""
    explore, made, finite = splits.explore, {}, []
    for name, adapter in plan.method.adapters:
        who = contract.Who(name, "adapter", type(adapter))
        prepared = adapter.prepare(state.adapters[name], explore)
        explore = contract.returned(who, "prepare", prepared, Explore, "return the split that it gets, or change it")
    for name, p in plan.method.proposers:
        candidates = p.propose(plan.site, named(key, name), state.model.current, state.proposers[name], explore)
        k = len(plan.candidates(name, p))
        trial = contract.matched(name, candidates, state.model.current, k, type(p))
        finite.append(contract.finite(trial.variables, k))
        made[name] = dataclasses.replace(trial, eligible=trial.eligible & finite[-1])
    return made, jnp.concatenate(finite)


def _eligible(trials: Mapping[str, Candidates]) -> Array:
    """Which candidates may win, those of all proposers one after another: bool[K]."""
    return jnp.concatenate([t.eligible for t in trials.values()])


def _select(
    plan: Plan, splits: Splits, state: State, key: Array, trials: Mapping[str, Candidates]
) -> tuple[Assessment, Variables]:
    """The assessment of all candidates against the current model, and the winner's variables (none: current ones)."""
    select, site, model = plan.method.select, plan.site, state.model
    stacks = [t.variables for t in trials.values()]
    question = Question(named(key, "select"), jnp.float32(1.0), model.aims, _eligible(trials))
    contenders, position = [(site, stack) for stack in stacks], state.round * select.blocks
    reference = (site, model.current)
    selection, _, _ = assess(select, contenders, reference, splits.assess.block, position, question, None, "select")
    return selection, where(selection.winner >= 0, pick(stacks, selection.winner), model.current)


@dataclasses.dataclass(frozen=True)
class _Confirmed:
    """The assessment of the winner and the current model against the incumbent, and what it cost."""

    assessment: Assessment
    evidence: PyTree
    alpha: Array  # f32[], the level that the budget offered
    blocks: Array  # i32[], how many were read
    spent: Array  # bool[], no decide example was left


def _confirm(plan: Plan, splits: Splits, state: State, key: Array, winner: Variables) -> _Confirmed:
    """The winner and the current model against the incumbent, on decide examples that did not choose them."""
    confirm, model = plan.method.confirm, state.model
    alpha = contract.number(_budget(plan), "offer", plan.method.budget.offer(state.budget, plan.level), "f")
    left = splits.decide.left(state.spent, confirm.block)
    spent = jnp.asarray(False) if left is None else left < 1
    # The current model is measured beside the winner for rollbacks; it cannot win.
    question = Question(named(key, "confirm"), alpha, model.aims, jnp.array([True, False]))
    both = jax.tree.map(lambda *x: jnp.stack(x), winner, model.current)
    reference = (plan.incumbent_site, model.incumbent)
    confirmation, blocks, evidence = assess(
        confirm, [(plan.site, both)], reference, splits.decide.block, state.spent, question, left, "confirm"
    )
    outcome = jnp.where(spent, Outcome.SPENT, confirmation.outcome).astype(jnp.int32)
    return _Confirmed(dataclasses.replace(confirmation, outcome=outcome), evidence, alpha, blocks, spent)


def _settle(plan: Plan, state: State, confirmed: _Confirmed, counts: Array) -> PyTree:
    """The budget's next state; a round that tested nobody costs nothing."""
    settled = plan.method.budget.settle(state.budget, confirmed.alpha, confirmed.assessment)
    contract.state(_budget(plan), "settle", settled, state.budget)
    return where(counts, settled, state.budget)


def _adapt(
    plan: Plan, state: State, selection: Assessment, confirmation: Assessment, counts: Array
) -> tuple[Decision, dict[str, PyTree]]:
    """The decision of all adapters, called one after another, and their next states."""
    adapters, after = plan.method.adapters, {}
    decision = undecided(state.model, len(adapters))
    for i, (name, adapter) in enumerate(adapters):
        who = contract.Who(name, "adapter", type(adapter))
        decided = adapter.decide(i, state.adapters[name], decision, selection, confirmation)
        decision, its_state = contract.pair(who, "decide", decided, "a Decision", "the next state")
        contract.decision(who, decision, len(plan.task.metrics), len(adapters))
        after[name] = contract.state(who, "decide", its_state, state.adapters[name])
        if plan.champion is not None:
            decision = without_restore(decision)
    return dataclasses.replace(decision, promote=decision.promote & counts), after


def _learn(
    plan: Plan,
    state: State,
    key: Array,
    trials: Mapping[str, Candidates],
    selection: Assessment,
    confirmation: Assessment,
    done: Decision,
) -> dict[str, PyTree]:
    """The next states of the proposers, which learn how their candidates did."""
    after, offset = {}, 0
    for name, p in plan.method.proposers:
        before, k = state.proposers[name], trials[name].eligible.shape[0]
        feedback = _feedback(selection, confirmation, done, offset, k)
        learned = p.learn(plan.site, named(key, name + "/learn"), before, trials[name], feedback)
        after[name] = contract.state(contract.Who(name, "proposer", type(p)), "learn", learned, before)
        offset += k
    return after


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Limit:
    """Where a call of `rounds` stops: rounds, gradient steps, or a confirmed score of the first metric."""

    rounds: Array | int
    steps: Array | int = 2**31 - 1
    target: Array | float = float("nan")


@compiled("capacity")
def rounds(plan: Plan, splits: Splits, state: State, limit: Limit, *, capacity: int) -> tuple[State, Record, Array]:
    """The state after the rounds of one call (at most `capacity`), their stacked records, and how many there were.

    Returns early when an adapter asks for a host transition, when a model of another shape than the incumbent's is
    promoted, or when a model is promoted whose score on the decide split reaches the target. Records past the count are
    zeros.
    """
    metric = plan.task.metrics[0]
    shape = jax.eval_shape(round_.of(plan), splits, state)[1]
    records = jax.tree.map(lambda x: jnp.zeros((capacity, *x.shape), x.dtype), shape)

    def more(carry: tuple[State, Record, Array, Array, Array]) -> Array:
        _, _, done, steps, stop = carry
        return (done < jnp.minimum(limit.rounds, capacity)) & (steps < limit.steps) & ~stop

    def one(carry: tuple[State, Record, Array, Array, Array]) -> tuple[State, Record, Array, Array, Array]:
        state, records, done, steps, _ = carry
        state, record = round_(plan, splits, state)
        records = jax.tree.map(lambda all_, x: jax.lax.dynamic_update_index_in_dim(all_, x, done, 0), records, record)
        score = record.confirmation.mean[0, 0]
        reached = (score >= limit.target) if metric.maximize else (score <= limit.target)
        promoted = record.decision.promote & record.decision.applied
        stop = called(plan, record.decision) | (promoted & reached)
        return state, records, done + 1, steps + record.steps, stop

    start = (state, records, jnp.int32(0), jnp.int32(0), jnp.asarray(False))
    state, records, done, _, _ = jax.lax.while_loop(more, one, start)
    return state, records, done


def called(plan: Plan, decision: Decision) -> Array:
    """Whether a decision needs a host transition: bool, of any leading shape."""
    calls = (decision.calls != 0).any(-1)
    return decision.applied & (calls if plan.champion is None else calls | decision.promote)


@_natively
def transition(plan: Plan, state: State, decision: Decision, probe: Batch | None = None) -> tuple[Plan, State]:
    """The plan and state after the host transition that a round's decision needs (see `called`).

    A promoted model of another shape replaces the incumbent; adapters that asked for it transform the model; then the
    states of all proposers are resized.
    """
    form = Form(plan.task, plan.champion, state.model)
    if form.champion is not None and bool(decision.promote):
        model = dataclasses.replace(form.model, incumbent=jax.tree.map(jnp.array, form.model.current))
        form = dataclasses.replace(form, champion=None, model=model)
    key, adapters, proposers = jax.random.fold_in(state.key, state.round), dict(state.adapters), state.proposers
    for (name, adapter), call in zip(plan.method.adapters, decision.calls.tolist(), strict=True):
        if call:
            who, its_key = contract.Who(name, "adapter", type(adapter)), named(key, name + "/transform")
            done = adapter.transform(its_key, call, adapters[name], form, probe)
            adapters[name], after = contract.pair(who, "transform", done, "its own state", "the next Form")
            form = contract.returned(who, "transform", after, Form, "change the form that it gets, by replace")
    resized = form.fresh or form.task != plan.task
    plan = dataclasses.replace(plan, task=form.task, champion=form.champion)
    if resized:
        proposers = {
            n: p.resize(plan.site, named(key, n + "/resize"), form.model.current, state.proposers[n], fresh=form.fresh)
            for n, p in plan.method.proposers
        }
    return plan, dataclasses.replace(state, model=form.model, adapters=adapters, proposers=proposers)


def count(variables: Variables) -> int:
    """How many parameters there are."""
    return sum(x.size for x in jax.tree.leaves(variables["params"]))


def named(key: Array, name: str) -> Array:
    """The key of this name: the other keys stay as they are when a component is added or removed."""
    return jax.random.fold_in(key, zlib.crc32(name.encode()))


def _task(plan: Plan) -> contract.Who:
    return contract.Who("task", kind=type(plan.task))


def _budget(plan: Plan) -> contract.Who:
    return contract.Who("budget", kind=type(plan.method.budget))


def _feedback(selection: Assessment, confirmation: Assessment, decision: Decision, offset: int, k: int) -> Feedback:
    taken = decision.move == Move.TAKE
    return Feedback(
        value=selection.value[offset : offset + k],
        mean=selection.mean[offset : offset + k],
        won=taken & (selection.winner == offset + jnp.arange(k)),
        verdict=jnp.where(selection.winner >= 0, confirmation.outcome[0], Outcome.UNDECIDED),
        decision=decision,
    )
