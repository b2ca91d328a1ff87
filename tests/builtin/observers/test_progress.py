"""Progress: lines on standard error without a terminal, a live display on one, nothing on standard output."""

import dataclasses
import math

import pytest
from sample_rows import ROWS, info, row

from ev3x.builtin.observers import progress
from ev3x.builtin.observers.progress import ShowProgress
from ev3x.core.observe import Limits, Progress
from ev3x.text import console


def far(rounds, left=61.0):
    return Progress(rounds, 1, 0, 1200, 20480, 3.0, left)


def terminal(stream, **options):
    """A console on a terminal, as `console` makes one."""
    return console(stream, force_terminal=True, width=100, _environ={}, **options)


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
        "round 0: promoted a  m 0.5 [0.4, 0.6]  p = 0.5",
        f"1 of 9 rounds, best a m 0.5 [0.4, 0.6], better, {so_far}, 0:01:01 left",
        f"2 of 9 rounds, best a m 0.5 [0.4, 0.6], worse, {so_far}, 0:01:01 left",
        f"3 of 9 rounds, no winner, none, {so_far}",
        "finished: 9 rounds",
    ]


def test_plain_lines_are_not_too_many_but_every_promotion_is_told(capsys):
    show(ShowProgress(), *[[row(i, promoted=i == 7)] for i in range(20)])
    lines = capsys.readouterr().err.splitlines()
    assert [line[:9] for line in lines[2:]] == ["1 of 9 ro", "round 7: ", "finished:"]


@pytest.mark.parametrize("live", [False, True])
@pytest.mark.parametrize("left", [None, math.inf, math.nan])
def test_a_time_that_no_clock_shows_is_left_out(left, live, capsys, monkeypatch):
    if live:
        monkeypatch.setattr(progress, "console", terminal)
    observer = ShowProgress(every=0.0)
    handle = observer.start(dataclasses.replace(info(None), limits=Limits(seconds=math.inf)), [])
    observer.rounds(handle, ROWS[:1], far(1, left))
    observer.end(handle, {"outcome": "interrupted", "reason": "interrupted"})
    seen = capsys.readouterr().err
    assert "1 round, " in seen and "0:00:03" in seen and "left" not in seen


@pytest.mark.parametrize("live", [False, True])
def test_names_and_reasons_are_text_and_no_markup(live, capsys, monkeypatch):
    if live:
        monkeypatch.setattr(progress, "console", terminal)
    name = "m[/bold] [red]:smile:"
    last = row(0, "better", promoted=True, winner=name, why=f"{name}\n\x1b[2J")
    for values in last["confirm"]["winner"].values():
        values[name] = values["m"]
    last["confirm"]["incumbent"][name] = 0.4
    observer = ShowProgress(every=0.0)
    handle = observer.start(dataclasses.replace(info(None), metrics=(name,), task=name, about=name), [])
    observer.rounds(handle, [last], far(1))
    observer.end(handle, {"outcome": "finished", "reason": name})
    seen = capsys.readouterr().err
    assert seen.count(name) >= (7 if live else 6) and "\n\x1b[2J" not in seen
    assert not live or f"{name}\\n\\x1b[2J" in seen


@pytest.mark.parametrize("last", ROWS)
def test_the_live_display_shows_each_kind_of_round(last, capsys, monkeypatch):
    monkeypatch.setattr(progress, "console", terminal)
    show(ShowProgress(), [last])
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "1 of 9 rounds, 0:00:03, about 0:01:01 left" in captured.err
    assert last["verdict"] in captured.err and "finished: 9 rounds" in captured.err
    assert captured.err.count("\x1b[?25l") == captured.err.count("\x1b[?25h") == 1, "the cursor comes back"


def test_a_resumed_run_says_so(capsys):
    observer = ShowProgress()
    handle = observer.start(dataclasses.replace(info(None), resumed_at=5), ROWS)
    observer.rounds(handle, [], far(5))
    assert "resumed after 5 rounds" in capsys.readouterr().err
