"""What the timings share: interleaved repeats, and medians with intervals."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np
import scipy.stats

Times = np.ndarray[Any, np.dtype[np.float64]]


def interleaved(calls: Mapping[str, Callable[[], Any]], repeats: int, at_least: float = 0.0) -> dict[str, Times]:
    """The seconds of every call, f64[repeats] each; all are called in turn, and twice before: to compile, to be timed.

    A call that takes less than `at_least` seconds is made several times in a row, and its share of the time reported.
    """
    rows = {}
    for name, call in calls.items():
        jax.block_until_ready(call())
        rows[name] = max(1, round(at_least / max(_seconds(call, 1), 1e-6)))
    seconds = {name: np.empty(repeats) for name in calls}
    gc.collect()
    gc.disable()
    for i in range(repeats):
        for name, call in calls.items():
            seconds[name][i] = _seconds(call, rows[name])
    gc.enable()
    return seconds


def _seconds(call: Callable[[], Any], times: int) -> float:
    start = time.perf_counter()
    for _ in range(times):
        jax.block_until_ready(call())
    return (time.perf_counter() - start) / times


def median(values: Times) -> dict[str, float]:
    """The median and its 95% interval, two order statistics (Binomial(n, 1/2)): any distribution will do."""
    ordered, n = np.sort(values), len(values)
    below = max(int(scipy.stats.binom.ppf(0.025, n, 0.5)) - 1, 0)
    low, high = float(ordered[below]), float(ordered[n - 1 - below])
    return {"median": float(np.median(values)), "low": low, "high": high}
