"""Rounds derived again from their records and the method alone: no data, no scores, no weights.

Each value is derived from the recorded values of the steps before it, so that a changed value shows up in its own place
only. Only the states of the budget and of the adapters are carried from round to round. Three things are taken as
given, because they follow from data: the values of the selection, the evidence of the confirmation, and how many
examples and gradient steps there were.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import Literal

from ..core import contract, loop
from ..core.adapt import undecided, without_restore
from ..core.layout import where
from ..core.loop import named
from ..core.objectives import aims
from ..core.plan import Plan
from ..core.programs import compiled
from ..core.types import Array, Assessment, Decision, Model, Outcome, PyTree, Question, Record, State
from .checkpoint import CheckpointError, Saved, paths

RELATIVE = 1e-5


@dataclasses.dataclass(frozen=True)
class Difference:
    """A value that does not follow from the records: its round (None: the whole run), and its name."""

    round: int | None
    what: str
    recorded: Any
    derived: Any


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Carried:
    """The values that pass from round to round: the aims, and the states of the adapters and the budget."""

    aims: Array
    adapters: dict[str, PyTree]
    budget: PyTree


class Derivation:
    """A run that is derived again, round by round. `differences` and `notes` hold the findings so far."""

    def __init__(self, plan: Plan, seed: int) -> None:
        method, metrics = plan.method, plan.task.metrics
        self.differences: list[Difference] = []
        self.notes: list[str] = []
        self._plan, self._key, self._done = plan, jax.random.key(seed), 0
        self._carried = Carried(
            aims=jnp.array(aims(method.weights, metrics, method.select), jnp.float32),
            adapters={n: a.init(plan.site, metrics) for n, a in method.adapters},
            budget=method.budget.init(),
        )
        self._rounded = 0
        self._stand_in: State | None = None  # a state with weights of the right shapes, once a transition needs one
        self._unknown = [False] * len(jax.tree.leaves(self._carried.adapters))  # leaves that depend on the true weights
        self._hanging: dict[Any, tuple[set[str], list[bool]]] = {}  # by plan, structure and what is unknown

    def round(self, record: Record) -> None:
        """Derive the next round, and compare it with this record of it."""
        # What was recorded of earlier steps goes in, never what was derived: one changed value shows in one place.
        derived, carried = _round(self._plan, self._key, jnp.int32(self._done), self._carried, record)
        hidden = self._hidden(record)
        self._compare(self._done, "", _recorded(record), derived, hidden)
        self._carried, self._done = carried, self._done + 1
        # A host transition follows from the decision; its hidden parts can only be taken from the record.
        made = {name: x for name, x in vars(derived["decision"]).items() if f"decision/{name}" not in hidden}
        decision = dataclasses.replace(record.decision, **jax.device_get(made))
        if bool(loop.called(self._plan, decision)):
            self._transition(decision)

    def end(self, saved: Saved) -> None:
        """Compare the saved state with what the rounds lead to."""
        carried = self._carried
        state = {"key": jax.random.key_data(self._key), "round": jnp.int32(self._done), "model": {"aims": carried.aims}}
        state |= {"budget": carried.budget, "adapters": carried.adapters}
        places = paths({"adapters": carried.adapters})
        hidden = {path for path, unknown in zip(places, self._unknown, strict=True) if unknown}
        known = dict(saved.run) | {path: x for branch in saved.plugins.values() for path, x in branch.items()}
        self._compare(self._done - 1 if self._done else None, "state after it: ", known, state, hidden)
        if self._rounded:
            self.notes.append(
                f"{self._rounded} numbers are not the same to the bit, but to a relative {RELATIVE:g}: "
                "another machine or another version rounds otherwise"
            )

    def _compare(self, round_: int | None, head: str, recorded: PyTree, derived: PyTree, hidden: set[str]) -> None:
        """Note where `derived` differs from `recorded`, each a tree or arrays by path; skips hidden paths."""
        known = {path: np.asarray(x) for path, x in zip(paths(recorded), jax.tree.leaves(recorded), strict=True)}
        found = zip(paths(derived), jax.device_get(jax.tree.leaves(derived)), strict=True)
        for path, value in ((path, np.asarray(x)) for path, x in found if np.size(x) and path not in hidden):
            what, there = head + path.replace("/", "."), known.get(path)
            if there is None or there.shape != value.shape:
                self.differences.append(Difference(round_, what, plain(there), plain(value)))
                continue
            close = _close(there, value, RELATIVE)
            # Equal up to rounding: not a difference, but a note says how often.
            self._rounded += int((close & ~_close(there, value, 0.0)).sum())
            for at in np.argwhere(~close)[:1].tolist():
                place = f"[{', '.join(map(str, at))}]" if at else ""
                there, value = there[tuple(at)], value[tuple(at)]
                self.differences.append(Difference(round_, what + place, plain(there), plain(value)))

    def _hidden(self, record: Record) -> set[str]:
        """The paths of this round's values that cannot be derived, each noted. Also updates `self._unknown`."""
        if not any(self._unknown):
            return set()
        adapters = self._carried.adapters
        case = self._plan, jax.tree.structure(adapters), tuple(self._unknown)
        if case not in self._hanging:
            marked = [*self._unknown, *[False] * len(jax.tree.leaves(record))]
            hanging = dependent(functools.partial(_decide, self._plan), (adapters, record), marked)
            names = paths({"decision": record.decision})
            hidden = {name for name, hangs in zip(names, hanging, strict=False) if hangs}
            self._hanging[case] = hidden, hanging[len(names) :]
            if hidden:
                leaves = zip(jax.tree_util.tree_leaves_with_path(adapters), self._unknown, strict=True)
                whose = sorted({path[0].key for (path, _), unknown in leaves if unknown})
                what, who = ", ".join(sorted(hidden)).replace("/", "."), " and ".join(map(repr, whose))
                self.notes.append(
                    f"from round {self._done} on, {what} may hang on weights that {who} took over in a host "
                    "transition: no record has weights, so this was not derived"
                )
        hidden, self._unknown = self._hanging[case]
        return hidden

    def _transition(self, decision: Decision) -> None:
        """Repeat a host transition, with weights that are not those of the run.

        It is repeated with two sets of weights: leaves of the adapters' states that then differ are unknown from here
        on.
        """
        # No record has weights, and tracing needs some: fresh ones have the right shapes.
        before = self._stand_in or loop.init(self._plan, self._key)
        model = dataclasses.replace(before.model, aims=self._carried.aims)
        leaves, structure = jax.tree.flatten(self._carried.adapters)
        others = [_other(x) if unknown else x for x, unknown in zip(leaves, self._unknown, strict=True)]
        state = dataclasses.replace(before, round=jnp.int32(self._done), model=model, adapters=self._carried.adapters)
        plan, self._stand_in = loop.transition(self._plan, state, decision)
        after = self._stand_in.adapters
        if (
            decision.calls.any()
        ):  # done twice, with weights that differ everywhere: leaves that differ afterwards depend on them
            model = dataclasses.replace(
                model, current=jax.tree.map(_other, model.current), incumbent=jax.tree.map(_other, model.incumbent)
            )
            state = dataclasses.replace(state, model=model, adapters=jax.tree.unflatten(structure, others))
            other = loop.transition(self._plan, state, decision)[1].adapters
            pairs = zip(jax.tree.leaves(after), jax.tree.leaves(other), strict=True)
            self._unknown = [not bool(_close(np.asarray(a), np.asarray(b), 0.0).all()) for a, b in pairs]
        self._plan = plan
        self._carried = dataclasses.replace(self._carried, aims=self._stand_in.model.aims, adapters=after)


