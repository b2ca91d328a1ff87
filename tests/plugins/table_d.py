"""What a plugin host must survive, shown: installs all fake plugins into a scratch environment and prints the table.

    PYTHONPATH=tests python -m plugins.table_d [NUMBER ...]

Every line has the number of the case, its name, what became of it, and what was seen: the fault line as a user gets it.
Exit code 1 if any case failed. tests/plugins/test_table_d.py runs the same.
"""

from __future__ import annotations

import json
import sys
import tempfile
from collections import Counter
from pathlib import Path

from .cases import CASES, happened
from .fakes import INSTALLED, OVERLAY, STRANGER
from .wheels import TESTS, Environment

Results = dict[str, tuple[str, str]]
# In this order: the last ones take away what the first ones need.
GROUPS = ("fresh", "host", "overlay")


def table(folder: Path) -> Results:
    """What became of every case, (state, words) by its id, with all fakes installed into an environment there."""
    environment = Environment.create(folder)
    environment.install(INSTALLED)
    environment.install([STRANGER], folder / "stranger")
    overlay = environment.install(OVERLAY, folder / "overlay")
    results: Results = {}
    for group in GROUPS:
        path = f"{overlay}:{TESTS}" if group == "overlay" else str(TESTS)
        done = environment.run("-m", "plugins.table_d", "--group", group, str(folder / "out.json"), PYTHONPATH=path)
        if done.returncode:
            text = f"the process of this group ended with {done.returncode}: {done.stderr[-2000:]}"
            results |= {case.id: ("FAILED", text) for case in CASES if case.group == group}
            continue
        results |= {name: tuple(r) for name, r in json.loads((folder / "out.json").read_text()).items()}
    return {name: (state, words.replace(str(folder), "$ENV")) for name, (state, words) in results.items()}


def main(numbers: list[str]) -> int:
    with tempfile.TemporaryDirectory() as folder:
        results = table(Path(folder))
    for case in CASES:
        state, words = results[case.id]
        if not numbers or str(case.number) in numbers:
            line = words if state == "FAILED" else " ".join(words.split())
            print(f"{case.number:>2}  {case.name:<32} {state:<8} {line}")
    counts = Counter(state for state, _ in results.values())
    print(", ".join(f"{n} {state}" for state, n in counts.items()))
    return int("FAILED" in counts)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--group"]:
        Path(sys.argv[3]).write_text(json.dumps(happened(sys.argv[2])))
        sys.exit()
    sys.exit(main(sys.argv[1:]))
