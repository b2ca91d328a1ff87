"""Why each round of a run ended as it did, in words and figures, from the files of the run alone."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterable

from ..core.observe import Row
from .directory import RunError
from .fates import WHY, fates, told_apart

LINES, SIGNS = 20_000, 2**25  # of an overview, the signs being those of their sentences


class _Counts:
    """What an overview keeps of the rows that pass through; no row itself, since a run may have a million."""

    def __init__(self) -> None:
        self.rounds = self.promotions = self.examples = self.reused = self.uses = self._signs = 0
        self.verdicts: Counter[str] = Counter()
        self.ledger: Row = {}
        self.lines: deque[Row] = deque()

    def add(self, row: Row) -> Row:
        """The row itself, which is counted."""
        confirm, line = row["confirm"], _line(row)
        self.rounds += 1
        self.promotions += row["promoted"]
        self.examples += confirm["examples"]
        self.reused += confirm["uses"] > 0
        self.uses = max(self.uses, (confirm["uses"] + 1) if confirm["examples"] else 0)
        self.verdicts[told_apart(row["verdict"], self.verdicts)] += 1
        self.ledger = row.get("ledger", {})
        self.lines.append(line)
        self._signs += len(line["why"])
        while len(self.lines) > LINES or (self._signs > SIGNS and len(self.lines) > 1):
            self._signs -= len(self.lines.popleft()["why"])
        return row


def overview(rows: Iterable[Row], summary: Row) -> Row:
    """The run as a whole: what was promised, how its rounds ended, what they cost, and a line for each round.

    The rows are taken one by one. Of very many rounds, the last ones have a line, and `lines_left_out` says how many
    have none.
    """
    counts = _Counts()
    proposers = fates(map(counts.add, rows))
    return {
        "task": summary.get("task"),
        "ended": summary.get("reason"),
        "promise": summary.get("promise"),
        "assumes": summary.get("assumes", []),
        "changes": summary.get("changes", []),
        "rounds": counts.rounds,
        "verdicts": dict(counts.verdicts),
        "promotions": counts.promotions,
        "proposers": proposers,
        "ledger": counts.ledger,
        "decide": {"examples": counts.examples, "reused": counts.reused, "uses": counts.uses},
        "lines": list(counts.lines),
        "lines_left_out": counts.rounds - len(counts.lines),
    }


def of_round(rows: Iterable[Row], number: int) -> Row:
    """Everything about one round: its row, the ledger before it, and what would have changed its verdict.

    Takes the rows one by one, up to this one. Raises RunError when there is no such round.
    """
    first, last = None, None
    before: Row = {}
    for row in rows:
        if row["round"] == number:
            return {"row": row, "ledger_before": before, "would_change": would_change(row)}
        first, last, before = row["round"] if first is None else first, row["round"], row.get("ledger", {})
    raise RunError(f"--round {number}: this run has rounds {first} to {last}")


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