def history(plan: Plan, saved: Saved) -> Record | None:
    """The stacked records of all saved rounds, in numpy; None before the first.

    CheckpointError says where they cannot come from this method.
    """
    if not saved.records:
        return None
    like = _shapes(plan, saved)
    if gone := sorted(saved.records.keys() - set(paths(like))):
        raise CheckpointError(f"the checkpoint does not fit this configuration: {gone[0]} is there no more")
    return jax.tree.map(np.asarray, saved.history(like))


def _shapes(plan: Plan, saved: Saved) -> Record:
    """The shapes of a record, from the method alone; the shapes of proposers' notes are those that were saved."""
    method, metrics = plan.method, plan.task.metrics
    k, m, a = len(plan.labels()), len(metrics), len(method.adapters)
    notes: dict[str, dict[str, Any]] = {name: {} for name, _ in method.proposers}
    for path, x in saved.records.items():
        if owner := next((name for name in notes if path.startswith(f"notes/{name}/")), None):
            notes[owner][path.removeprefix(f"notes/{owner}/")] = jnp.zeros(x.shape[1:], x.dtype)

    def record() -> Record:
        zero, aims, level = jnp.int32(0), jnp.zeros(m), jnp.float32(1)
        question = Question(jax.random.key(0), level, aims, jnp.ones(k, bool))
        confirmed = dataclasses.replace(question, eligible=jnp.ones(2, bool))
        evidence = method.confirm.begin(2, metrics)
        selection = method.select.conclude(method.select.begin(k, metrics), question, metrics)
        confirmation = method.confirm.conclude(evidence, confirmed, metrics)
        return Record(
            round=zero,
            alpha=level,
            eligible=question.eligible,
            finite=question.eligible,
            selection=contract.assessment(contract.Who("select", kind=type(method.select)), selection, k, m),
            confirmation=contract.assessment(contract.Who("confirm", kind=type(method.confirm)), confirmation, 2, m),
            evidence=evidence,
            ledger=method.budget.account(method.budget.init(), level),
            decision=undecided(Model((), (), aims), a),
            steps=zero,
            parameters=jnp.zeros(2, jnp.int32),
            notes=notes,
            uses=zero,
            aims=aims,
        )

    shapes: Record = jax.eval_shape(record)
    return shapes


