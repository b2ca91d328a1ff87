"""`ev3x explain`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Annotated, Any

import typer

from ..text import command, json_text
from .console import out, say
from .run import Json, RunDirectory


def explain(
    directory: RunDirectory,
    round_: Annotated[
        int | None, typer.Option("--round", metavar="N", help="Everything of this round; the first is 0.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Say why each round of a run ended as it did, in words and figures."""
    from ..run.directory import ROUNDS, SUMMARY, read_rows, read_summary
    from ..run.explain import of_round, overview
    from ..run.manifest import altered

    rows, summary = read_rows(directory), read_summary(directory)
    found = overview(rows, summary) if round_ is None else of_round(rows, round_)
    for name in altered(directory, (ROUNDS, SUMMARY)):
        check = command("ev3x", "verify", directory)
        say(f"warning: {name} is not what it was when the run ended: `{check}`", style="yellow")
    if as_json:
        out(json_text(found))
    elif round_ is None:
        _overview(found)
    else:
        _round(found)


def _overview(found: dict[str, Any]) -> None:
    """Print the facts of the run, and a line per round."""
    from ..run.fates import in_words
    from . import tables

    decide = found["decide"]
    verdicts = ", ".join(f"{n} {verdict}" for verdict, n in found["verdicts"].items())
    examples = f"{decide['examples']:,} decide examples were read"
    if decide["reused"]:
        examples += f"; {decide['reused']} rounds read some again, one was read {decide['uses']} times"
    facts = [
        ("task", f"{found['task'] or 'not known'}: {found['ended'] or 'the run has not ended'}"),
        ("promise", found["promise"] or "not known before the run ends"),
        *_listed("assumes", found["assumes"]),
        *_listed("changed", found["changes"]),
        ("rounds", f"{found['rounds']}: {verdicts}; {found['promotions']} promoted"),
        ("budget", _figures(found["ledger"])),
        ("data", examples),
        *((name, words) for name, counts in found["proposers"].items() if (words := in_words(counts))),
    ]
    _facts(facts)
    lines = found["lines"]
    shown = tables.fitting([_cells(line) for line in reversed(lines)])
    if left_out := found["rounds"] - len(shown):
        _facts([("lines", f"the last {len(shown):,} rounds; {left_out:,} are left out (--round N shows any)")])
    _table(("round", "winner", "verdict", "why"), shown[::-1])


def _cells(line: dict[str, Any]) -> tuple[str, ...]:
    state = ", promoted" if line["promoted"] else ", shadow" if line["shadow"] else ""
    return str(line["round"]), line["winner"] or "none", line["verdict"] + state, line["why"]


def _round(found: dict[str, Any]) -> None:
    """Print all candidates, the confirmation by metric, and the ledger of a round."""
    row, confirm = found["row"], found["row"]["confirm"]
    end = ("promoted; " if row["promoted"] else "") + f"move: {row['move']}"
    if shadow := row.get("shadow"):
        end = f"nothing, in shadow; else {'promoted; ' if shadow['promoted'] else ''}move: {shadow['move']}"
    facts = [
        ("round", str(row["round"])),
        ("winner", row["winner"] or "none"),
        ("verdict", row["verdict"]),
        ("why", row["why"]),
        ("done", end + "".join(f"; {name}: {what}" for name, what in row["calls"].items())),
    ]
    _facts(facts)
    candidates = [
        (c["name"], _could_win(c), _figure(c["value"]), metric, *_means(c, metric))
        for c in row["candidates"]
        for metric in c["mean"]
    ]
    _table(("candidate", "could win", "value", "metric", "mean on the assess split"), candidates)
    winner, tested = confirm["winner"], confirm["p_values"]
    metrics = [
        (
            metric,
            *_means(winner, metric),
            *_means(confirm["current"], metric),
            _figure(confirm["incumbent"][metric]),
            _interval(*(winner[name][metric] for name in ("difference", "difference_lower", "difference_upper"))),
            _figure(tested[metric]) if metric in tested else "not tested",
            _figure(confirm["alpha"]),
        )
        for metric in winner["mean"]
    ]
    _table(("metric", "winner", "current", "incumbent", "gain of the winner", "p", "alpha"), metrics)
    before, after = found["ledger_before"], row.get("ledger", {})
    examples = f"{confirm['examples']:,} of the decide split, {row['select_examples']:,} of the assess split"
    if confirm["uses"]:
        examples += f"; some took part in {confirm['uses']} confirmations before"
    facts = [
        ("examples", examples),
        ("before", _figures(before) if before or not after else "nothing: the first round"),
        ("after", _figures(after)),
        *_listed("otherwise", found["would_change"]),
    ]
    _facts(facts)


def _could_win(candidate: dict[str, Any]) -> str:
    return candidate.get("barred") or ("yes" if candidate["eligible"] else "no")


def _means(bounds: dict[str, Any], metric: str) -> tuple[str]:
    low, high = (bounds[name][metric] for name in ("lower", "upper"))
    return (_interval(bounds["mean"][metric], low, high, sign=""),)


def _interval(value: float | None, low: float | None, high: float | None, sign: str = "+") -> str:
    """A figure and its bounds."""
    a, b, c = ("-" if x is None else f"{x:{sign}.4g}" for x in (value, low, high))
    return a if low == high else f"{a} [{b}, {c}]"


def _figure(x: float | None) -> str:
    return "-" if x is None else f"{x:.3g}"


def _figures(ledger: dict[str, float | None]) -> str:
    """The figures of a ledger in one line."""
    return ", ".join(f"{name} {_figure(x)}" for name, x in ledger.items()) or "no account"


def _listed(name: str, texts: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Facts under one name, up to twenty of them."""
    most = 20
    for i, text in enumerate(texts[:most]):
        yield name if not i else "", text
    if len(texts) > most:
        yield "", f"and {len(texts) - most:,} more (--json has all)"


def _facts(facts: Sequence[tuple[str, str]]) -> None:
    from . import tables

    screen = tables.console()
    for name, fact in facts:
        screen.print(tables.cell(f"{name:10} {fact}"), soft_wrap=True)


def _table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    from . import tables

    shown = tables.fitting(rows)
    tables.console().print(tables.table(columns, shown))
    if left_out := len(rows) - len(shown):
        out(f"{left_out:,} more (--json has all)")
