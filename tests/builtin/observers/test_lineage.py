"""The lineage: drawn when a model grew, and only then."""

import sys

import pytest
from sample_rows import ROWS, info, row

from ev3x.builtin.observers.lineage import Lineage
from ev3x.core.observe import Progress

SUMMARY = {"rounds": 6, "promotions": 2}
GROWN = {"parameters": {"candidates": 200, "incumbent": 100}}
GROWING = [
    row(0, "better", promoted=True),
    row(1, calls={"grow": "grow"}),
    row(2, **GROWN),
    row(3, score=None, calls={"grow": "undo"}, **GROWN),
    row(4, calls={"synergy": "pass", "other": "something else"}),
    row(5, "better", promoted=True, **GROWN),
]


def draw(directory, before, after):
    observer = Lineage()
    handle = observer.start(info(directory), before)
    observer.rounds(handle, after, Progress(6, 2, {}, 1, 1, 1.0, None))
    observer.end(handle, SUMMARY)


@pytest.mark.parametrize("at", [0, 3, 6])
def test_the_lineage_is_drawn_of_all_rounds(tmp_path, at):
    draw(tmp_path, GROWING[:at], GROWING[at:])
    assert (tmp_path / "lineage.png").read_bytes().startswith(b"\x89PNG")


def test_a_model_that_never_grew_has_none(tmp_path):
    draw(tmp_path, [], ROWS)
    draw(tmp_path, [], [])
    draw(None, [], GROWING)
    assert not list(tmp_path.iterdir())


def test_without_matplotlib_one_line_says_so(tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    draw(tmp_path, [], GROWING)
    captured = capsys.readouterr()
    assert captured.err == 'lineage.png not drawn: pip install "ev3x[examples]"\n' and captured.out == ""
