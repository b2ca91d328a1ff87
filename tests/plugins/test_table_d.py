"""The table of failures, case by case: each was brought about once, by really installed plugins in an environment."""

from __future__ import annotations

import fcntl
import json
import os

import pytest

from .cases import CASES, Case
from .table_d import Results, table


@pytest.fixture(scope="session")
def results(tmp_path_factory: pytest.TempPathFactory) -> Results:
    """What became of every case. Several workers of one pytest run share it: the first one makes it, others wait."""
    folder = tmp_path_factory.getbasetemp()
    folder = folder if "PYTEST_XDIST_WORKER" not in os.environ else folder.parent
    with (folder / "table_d.lock").open("w") as lock:
        fcntl.lockf(lock, fcntl.LOCK_EX)
        made = folder / "table_d.json"
        if not made.exists():
            made.write_text(json.dumps(table(folder / "table_d")))
        found: Results = json.loads(made.read_text())
        return found


def test_the_table_is_whole():
    assert {case.number for case in CASES} == set(range(1, 51))
    assert len({case.id for case in CASES}) == len(CASES)


@pytest.mark.long
@pytest.mark.parametrize("case", [pytest.param(case, id=case.id) for case in CASES])
def test_the_host_survives(results: Results, case: Case):
    state, words = results[case.id]
    if state == "waits":
        pytest.skip(words)
    assert state == "ok", words
