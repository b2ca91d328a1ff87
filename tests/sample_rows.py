"""Rows of an imaginary run, for tests of observers."""

from pathlib import Path

from ev3x.core.observe import Limits, RunInfo


def info(directory: Path | None) -> RunInfo:
    return RunInfo("ev3:toy", 0, ("m",), ("a", "b"), "", "about", Limits(9), directory, 0)


def row(i, verdict="undecided", score=0.5, **other):
    winner = {"mean": score, "difference": 0.01, "lower": 0.4, "upper": 0.6}
    winner |= {"difference_lower": -0.05, "difference_upper": 0.15}
    confirm = {"winner": {k: {"m": v} for k, v in winner.items()}, "incumbent": {"m": 0.45}, "p_value": 0.5}
    return {
        "round": i,
        "winner": "a",
        "verdict": verdict,
        "promoted": False,
        "move": "take",
        "why": "w",
        "confirm": confirm,
        "calls": {},
        "parameters": {"candidates": 100, "incumbent": 100},
    } | other


ROWS = [
    row(0, "better", promoted=True),
    row(1, "worse", move="restore"),
    row(2, "equivalent"),
    row(3, "undecided", score=None),
    row(4, "none", winner=None),
    row(5, "spent", score=None),
]
