"""Self-tests that compare native code with stored results of its definition, which they need not compile for that.

A definition takes up to three seconds of processor time to compile, a program of native calls some 30 ms. After a
change of definitions or operands, `python -c "from ev3x.ops import self_tests; self_tests.store()"` stores the results
of all bundled targets anew; a test tells whether they are those of the definitions.
"""

import dataclasses
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np

from . import native

FOLDER = Path(__file__).parent / "results"

Operands = tuple[np.ndarray, ...]
Results = dict[str, dict[str, np.ndarray]]
"""Fields by case."""


@dataclasses.dataclass(frozen=True)
class StoredTest:
    """A target's self-test: `call` gives what is stored of `definition`, on the operands of all `cases`.

    `cases()` makes the operands, the same on every machine and with every numpy. `view` makes of a result the fields
    that are compared. Floats may be off by `atol` + `rtol` times the stored value; all else must be equal.
    """

    target: str
    call: Callable[..., Any]
    definition: Callable[..., Any]
    cases: Callable[[], Mapping[str, Operands]]
    rtol: float = 0
    atol: float = 0
    view: Callable[[Any], dict[str, Any]] = lambda result: result._asdict()
    folder: Path = FOLDER

    @staticmethod
    def numbers() -> np.random.RandomState:
        """Returns a source of numbers for `cases`, whose stream numpy has promised never to change.

        Take integers and `random_sample` only: logarithms differ in the last bit between machines.
        """
        return np.random.RandomState(0)

    @property
    def path(self) -> Path:
        """Where the results are stored."""
        return self.folder / f"{self.target}.json"

    def __call__(self, target: str) -> None:
        """Returns if native code gives the stored results; else RuntimeError with the first field that differs."""
        if target != self.target:
            raise ValueError(f"the self-test is of the target {self.target!r}, got {target!r}: give each its own")
        self.compare(self.results(self.call), self.stored())

    def stored(self) -> dict[str, dict[str, Any]]:
        """Returns the stored results: values in nested lists, by case and field."""
        return json.loads(self.path.read_text(encoding="utf-8"))

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

    def store(self) -> None:
        """Stores what the definition gives, a line for each field: a change shows where it is."""
        cases = []
        for case, fields in self.results(self.definition).items():
            lines = ",\n".join(f"    {json.dumps(name)}: {json.dumps(_shortest(a))}" for name, a in fields.items())
            cases.append(f"  {json.dumps(case)}: {{\n{lines}\n  }}")
        self.path.write_text("{\n" + ",\n".join(cases) + "\n}\n", encoding="utf-8")

    def _near(self, got: np.ndarray, want: np.ndarray) -> bool:
        if got.shape != want.shape or not np.issubdtype(got.dtype, np.floating):
            return np.array_equal(got, want)
        return np.allclose(got, want, rtol=self.rtol, atol=self.atol, equal_nan=True)


bundled: dict[str, StoredTest] = {}


def declare(self_test: StoredTest) -> None:
    """Announces a bundled target with its self-test."""
    native.declare(self_test.target, self_test)
    bundled[self_test.target] = self_test


def store() -> None:
    """Stores the results of all bundled targets anew."""
    for self_test in bundled.values():
        self_test.store()


def _shortest(value: np.ndarray) -> Any:
    """Nested lists; floats with the fewest digits that are read as the same float32."""
    if value.dtype != np.float32:
        return value.tolist()
    return np.array([float(str(x)) for x in value.flat]).reshape(value.shape).tolist()
