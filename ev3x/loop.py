"""The round and the rounds, as one program each. Nothing here knows any implementation, nor the plugin host."""

from __future__ import annotations

import dataclasses
import functools
import zlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Concatenate, ParamSpec, TypeVar

import jax
import jax.numpy as jnp

from . import boundary
from .adapt import Adapter, Budget, Form, carried_out, misplaced, move, undecided, without_restore
from .assess import Assessor, assess
from .data import Decide, Splits
from .objectives import Amounts, aims
from .ops import native
from .propose import Layout, Proposer, Site, check_needs, checked, pick, select
from .task import Batch, Task
from .types import Array, Assessment, Decision, Feedback, Model, Move, Outcome, Question, Record, State

Variables = Any
P = ParamSpec("P")
R = TypeVar("R")


@dataclasses.dataclass(frozen=True, init=False)
class Method:
    """How a run explores, assesses and adapts: components with a label each, frozen and hashable by value."""

    proposers: tuple[tuple[str, Proposer], ...]
    select: Assessor
    confirm: Assessor
    adapters: tuple[tuple[str, Adapter], ...]
    budget: Budget
    weights: Amounts | None

    def __init__(
        self,
        proposers: Sequence[Proposer | tuple[str, Proposer]],
        select: Assessor,
        confirm: Assessor,
        adapters: Sequence[Adapter | tuple[str, Adapter]],
        budget: Budget,
        weights: Mapping[str, float] | Amounts | None = None,
    ) -> None:
        """Components, or pairs (label, component); without a label they go by the name of their class.

        `weights` says by name what each metric counts in selection, those not named nothing; None: the first counts 1.
        """
        for role, component, kind in (
            ("select", select, Assessor),
            ("confirm", confirm, Assessor),
            ("budget", budget, Budget),
        ):
            if not isinstance(component, kind):
                raise TypeError(f"method: `{role}` must be an instance of {kind.__name__}, got {component!r}")
            object.__setattr__(self, role, component)
        object.__setattr__(self, "proposers", _labelled("proposers", proposers, Proposer))
        object.__setattr__(self, "adapters", _labelled("adapters", adapters, Adapter))
        if not self.proposers:
            raise ValueError("method: at least one proposer is needed, got none")
        if fault := misplaced(self.adapters):
            raise ValueError(f"method: adapters: {fault[1]}")
        try:
            object.__setattr__(self, "weights", None if weights is None else Amounts.parse(weights))
        except ValueError as error:
            raise ValueError(f"method: weights: {error}") from error


@dataclasses.dataclass(frozen=True)
class Plan:
    """All that a round is compiled for: the key of the compilation cache.

    `champion` is the task of the incumbent while its succession is a transition on the host: after growth, or while the
    current variables are ones drawn anew. `native` says whether native code is used: see `native.using`.
    """

    task: Task
    method: Method
    layout: Layout = Layout()
    champion: Task | None = None
    native: native.Mode = "auto"

    @property
    def site(self) -> Site:
        """Where the components work."""
        return Site(self.task, self.layout)

    @property
    def incumbent_site(self) -> Site:
        """Where the incumbent is at home."""
        return Site(self.champion or self.task, self.layout)

    def labels(self) -> tuple[str, ...]:
        """The name of every candidate, `proposer/label`, in the order of the records."""
        return tuple(f"{name}/{label}" for name, p in self.method.proposers for label in p.labels(self.site))

    def check(self, splits: Splits, *, disjoint: bool = True, rounds: int = 0) -> Plan:
        """This plan, or an error that says what does not fit together (`disjoint`: see `Splits.check`).

        `rounds` says how many rounds the decide split must be able to feed; 0: as many as it can, then it is spent.
        """
        splits.check(disjoint=disjoint)
        metrics = self.task.metrics
        if not metrics:
            raise ValueError("the task has no metrics: at least one is needed to compare candidates")
        for name, proposer in self.method.proposers:
            if not proposer.labels(self.site):
                raise ValueError(f"proposer {name!r} makes no candidates (K = 0)")
            check_needs(name, proposer, self.task, splits.explore)
        first = aims(self.method.weights, metrics, self.method.select)
        for _, adapter in self.method.adapters:
            adapter.accept(metrics, first)
        self.method.select.accept(metrics)
        self.method.confirm.accept(metrics)
        self.method.budget.accept(self.method.confirm)
        for stage, split, assessor in (
            ("select", splits.assess, self.method.select),
            ("confirm", splits.decide, self.method.confirm),
        ):
            there, feeds = split.source.blocks(assessor.block), 1  # no example may count twice in a round
            if isinstance(split, Decide) and not split.reuse:
                feeds = rounds
            if there is not None and there < assessor.blocks * feeds:
                name, wanted = type(split).__name__.lower(), assessor.block * assessor.blocks * feeds
                reads = "one round reads" if feeds == 1 else f"{feeds} rounds read"
                raise ValueError(
                    f"the {name} split has {split.source.blocks(1)} examples but {reads} up to {wanted}; "
                    f"give it more, or lower {stage}.block or {stage}.blocks"
                )
        return self


