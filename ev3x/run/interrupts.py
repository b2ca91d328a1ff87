"""Ctrl-C, SIGTERM and SIGHUP end a run after the running chunk, so that what was trained is kept."""

from __future__ import annotations

import _thread
import functools
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

NUMBERS = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name))
AGAIN = 0.02  # seconds until an interrupt that was lost comes again
_came: list[int] = []  # signals of this process, in order


@contextmanager
def interrupts() -> Iterator[list[int]]:
    """A list to which the signals add, so that the running chunk can end; the second one ends at once.

    A signal that whoever started the process ignores stays so, as SIGHUP under `nohup`.
    """
    seen: list[int] = []

    def note(number: int, frame: FrameType | None) -> None:
        _came.append(number)
        if seen:
            raise KeyboardInterrupt
        seen.append(number)

    if threading.current_thread() is not threading.main_thread():
        yield seen
        return
    before = _handle(note)
    try:
        yield seen
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def in_words() -> Iterator[None]:
    """Each of these signals raises KeyboardInterrupt in the body: for a program of its own, which it ends."""
    before = _handle(_raise)
    try:
        yield
    finally:
        if exit_code() is None:  # else the program is ending, and a second one must not change how
            for number, handler in before.items():
                signal.signal(number, handler)


def no_more() -> None:
    """From here on, this program, which is ending because of such a signal, ignores them."""
    for number in NUMBERS:
        if _ours(signal.getsignal(number)):
            signal.signal(number, signal.SIG_IGN)


def exit_code() -> int | None:
    """The exit code of a program that such a signal ended: 128 and its number; None when none came."""
    return 128 + _came[-1] if _came else None


def _raise(number: int, frame: FrameType | None) -> None:
    _came.append(number)
    raise KeyboardInterrupt


def _handle(handler: Callable[[int, FrameType | None], None]) -> dict[int, Any]:
    """Let this function handle the signals that are not ignored; what handled them before."""
    _lose_none()
    before = {number: signal.getsignal(number) for number in NUMBERS}
    before = {number: old for number, old in before.items() if old not in (None, signal.SIG_IGN)}
    for number in before:
        signal.signal(number, handler)
    return before


def _ours(handler: Any) -> bool:
    return getattr(handler, "__module__", None) == __name__


@functools.cache
def _lose_none() -> None:
    """From here on, an interrupt that Python drops comes again.

    It drops what a handler raises while a destructor or a callback of the garbage collector runs, such as XLA's.
    """
    before = sys.unraisablehook

    def hook(unraisable: Any) -> None:
        if _came and isinstance(unraisable.exc_value, KeyboardInterrupt) and _ours(signal.getsignal(_came[-1])):
            again = threading.Timer(AGAIN, _thread.interrupt_main, (_came[-1],))
            again.daemon = True
            again.start()
        else:
            before(unraisable)

    sys.unraisablehook = hook
