"""Why each round of a run ended as it did, in words and figures, from the files of the run alone."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from ..core.observe import Row
from .directory import RunError
from .fates import WHY, fates


def overview(rows: Sequence[Row], summary: Row) -> Row:
    """The run as a whole: what was promised, how its rounds ended, what they cost, and a line for every round."""
    confirmed = [row["confirm"] for row in rows]
    return {
        "task": summary.get("task"),
        "ended": summary.get("reason"),
        "promise": summary.get("promise"),
        "assumes": summary.get("assumes", []),
        "changes": summary.get("changes", []),
        "rounds": len(rows),
        "verdicts": dict(Counter(row["verdict"] for row in rows)),
        "promotions": sum(row["promoted"] for row in rows),
        "proposers": fates(rows),
        "ledger": rows[-1].get("ledger", {}),
        "decide": {
            "examples": sum(c["examples"] for c in confirmed),
            "reused": sum(c["uses"] > 0 for c in confirmed),
            "uses": max((c["uses"] + 1 for c in confirmed if c["examples"]), default=0),
        },
        "lines": [_line(row) for row in rows],
    }


def of_round(rows: Sequence[Row], number: int) -> Row:
    """Everything about one round: its row, the ledger before it, and what would have changed its verdict.

    Raises RunError when there is no such round.
    """
    found = [i for i, row in enumerate(rows) if row["round"] == number]
    if not found:
        raise RunError(f"--round {number}: this run has rounds {rows[0]['round']} to {rows[-1]['round']}")
    (i,) = found
    before = rows[i - 1].get("ledger", {}) if i else {}
    return {"row": rows[i], "ledger_before": before, "would_change": would_change(rows[i])}


def would_change(row: Row) -> list[str]:
    """What another verdict would have needed, in sentences."""
    confirm, verdict = row["confirm"], row["verdict"]
    if verdict == "none":
        reasons = Counter(c["barred"] for c in row["candidates"] if c.get("barred"))
        said = [f"{n} candidate{'' if n == 1 else 's'} {WHY.get(reason, reason)}" for reason, n in reasons.items()]
        return ["a candidate that is eligible, with parameters and scores that are finite", *said]
    if verdict == "spent":
        return ["decide examples that have taken part in no decision: a larger decide split, or a stream"]
    if verdict == "worse":
        return ["a better candidate: this one is proven worse than the incumbent, or not finite"]
    alpha, tested = confirm["alpha"], confirm["p_values"]
    if alpha is None or not tested:
        apart = "overlap" if verdict == "better" else "are apart"
        return [f"intervals that {apart}: this confirmation states no error level to compare a p-value with"]
    if verdict == "better":
        least = _figure(max(tested.values()))
        return [f"a level below {least}: the evidence was enough down to this, {_figure(alpha)} was offered"]
    needed = [f"{name}: {_needed(p, alpha, confirm['e_values'])}" for name, p in tested.items() if p > alpha]
    if verdict == "equivalent":
        return ["a larger gain, or a smaller margin: the gain surely lies within the metric's margin", *needed]
    return needed or ["the p-values were small enough: `why` says what else held it back"]


def _needed(p: float, alpha: float, e_values: bool) -> str:
    """The evidence that was reached, and that which was needed."""
    if not e_values:
        return f"p = {_figure(p)} was reached, {_figure(alpha)} was needed"
    return f"an e-value of {_inverse(p)} was reached, {_inverse(alpha)} was needed"


def _line(row: Row) -> Row:
    """The figures of one round that fit on a line."""
    confirm = row["confirm"]
    metric, winner = confirm["leads"], confirm["winner"]
    return {
        "round": row["round"],
        "winner": row["winner"],
        "verdict": row["verdict"],
        "promoted": row["promoted"],
        "shadow": "shadow" in row,
        "metric": metric,
        "gain": winner["difference"][metric],
        "lower": winner["difference_lower"][metric],
        "upper": winner["difference_upper"][metric],
        "p_value": confirm["p_value"],
        "alpha": confirm["alpha"],
        "examples": confirm["examples"],
        "why": row["why"],
    }


def _figure(x: float) -> str:
    return f"{x:.2g}"


def _inverse(x: float) -> str:
    return f"{1 / x:,.3g}" if x else "more than 1e+38"
