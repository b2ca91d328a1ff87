"""The files of an imaginary run, whose rounds ended in each of the ways there are."""

import json

from ev3x.run.directory import read_rows, read_summary, rows_as_they_are, summary_as_it_is


def bounds(value, low, high, gain, at_least, at_most):
    named = {"value": value, "mean": {"right": value, "size": 3.0}, "lower": {"right": low, "size": 3.0}}
    named |= {"upper": {"right": high, "size": 3.0}, "difference": {"right": gain, "size": 0.0}}
    return named | {
        "difference_lower": {"right": at_least, "size": 0.0},
        "difference_upper": {"right": at_most, "size": 0.0},
    }


def row(i, verdict, p=None, **other):
    """A row as ev3x/run/rows.py makes it; test_replay and tests/cli read real ones."""
    winner = bounds(0.75, 0.7, 0.8, 0.01, -0.002, 0.022)
    confirm = {
        "winner": winner,
        "current": winner,
        "incumbent": {"right": 0.74, "size": 3.0},
        "leads": "right",
        "e_values": False,
        "p_value": p,
        "p_values": {} if p is None else {"right": p},
        "alpha": 0.03,
        "examples": 0 if verdict == "spent" else 256,
        "uses": 0,
    }
    confirm |= {k: other.pop(k) for k in confirm.keys() & other.keys()}
    made = {
        "round": i,
        "candidates": [{"name": "a/b", "eligible": True, **winner}, {"name": "a/c", "eligible": False, **winner}],
        "winner": None if verdict == "none" else "a/b",
        "verdict": verdict,
        "why": f"why {i}",
        "promoted": verdict == "better",
        "move": "take",
        "confirm": confirm,
        "ledger": {"spent": 0.01 * (i + 1), "left": 0.05 - 0.01 * (i + 1)},
        "select_examples": 64,
        "gradient_steps": 4,
        "parameters": {"candidates": 3, "incumbent": 3},
        "calls": {},
    }
    return made | other


ROWS = [
    row(0, "better", 0.001),
    row(1, "undecided", 0.083),
    row(2, "worse", 0.99),
    row(3, "equivalent", 0.5, uses=1),
    row(4, "none"),
    row(5, "spent"),
]
SUMMARY = {"task": "ev3:toy", "reason": "6 rounds", "promise": "at most 0.05", "assumes": ["fresh examples"]}


def put(directory, rows=ROWS, summary=SUMMARY):
    (directory / "config.toml").touch()
    (directory / "rounds.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows))
    if summary is not None:
        (directory / "summary.json").write_text(json.dumps(summary))
    return directory


def read(directory):
    """All rows, and the summary, as far as they are those of a run."""
    return list(read_rows(directory)), read_summary(directory)


def read_as_it_is(directory):
    """All rows, and the summary, whatever they are."""
    return list(rows_as_they_are(directory)), summary_as_it_is(directory)
