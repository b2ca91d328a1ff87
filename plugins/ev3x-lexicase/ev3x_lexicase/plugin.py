"""What this distribution offers to ev3x."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterable

import ev3x


@ev3x.hookimpl
def ev3x_assessors() -> Iterable[ev3x.Offer]:
    """Selection by lexicase tournaments."""
    from .assessor import Lexicase

    return [ev3x.Offer("lexicase", Lexicase)]


@ev3x.hookimpl
def ev3x_ffi_targets(platform: str) -> Iterable[ev3x.FfiTarget]:
    """The tournaments in C++; none where this was installed without native code, which is no fault.

    A module that is there but does not load raises ImportError here: the host says so, and `definition` is used.
    """
    if platform != "cpu" or importlib.util.find_spec("ev3x_lexicase._native") is None:
        return []
    from . import _native
    from .shares import SELF_TEST, TARGET

    return [ev3x.FfiTarget(TARGET, _native.votes(), SELF_TEST)]
