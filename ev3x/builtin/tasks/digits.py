"""scikit-learn's digits: 1,797 scans, and how a seed divides them."""

from __future__ import annotations

import functools

import numpy as np
import numpy.typing as npt

from ev3x.core.types import Batch
from ev3x.training.episodes import Pools

CLASSES, SHAPE = 10, (8, 8)
# How many scans, or classes, explore, assess and decide get; what is left is for the test.
SCANS, FEW_CLASSES = (900, 300, 300), (4, 2, 2)


@functools.cache
def scans() -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int32]]:
    """The scans f32[1797, 8, 8] in [0, 1], and their digits i32[1797]."""
    try:
        from sklearn.datasets import load_digits
    except ImportError as error:
        raise ImportError(f'the digits need scikit-learn ({error}): pip install "ev3x[examples]"') from error
    found = load_digits()
    return (found.images / 16).astype(np.float32), found.target.astype(np.int32)


def pools(seed: int, *, classes: bool = False) -> Pools:
    """The scans {"x": f32[n, 8, 8], "y": i32[n]} of each split, divided by the seed: scan by scan, or by classes."""
    x, y = scans()
    rng = np.random.default_rng(seed)
    if classes:
        parts = [
            np.flatnonzero(np.isin(y, some)) for some in np.split(rng.permutation(CLASSES), np.cumsum(FEW_CLASSES))
        ]
    else:
        parts = np.split(rng.permutation(len(y)), np.cumsum(SCANS))

    def pool(rows: npt.NDArray[np.int64]) -> Batch:
        return {"x": x[rows], "y": y[rows]}

    return Pools(*map(pool, parts))
