"""Stores what the definitions give for the self-tests' operands: `python tests/ops/store_self_tests.py`."""

import json

import numpy as np

from ev3x import ops  # noqa: F401  declares the self-tests
from ev3x.ops import self_tests


def shortest(value: np.ndarray) -> object:
    """Nested lists; floats with the fewest digits that are read as the same float32."""
    if value.dtype != np.float32:
        return value.tolist()
    return np.array([float(str(x)) for x in value.flat]).reshape(value.shape).tolist()


def written(results: dict[str, self_tests.Results]) -> str:
    """The file's text, a line for each field, so that a change shows where it is; results by target."""
    targets = []
    for target, given in sorted(results.items()):
        cases = []
        for case, fields in given.items():
            lines = ",\n".join(f"      {json.dumps(name)}: {json.dumps(shortest(a))}" for name, a in fields.items())
            cases.append(f"    {json.dumps(case)}: {{\n{lines}\n    }}")
        targets.append(f"  {json.dumps(target)}: {{\n" + ",\n".join(cases) + "\n  }")
    return "{\n" + ",\n".join(targets) + "\n}\n"


if __name__ == "__main__":
    results = {target: test.results(test.definition) for target, test in self_tests.self_tests.items()}
    self_tests.RESULTS.write_text(written(results))
