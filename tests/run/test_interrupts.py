"""Signals: the first one is noted, the second ends at once, none is lost, and the exit code says which it was."""

import gc
import signal
import subprocess
import sys
import time

import pytest

from ev3x.run import interrupts as module
from ev3x.run.interrupts import NUMBERS, exit_code, interrupts


@pytest.fixture(autouse=True)
def none_came(monkeypatch):
    monkeypatch.setattr(module, "_came", [])


@pytest.mark.parametrize("number", NUMBERS)
def test_the_first_signal_is_noted_and_the_second_raises(number):
    before = [signal.getsignal(n) for n in NUMBERS]
    with interrupts() as seen:
        signal.raise_signal(number)
        assert seen == [number] and exit_code() == 128 + number
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(number)
    assert [signal.getsignal(n) for n in NUMBERS] == before


def test_a_signal_that_is_ignored_stays_so():
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with interrupts() as seen:
            signal.raise_signal(signal.SIGHUP)
            assert not seen and signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
        assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)


@pytest.mark.parametrize("where", ["collector", "destructor"])
def test_an_interrupt_that_python_drops_comes_again(where, monkeypatch):
    """What a handler raises in a callback of the garbage collector, as XLA's is, or in `__del__`, is dropped."""

    class Deleted:
        def __del__(self):
            signal.raise_signal(signal.SIGTERM)
            sum(range(10))

    def collected(phase, info):
        if phase == "start":
            gc.callbacks.remove(collected)
            signal.raise_signal(signal.SIGTERM)
            sum(range(10))

    module._lose_none.cache_clear()  # pytest puts a hook of its own in each test
    monkeypatch.setattr(sys, "unraisablehook", sys.unraisablehook)
    with pytest.raises(KeyboardInterrupt), interrupts() as seen:
        signal.raise_signal(signal.SIGTERM)
        assert seen == [signal.SIGTERM]
        if where == "collector":
            gc.callbacks.append(collected)
            gc.collect()
        else:
            Deleted()
        for _ in range(500):
            time.sleep(0.01)
    module._lose_none.cache_clear()


@pytest.mark.parametrize("number", NUMBERS)
def test_a_command_ends_with_the_code_of_its_signal_and_a_second_one_changes_nothing(number):
    code = f"""
import signal, sys
from ev3x import cli
from ev3x.cli import console
def work():
    signal.raise_signal({int(number)})
def say(text, style):
    signal.raise_signal(signal.SIGTERM)
    print(text)
console.say = say
cli.app.command("work")(work)
sys.argv = ["ev3x", "work"]
cli.main()
"""
    command = [sys.executable, "-W", "ignore", "-c", code]
    done = subprocess.run(command, capture_output=True, encoding="utf-8", check=False)
    assert (done.returncode, done.stdout, done.stderr) == (128 + number, "interrupted\n", "")


def test_a_command_that_no_signal_ended_leaves_the_handlers_as_they_were(monkeypatch, capsys):
    from ev3x import cli

    before = [signal.getsignal(n) for n in NUMBERS]
    monkeypatch.setattr(sys, "argv", ["ev3x", "cache", "list"])
    with pytest.raises(SystemExit):
        cli.main()
    assert [signal.getsignal(n) for n in NUMBERS] == before and capsys.readouterr().out