def _natively(f: Callable[Concatenate[Plan, P], R]) -> Callable[Concatenate[Plan, P], R]:
    """The function, traced with native code as its plan says."""

    @functools.wraps(f)
    def wrapped(plan: Plan, /, *args: P.args, **kwargs: P.kwargs) -> R:
        with native.using(plan.native):
            return f(plan, *args, **kwargs)

    return wrapped


@functools.partial(jax.jit, static_argnames="plan")
@_natively
def init(plan: Plan, key: Array, variables: Variables | None = None) -> State:
    """The state before the first round. `variables` (default: fresh ones) become current and incumbent."""
    site, method = plan.site, plan.method
    current = plan.task.init(named(key, "init")) if variables is None else jax.tree.map(jnp.array, variables)
    if not isinstance(current, Mapping) or "params" not in current:
        got = sorted(current) if isinstance(current, Mapping) else type(current).__name__
        raise ValueError(f"the variables must be a mapping of collections with 'params', got {got}")
    first = jnp.array(aims(method.weights, plan.task.metrics, method.select), jnp.float32)
    return State(
        key=key,
        round=jnp.int32(0),
        spent=jnp.int32(0),
        model=Model(current=current, incumbent=jax.tree.map(jnp.array, current), aims=first),
        proposers={n: p.init(site, named(key, n + "/init"), current) for n, p in method.proposers},
        adapters={n: a.init(site, plan.task.metrics) for n, a in method.adapters},
        budget=method.budget.init(),
    )


@functools.partial(jax.jit, static_argnames="plan")
@_natively
def round_(plan: Plan, splits: Splits, state: State) -> tuple[State, Record]:
    """The state after one round, and its record."""
    method, site, model = plan.method, plan.site, state.model
    key = jax.random.fold_in(state.key, state.round)

    explore, trials = splits.explore, {}
    for name, a in method.adapters:
        explore = a.prepare(state.adapters[name], explore)
    for name, p in method.proposers:  # propose
        made = p.propose(site, named(key, name), model.current, state.proposers[name], explore)
        trials[name] = checked(name, made, model.current, len(p.labels(site)))

    stacks = [t.variables for t in trials.values()]  # select
    eligible = jnp.concatenate([t.eligible for t in trials.values()])
    question = Question(named(key, "select"), jnp.float32(1.0), model.aims, eligible)
    selection, _, _ = assess(
        method.select,
        [(site, stack) for stack in stacks],
        (site, model.current),
        splits.assess.block,
        state.round * method.select.blocks,
        question,
    )
    selection = boundary.assessment(boundary.Who("select"), selection, len(eligible), len(plan.task.metrics))
    found = selection.winner >= 0
    winner = select(found, pick(stacks, selection.winner), model.current)

    alpha = method.budget.offer(state.budget, jnp.float32(method.confirm.promise))  # confirm
    left = splits.decide.left(state.spent, method.confirm.block)
    spent = jnp.asarray(False) if left is None else left < 1
    question = Question(named(key, "confirm"), alpha, model.aims, jnp.array([True, False]))
    both = jax.tree.map(lambda *x: jnp.stack(x), winner, model.current)
    confirmation, used, evidence = assess(
        method.confirm,
        [(site, both)],
        (plan.incumbent_site, model.incumbent),
        splits.decide.block,
        state.spent,
        question,
        left,
    )
    confirmation = boundary.assessment(boundary.Who("confirm"), confirmation, 2, len(plan.task.metrics))
    outcome = jnp.where(spent, Outcome.SPENT, confirmation.outcome).astype(jnp.int32)
    confirmation = dataclasses.replace(confirmation, outcome=outcome)
    settled = method.budget.settle(state.budget, alpha, confirmation)
    boundary.state(boundary.Who("budget"), settled, state.budget)
    budget = select(found & ~spent, settled, state.budget)

    decision, adapters = undecided(model, len(method.adapters)), {}  # adapt
    for i, (name, a) in enumerate(method.adapters):
        who = boundary.Who(name, "adapter")
        decided = a.decide(i, state.adapters[name], decision, selection, confirmation)
        decision, after = boundary.pair(who, decided)
        boundary.decision(who, decision, len(plan.task.metrics), len(method.adapters))
        adapters[name] = boundary.state(who, after, state.adapters[name])
        if plan.champion is not None:
            decision = without_restore(decision)
    decision = dataclasses.replace(decision, promote=decision.promote & found & ~spent)
    done = carried_out(decision, model)
    model = move(model, winner, done, succeeds=plan.champion is None)

    proposers, offset = {}, 0  # feedback
    for name, p in method.proposers:
        feedback = _feedback(selection, confirmation, done, offset, trials[name].eligible.shape[0])
        after = p.learn(site, named(key, name + "/learn"), state.proposers[name], trials[name], feedback)
        proposers[name] = boundary.state(boundary.Who(name, "proposer"), after, state.proposers[name])
        offset += trials[name].eligible.shape[0]

    steps = sum((t.steps for t in trials.values()), jnp.int32(0))
    parameters = jnp.array([count(winner), count(state.model.incumbent)], jnp.int32)
    notes = {name: t.notes for name, t in trials.items()}
    record = Record(
        round=state.round,
        alpha=alpha,
        eligible=eligible,
        selection=selection,
        confirmation=confirmation,
        evidence=evidence,
        ledger=method.budget.account(budget, jnp.float32(method.confirm.promise)),
        decision=decision,
        steps=steps,
        parameters=parameters,
        notes=notes,
        uses=splits.decide.uses(state.spent, used, method.confirm.block),
        aims=state.model.aims,
    )
    return State(state.key, state.round + 1, state.spent + used, model, proposers, adapters, budget), record


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Limit:
    """Where a call of `rounds` stops: rounds, gradient steps, or a confirmed score of the first metric."""

    rounds: Array | int
    steps: Array | int = 2**31 - 1
    target: Array | float = float("nan")


