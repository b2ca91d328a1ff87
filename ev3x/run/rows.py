"""Records as rows for people and files: what happened in a round, and why."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np

from ..core import contract
from ..core.adapt import Adapter
from ..core.observe import Row
from ..core.plan import Plan
from ..core.types import Assessment, Move, Outcome, Record
from . import fates


def rows(plan: Plan, records: Record) -> list[Row]:
    """A row of plain JSON values for each round of stacked records; NaN and infinite values become None."""
    host = jax.tree.map(np.asarray, records)
    return [_row(plan, jax.tree.map(lambda x, i=i: x[i], host)) for i in range(len(host.round))]


def _row(plan: Plan, r: Record) -> Row:
    labels, metrics = plan.labels(), [m.name for m in plan.task.metrics]
    notes = _notes(plan, r)
    reasons = _barred(plan, r)
    candidates = [
        {
            "name": name,
            "eligible": bool(r.eligible[k]),
            **({"barred": reasons[k]} if reasons[k] else {}),
            **_bounds(r.selection, k, metrics),
            **notes.get(k, {}),
        }
        for k, name in enumerate(labels)
    ]
    winner = int(r.selection.winner)
    verdict = Outcome(int(r.confirmation.outcome[0])) if winner >= 0 else None
    decided = {"promoted": bool(r.decision.promote), "move": Move(int(r.decision.move)).name.lower()}
    return {
        "round": int(r.round),
        **({"weights": _named(abs(r.aims), metrics)} if len(metrics) > 1 else {}),
        "candidates": candidates,
        "winner": labels[winner] if winner >= 0 else None,
        "verdict": verdict.name.lower() if verdict is not None else "none",
        "why": _why(plan, r, winner, verdict, reasons),
        **(decided if r.decision.applied else {"promoted": False, "move": "keep", "shadow": decided}),
        "confirm": {
            "winner": _bounds(r.confirmation, 0, metrics),
            "current": _bounds(r.confirmation, 1, metrics),
            "incumbent": _named(r.confirmation.reference, metrics),
            "leads": metrics[plan.method.confirm.leads(plan.task.metrics)],
            "e_values": plan.method.confirm.e_values,
            "p_value": number(r.confirmation.p_value[0]),
            "p_values": {n: p for n, p in _named(r.confirmation.p_values[0], metrics).items() if p is not None},
            "alpha": number(r.alpha) if plan.method.confirm.promise < 1 else None,
            "examples": int(r.confirmation.examples),
            "uses": int(r.uses),
        },
        "ledger": {name: number(x) for name, x in r.ledger.items()},
        "select_examples": int(r.selection.examples),
        "gradient_steps": int(r.steps),
        "parameters": dict(zip(("candidates", "incumbent"), map(int, r.parameters), strict=True)),
        "calls": {
            name: _word(name, adapter, int(c))
            for (name, adapter), c in zip(plan.method.adapters, r.decision.calls, strict=True)
            if c and r.decision.applied
        },
    }


def _word(name: str, adapter: Adapter, call: int) -> str:
    """What an adapter asked the host to do."""
    who = contract.Who(name, "adapter", type(adapter))
    word: str = contract.returned(who, "describe", adapter.describe(call), str, "say in a word what this call asks for")
    return word


def _bounds(a: Assessment, k: int, metrics: Sequence[str]) -> Row:
    return {
        "value": number(a.value[k]),
        "mean": _named(a.mean[k], metrics),
        "lower": _named(a.lower[k], metrics),
        "upper": _named(a.upper[k], metrics),
        "difference": _named(a.difference[k], metrics),
        "difference_lower": _named(a.difference_lower[k], metrics),
        "difference_upper": _named(a.difference_upper[k], metrics),
    }


def _barred(plan: Plan, r: Record) -> list[str | None]:
    """Why each candidate could not win; None for one that could."""
    idles = [p.idles for name, p in plan.method.proposers for _ in plan.candidates(name, p)]
    reasons: list[str | None] = []
    for finite, eligible, value, waits in zip(r.finite, r.eligible, r.selection.value, idles, strict=True):
        if not finite:
            reasons.append(fates.NOT_FINITE)
        elif not eligible:
            reasons.append(fates.IDLE if waits else fates.NOT_ELIGIBLE)
        else:
            reasons.append(None if np.isfinite(value) else fates.NO_SCORE)
    return reasons


def _lost(plan: Plan, reasons: Sequence[str | None]) -> str:
    """The candidates that could not win, grouped by the reason."""
    names = plan.labels()
    groups = {why: [n for n, reason in zip(names, reasons, strict=True) if reason == why] for why in fates.WHY}
    return "; ".join(f"{why}: {', '.join(lost)}" for why, lost in groups.items() if lost)


def _why(plan: Plan, r: Record, winner: int, verdict: Outcome | None, reasons: Sequence[str | None]) -> str:
    if verdict is None:
        return f"no candidate could win: {_lost(plan, reasons)}"
    if verdict == Outcome.SPENT:
        return "nothing can be promoted: every decide example has taken part in a decision already"
    c, first = r.confirmation, plan.method.confirm.leads(plan.task.metrics)
    failed = c.p_values[0] > r.alpha  # NaN: not tested
    text = f"{_gain(plan, c, first)} on {int(c.examples)} examples"
    if failed[first] or not failed.any():
        p = c.p_values[0, first] if failed[first] else c.p_value[0]
        text += "" if math.isnan(float(p)) else f", {_compared(p, r.alpha)} offered"
    others = [
        f"{_gain(plan, c, i, short=True)}, {_compared(c.p_values[0, i], r.alpha)} offered"
        for i in np.flatnonzero(failed).tolist()
        if i != first
    ]
    if others:
        text += f", {'also ' if failed[first] else ''}held back by {' and by '.join(others)}"
    if remark := plan.method.confirm.remark(r.evidence, c, plan.task.metrics):
        text += f"; {remark}"
    if r.uses:
        text += f"; in-sample: some of these examples took part in {int(r.uses)} confirmations before"
    lost = _lost(plan, reasons)
    return text + (f"; {lost}" if lost else "")


def _gain(plan: Plan, c: Assessment, i: int, *, short: bool = False) -> str:
    """The winner's gain over the incumbent on a metric, with its interval, in words."""
    gain, low, high = (_signed(x) for x in (c.difference[0, i], c.difference_lower[0, i], c.difference_upper[0, i]))
    name = plan.task.metrics[i].name
    return f"{name}: {gain} [{low}, {high}]" if short else f"{name} {gain} against the incumbent [{low}, {high}]"


def _compared(p: Any, alpha: Any) -> str:
    """A p-value compared with the level, in words."""
    return f"{f'p = {float(p):.2g}' if p else 'p < 1e-38'} {'<=' if p <= alpha else '>'} {float(alpha):.2g}"


def _notes(plan: Plan, r: Record) -> dict[int, Row]:
    notes: dict[int, Row] = {}
    offset = 0
    for name, proposer in plan.method.proposers:
        k = len(plan.candidates(name, proposer))
        for i in range(k):
            notes[offset + i] = {"notes": {n: _plain(v[i]) for n, v in r.notes[name].items()}} if r.notes[name] else {}
        offset += k
    return notes


def _named(values: Any, names: Sequence[str]) -> dict[str, float | None]:
    return {name: number(value) for name, value in zip(names, values, strict=True)}


def number(value: Any) -> float | None:
    """A plain number, or None: JSON has neither NaN nor infinity."""
    plain = float(value)
    return plain if math.isfinite(plain) else None


def _plain(value: Any) -> Any:
    """The numbers of an array, in lists nested as deep as its shape."""
    return number(value) if np.ndim(value) == 0 else [_plain(v) for v in value]


def _signed(value: Any) -> str:
    return f"{float(value):+.4f}"