@compiled()
def _round(plan: Plan, key: Array, index: Array, carried: Carried, r: Record) -> tuple[dict[str, Any], Carried]:
    """The values that follow in a round, named as in its record, and what the next one needs. See `loop.round_`."""
    method, metrics = plan.method, plan.task.metrics
    level = jnp.float32(method.confirm.promise)
    question = Question(named(jax.random.fold_in(key, index), "confirm"), r.alpha, r.aims, jnp.array([True, False]))
    confirmation = method.confirm.conclude(r.evidence, question, metrics)
    confirmation = contract.assessment(
        contract.Who("confirm", kind=type(method.confirm)), confirmation, 2, len(metrics)
    )
    unread = _equal(r.evidence, method.confirm.begin(2, metrics))
    spent = unread & (r.confirmation.outcome == Outcome.SPENT).all()  # no data here: the record must say it
    outcome = jnp.where(spent, Outcome.SPENT, confirmation.outcome).astype(jnp.int32)
    found = r.selection.winner >= 0
    settled = method.budget.settle(carried.budget, r.alpha, r.confirmation)
    budget = where(found & ~spent, settled, carried.budget)
    decision, adapters = _decide(plan, carried.adapters, r)
    derived = {
        "round": index,
        "aims": carried.aims,
        "selection": {"winner": _best(r.selection, r.eligible)},
        "alpha": method.budget.offer(carried.budget, level),
        "confirmation": dataclasses.replace(confirmation, outcome=outcome),
        "decision": dataclasses.replace(decision, promote=decision.promote & found & ~spent),
        "ledger": method.budget.account(budget, level),
    }
    aims = jnp.where(r.decision.applied, r.decision.aims, r.aims)
    return derived, Carried(aims, adapters, budget)


def _recorded(r: Record) -> dict[str, Any]:
    """The recorded values of all that `_round` derives."""
    names = ("round", "aims", "alpha", "confirmation", "decision", "ledger")
    return {name: getattr(r, name) for name in names} | {"selection": {"winner": r.selection.winner}}


def _decide(plan: Plan, states: dict[str, PyTree], r: Record) -> tuple[Decision, dict[str, PyTree]]:
    """The decision of all adapters, called one after another, and their next states."""
    decision = undecided(Model((), (), jnp.asarray(r.aims)), len(plan.method.adapters))
    after = {}
    for i, (name, adapter) in enumerate(plan.method.adapters):
        decision, after[name] = adapter.decide(i, states[name], decision, r.selection, r.confirmation)
        if plan.champion is not None:
            decision = without_restore(decision)
    return decision, after


def _best(selection: Assessment, eligible: Array) -> Array:
    """The winner by the values, or -1: the recorded winner, unless another is better by more than rounding.

    Assessors may rank by differences to the reference, which float32 holds more exactly than the values.
    """
    values = jnp.where(eligible & jnp.isfinite(selection.value), selection.value, -jnp.inf)
    best = jnp.argmax(values)
    enough = values[best] - RELATIVE * jnp.abs(values[best])
    places = jnp.arange(values.shape[0])
    fine = ((places == selection.winner) & jnp.isfinite(values) & (values >= enough)).any()
    return jnp.where(fine, selection.winner, jnp.where(jnp.isfinite(values[best]), best, -1)).astype(jnp.int32)


def _equal(a: PyTree, b: PyTree) -> Array:
    """Whether two trees hold the same numbers: bool[]."""
    same = jax.tree.map(lambda x, y: ((x == y) | ((x != x) & (y != y))).all(), a, b)
    return jnp.stack([jnp.asarray(True), *jax.tree.leaves(same)]).all()


def _other(x: Array) -> Array:
    """Other values of the same type."""
    return ~x if x.dtype == jnp.bool_ else x + jnp.ones((), x.dtype)


def _close(a: np.ndarray[Any, Any], b: np.ndarray[Any, Any], relative: float) -> np.ndarray[Any, Any]:
    """Where two arrays are equal; floats up to a `relative` difference, and NaN equals NaN."""
    if not np.issubdtype(np.result_type(a), np.inexact):
        return np.asarray(a == b)
    least = np.finfo(np.float32).tiny if relative else 0.0  # smaller numbers may be flushed to zero
    return np.isclose(a, b, rtol=relative, atol=least, equal_nan=True)


def plain(value: Any) -> Any:
    """An array as numbers, or lists of them, for JSON: NaN and infinities as strings, None as None."""
    if value is None or np.ndim(value):
        return None if value is None else [plain(x) for x in value]
    number = np.asarray(value).item()
    return number if not isinstance(number, float) or math.isfinite(number) else str(number)


def dependent(f: Callable[..., Any], arguments: Sequence[Any], marked: Sequence[bool]) -> list[bool]:
    """Which leaves of f(*arguments) may depend on marked leaves of the arguments; f is traced, not called.

    It never marks too few: the results of a function within f count as dependent on all of its arguments.
    """
    jaxpr = jax.make_jaxpr(f)(*arguments).jaxpr
    reached = {v for v, mark in zip(jaxpr.invars, marked, strict=True) if mark}
    for equation in jaxpr.eqns:
        if any(not isinstance(v, Literal) and v in reached for v in equation.invars):
            reached.update(equation.outvars)
    return [not isinstance(v, Literal) and v in reached for v in jaxpr.outvars]
