"""Progress: lines on standard error without a terminal, a live display on one, nothing on standard output."""

import pytest
from rich.console import Console
from sample_rows import ROWS, info, row

from ev3x.builtin.observers import progress
from ev3x.builtin.observers.progress import ShowProgress
from ev3x.core.observe import Progress


def far(rounds, left=61.0):
    return Progress(rounds, 1, 0, 1200, 20480, 3.0, left)


def show(observer, *chunks):
    handle = observer.start(info(None), [])
    for i, rows in enumerate(chunks):
        observer.rounds(handle, rows, far(i + 1, None if i == 2 else 61.0))
    observer.end(handle, {"outcome": "finished", "reason": "9 rounds"})


def test_plain_lines(capsys):
    show(ShowProgress(every=0.0), [ROWS[0]], [ROWS[1]], [ROWS[4]])
    captured = capsys.readouterr()
    assert captured.out == ""
    so_far = "1 promotion, 1,200 steps, 20,480 examples, 0:00:03 run"
    assert captured.err.splitlines() == [
        "ev3:toy, seed 0, 2 candidates a round",
        "about",
        "round 1: promoted a  m 0.5 [0.4, 0.6]  p = 0.5",
        f"round 1/9, best a m 0.5 [0.4, 0.6], better, {so_far}, 0:01:01 left",
        f"round 2/9, best a m 0.5 [0.4, 0.6], worse, {so_far}, 0:01:01 left",
        f"round 3/9, no winner, none, {so_far}",
        "finished: 9 rounds",
    ]


def test_plain_lines_are_not_too_many_but_every_promotion_is_told(capsys):
    show(ShowProgress(), *[[row(i, promoted=i == 7)] for i in range(20)])
    lines = capsys.readouterr().err.splitlines()
    assert [line[:9] for line in lines[2:]] == ["round 1/9", "round 8: ", "finished:"]


@pytest.mark.parametrize("last", ROWS)
def test_the_live_display_shows_each_kind_of_round(last, capsys, monkeypatch):
    def terminal(**options):
        return Console(**options, force_terminal=True, width=100, _environ={})

    monkeypatch.setattr(progress, "Console", terminal)
    show(ShowProgress(), [last])
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "1/9, 0:00:03 run, about 0:01:01 left" in captured.err
    assert last["verdict"] in captured.err and "finished: 9 rounds" in captured.err
    assert captured.err.count("\x1b[?25l") == captured.err.count("\x1b[?25h") == 1, "the cursor comes back"


def test_a_resumed_run_says_so(capsys):
    import dataclasses

    observer = ShowProgress()
    handle = observer.start(dataclasses.replace(info(None), resumed_at=5), ROWS)
    observer.rounds(handle, [], far(5))
    assert "resumed after 5 rounds" in capsys.readouterr().err