@functools.partial(jax.jit, static_argnames=("plan", "capacity"))
def rounds(plan: Plan, splits: Splits, state: State, limit: Limit, *, capacity: int) -> tuple[State, Record, Array]:
    """The state after the rounds of one call (at most `capacity`), their stacked records, and how many there were.

    Comes back early when an adapter calls for the host, when a model of another shape than the incumbent's is promoted,
    or when a model is promoted whose score on the decide split reaches the target. Records past the count are zeros.
    """
    metric = plan.task.metrics[0]
    shape = jax.eval_shape(round_, plan, splits, state)[1]
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
    """Whether a decision needs a transition on the host: bool, of any leading shape."""
    calls = (decision.calls != 0).any(-1)
    return decision.applied & (calls if plan.champion is None else calls | decision.promote)


@_natively
def transition(plan: Plan, state: State, decision: Decision, probe: Batch | None = None) -> tuple[Plan, State]:
    """The plan and state after a round whose decision `called`.

    A promoted model of another shape succeeds the incumbent; adapters that called transform the model; then the states
    of all proposers are resized.
    """
    form = Form(plan.task, plan.champion, state.model)
    if form.champion is not None and bool(decision.promote):
        model = dataclasses.replace(form.model, incumbent=jax.tree.map(jnp.array, form.model.current))
        form = dataclasses.replace(form, champion=None, model=model)
    key, adapters, proposers = jax.random.fold_in(state.key, state.round), dict(state.adapters), state.proposers
    for (name, adapter), call in zip(plan.method.adapters, decision.calls.tolist(), strict=True):
        if call:
            its_key = named(key, name + "/transform")
            adapters[name], form = adapter.transform(its_key, call, adapters[name], form, probe)
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
    """The key of that name: folding in a name keeps every other key as it is when a component comes or goes."""
    return jax.random.fold_in(key, zlib.crc32(name.encode()))


def _feedback(selection: Assessment, confirmation: Assessment, decision: Decision, offset: int, k: int) -> Feedback:
    taken = decision.move == Move.TAKE
    return Feedback(
        value=selection.value[offset : offset + k],
        mean=selection.mean[offset : offset + k],
        won=taken & (selection.winner == offset + jnp.arange(k)),
        verdict=jnp.where(selection.winner >= 0, confirmation.outcome[0], Outcome.UNDECIDED),
        decision=decision,
    )


def _labelled(role: str, components: Any, kind: type) -> tuple[tuple[str, Any], ...]:
    if not isinstance(components, Sequence):
        raise TypeError(f"method: {role} must be a list, got {components!r}")
    pairs = tuple(
        c if isinstance(c, tuple) else ((c if isinstance(c, type) else type(c)).__name__.lower(), c) for c in components
    )
    names = [name for name, _ in pairs]
    if len(set(names)) < len(names):
        raise ValueError(f"method: {role} need different labels, got {names}; give pairs (label, component)")
    for name, component in pairs:
        if not isinstance(component, kind):
            raise TypeError(f"method: {role} {name!r} must be an instance of {kind.__name__}, got {component!r}")
    return pairs
