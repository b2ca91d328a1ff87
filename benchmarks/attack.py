"""What every part of the fault benchmark hands over: how many tries it made, what came out, and what was wrong."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any


@dataclasses.dataclass(frozen=True)
class Found:
    """The outcome of one attack."""

    attack: str  # its name in the table
    tries: int  # made, not asked for
    counts: Mapping[str, int]  # tries by outcome
    wrong: Sequence[str]  # one line for each try that broke the promise; empty when the promise holds
    figures: Mapping[str, Any] = dataclasses.field(default_factory=dict)  # seconds, sizes and what else was measured
