"""Self-tests of the bundled targets: small native calls, compared with stored results of the definitions.

To compile a definition costs up to three seconds of processor time, a program of native calls some 30 ms. A test
computes the stored results again from the definitions; `python tests/ops/store_self_tests.py` writes them.
"""

import dataclasses
import functools
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np

from . import native

RESULTS = Path(__file__).with_suffix(".json")

Operands = tuple[np.ndarray, ...]
Results = dict[str, dict[str, np.ndarray]]
"""Fields by case."""


@dataclasses.dataclass(frozen=True)
class SelfTest:
    """A bundled target's self-test: `call` gives what is stored of `definition`, on the operands of all `cases`.

    `cases()` makes the operands, the same on every machine and with every numpy. `view` makes of a result the fields
    that are compared. Floats may be off by `atol` + `rtol` times the stored value; all else must be equal.
    """

    target: str
    call: Callable[..., Any]
    definition: Callable[..., Any]
    cases: Callable[[], Mapping[str, Operands]]
    rtol: float
    atol: float = 0
    view: Callable[[Any], dict[str, Any]] = lambda result: result._asdict()

    def __call__(self, _: str) -> None:
        """Returns if native code gives the stored results; else RuntimeError with the first field that differs."""
        self.compare(self.results(self.call), stored()[self.target])

    def results(self, function: Callable[..., Any]) -> Results:
        """Returns what `function`, `call` or `definition`, gives on the CPU."""
        on_cpu = jax.device_put(dict(self.cases()), jax.local_devices(backend="cpu")[0])
        # One program for all: each costs some 20 ms more than what is in it. No arithmetic beside the calls, for LLVM
        # takes longer for an addition than all else does for a call.
        given = jax.jit(lambda cases: {name: function(*operands) for name, operands in cases.items()})(on_cpu)
        return {name: self.view(jax.tree.map(np.asarray, result)) for name, result in given.items()}

    def compare(self, results: Results, stored: Mapping[str, Mapping[str, Any]]) -> None:
        """Returns if the results are the stored ones; else RuntimeError with the first field that differs."""
        for case, result in results.items():
            for field, got in result.items():
                want = np.asarray(stored[case][field], got.dtype)
                if not self._near(got, want):
                    raise RuntimeError(
                        f"self-test: `{field}` differs from the definition in the case {case!r}: "
                        f"expected {want.tolist()}, got {got.tolist()}"
                    )

    def _near(self, got: np.ndarray, want: np.ndarray) -> bool:
        if got.shape != want.shape or not np.issubdtype(got.dtype, np.floating):
            return np.array_equal(got, want)
        return np.allclose(got, want, rtol=self.rtol, atol=self.atol, equal_nan=True)


self_tests: dict[str, SelfTest] = {}


def declare(self_test: SelfTest) -> None:
    """Announces a bundled target with its self-test."""
    native.declare(self_test.target, self_test)
    self_tests[self_test.target] = self_test


@functools.cache
def stored() -> dict[str, dict[str, dict[str, Any]]]:
    """Returns what the definitions give: values in nested lists, by target, case and field."""
    return json.loads(RESULTS.read_text())


def numbers() -> np.random.RandomState:
    """Returns a source of numbers whose stream numpy has promised not to change, as it has not for `default_rng`.

    Take integers and `random_sample` only: what goes through logarithms differs in the last bit between machines.
    """
    return np.random.RandomState(0)
