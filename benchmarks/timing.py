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


def interleaved(calls: Mapping[str, Callable[[], Any]], repeats: int) -> dict[str, Times]:
    """The seconds of every call, f64[repeats] each; all are called in turn, and once before to compile."""
    for call in calls.values():
        jax.block_until_ready(call())
    seconds = {name: np.empty(repeats) for name in calls}
    gc.collect()
    gc.disable()
    for i in range(repeats):
        for name, call in calls.items():
            start = time.perf_counter()
            jax.block_until_ready(call())
            seconds[name][i] = time.perf_counter() - start
    gc.enable()
    return seconds


def median(values: Times) -> dict[str, float]:
    """The median and its 95% interval, two order statistics (Binomial(n, 1/2)): any distribution will do."""
    ordered, n = np.sort(values), len(values)
    below = max(int(scipy.stats.binom.ppf(0.025, n, 0.5)) - 1, 0)
    low, high = float(ordered[below]), float(ordered[n - 1 - below])
    return {"median": float(np.median(values)), "low": low, "high": high}
