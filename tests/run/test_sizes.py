"""A checkpoint from somebody else is looked at before it is read: its sizes, and the types of all that it keeps."""

import dataclasses
import json
import os
from pathlib import Path

import numpy as np
import orbax.checkpoint as ocp
import pytest
from toys import evolver

from ev3x import Layout
from ev3x.builtin.adapters.grow import Grow
from ev3x.core.plan import Plan
from ev3x.run import sizes
from ev3x.run.checkpoint import CheckpointError, leaves, load, of_run
from ev3x.run.digests import seal
from ev3x.run.shapes import META, check_meta

RUN = {"round": np.int32(1), "model/incumbent/w": np.zeros(1_000_000, np.float32)}
GOOD = {"task": "ev3:toy", "seed": 0, "config": "", "data": "", "versions": {}, "changes": []}
GOOD |= {"totals": {"seconds": 0.5, "promotions": 0, "gradient_steps": 0, "examples": 0, "transitions": {}}}


def put(directory, meta, tree=None, sealed=None):
    """A checkpoint with digests that fit, as anyone can make it."""
    tree = tree or {"run": RUN}
    with ocp.CheckpointManager(directory / "checkpoints") as manager:
        args = {"tree": ocp.args.StandardSave(tree), "meta": ocp.args.JsonSave(sealed or seal(1, tree, meta))}
        manager.save(1, args=ocp.args.Composite(**args))
    return directory


def test_a_small_file_that_unpacks_to_a_large_one_is_not_read(tmp_path, monkeypatch):
    put(tmp_path, GOOD)
    monkeypatch.chdir(tmp_path)
    assert of_run(tmp_path / "checkpoints").meta == of_run(Path("checkpoints")).meta == GOOD
    monkeypatch.setattr(sizes, "FREE", 2**20)
    monkeypatch.setattr(ocp.CheckpointManager, "restore", None)  # nothing is read
    said = r"checkpoint 1 in .* cannot be used: its [\d,]+ bytes would become 4,000,004 in memory"
    with pytest.raises(CheckpointError, match=said):
        load(tmp_path / "checkpoints")
    sparse = tmp_path / "checkpoints" / "1" / "tree" / "sparse"
    sparse.touch()
    os.truncate(sparse, 2**40)  # a file of holes, as `check_run` refuses it
    with pytest.raises(CheckpointError, match=said):
        load(tmp_path / "checkpoints")
    with (tmp_path / "checkpoints" / "1" / "meta" / "metadata").open("ab") as file:
        file.truncate(sizes.TEXTS + 1)
    with pytest.raises(CheckpointError, match=r"cannot be used: metadata has 16,777,217 bytes, more than 16,777,216"):
        load(tmp_path / "checkpoints")


@pytest.mark.parametrize("name", META)
@pytest.mark.parametrize("new", [None, [[]], {"x": [1]}, 2**70], ids=["null", "list", "table", "huge"])
def test_what_a_run_keeps_is_of_its_type(name, new):
    assert check_meta(GOOD) is None
    said = check_meta(GOOD | {name: new}) or ""
    assert said.startswith(name) and ("must be" in said or "it lacks" in said)
    assert check_meta({k: v for k, v in GOOD.items() if k != name}) == f"it lacks {name}"


def test_metadata_without_versions_are_told(tmp_path):
    put(tmp_path, {k: v for k, v in GOOD.items() if k != "versions"})
    with pytest.raises(CheckpointError, match=r"checkpoint 1 in .* cannot be used: its metadata: it lacks versions"):
        of_run(tmp_path / "checkpoints")
    assert "too" in (check_meta(GOOD | {"totals": GOOD["totals"] | {"x": 1}}) or "")


@pytest.mark.parametrize(
    ("tree", "sealed", "said"),
    [
        ({"run": np.int32(1)}, None, "run: must be a table"),
        ({"plugins": {"a": {"b": np.int32(1)}}}, None, "it lacks run"),
        ({"run": RUN, "plugins": {"a": np.int32(1)}}, None, "plugins.a: must be a table"),
        (None, {"digest": [], "arrays": [], "meta": 1, "round": "x"}, "round: must be an integer, got 'x'"),
        (None, [1], "it has no digests"),
        (None, json.loads("[" * 900 + "]" * 900), "cannot be"),
    ],
    ids=["no table", "no run", "plugins", "sealed", "list", "deep"],
)
def test_parts_of_another_kind_are_told(tmp_path, tree, sealed, said):
    put(tmp_path, GOOD, tree, sealed or {"digest": "", "arrays": {}, "meta": {}, "round": 1})
    with pytest.raises(CheckpointError, match=said):
        load(tmp_path / "checkpoints")


def test_who_has_the_task_knows_how_large_its_state_is(tmp_path, monkeypatch):
    """A state of zeros may shrink to nothing on disk; what is much larger than the state may not be read."""
    put(tmp_path, GOOD)
    monkeypatch.setattr(sizes, "FREE", 0)
    monkeypatch.setattr(sizes, "BESIDE", 2**10)
    with pytest.raises(CheckpointError, match=r"bytes would become 4,000,004 in memory; no other"):
        of_run(tmp_path / "checkpoints")
    assert of_run(tmp_path / "checkpoints", 4_000_004).meta == GOOD
    said = r"would become 4,000,004 in memory, the state of this run has 3,000,000;"
    with pytest.raises(CheckpointError, match=said):
        of_run(tmp_path / "checkpoints", 3_000_000)


def test_a_state_is_measured_without_computing_it():
    made = evolver()
    bytes_ = sum(np.asarray(leaf).nbytes for leaf in leaves(made.init(0)).values())
    assert sizes.of_state(made.plan) == bytes_
    growing = Plan(
        made.plan.task,
        dataclasses.replace(made.plan.method, adapters=(*made.plan.method.adapters, ("grow", Grow()))),
        Layout(),
    )
    assert sizes.of_state(growing) is None


def test_records_of_more_rounds_than_the_files_can_hold_are_not_read(tmp_path):
    n = 1500
    put(
        tmp_path, GOOD, {"run": RUN, "history": {"round": np.zeros(n, np.int32), "alpha": np.zeros((n, 3), np.float32)}}
    )
    assert of_run(tmp_path / "checkpoints")
    n = 10**6
    put(tmp_path / "other", GOOD, {"run": RUN, "history": {"round": np.zeros(n, np.int32)}})
    with pytest.raises(CheckpointError, match=r"its [\d,]+ bytes cannot hold the records of 1,000,000 rounds"):
        of_run(tmp_path / "other" / "checkpoints")


def test_records_of_rounds_that_are_all_alike_are_read(tmp_path, monkeypatch):
    """Of a run whose candidates diverged long ago, say: each round has a row on disk, its records shrink to little."""
    n = 20_000
    alike = {"round": np.arange(n, dtype=np.int32), "scores": np.full((n, 50), np.nan, np.float32)}
    put(tmp_path, GOOD, {"run": RUN, "history": alike})
    monkeypatch.setattr(sizes, "FREE", 0)
    monkeypatch.setattr(sizes, "BESIDE", 0)
    with pytest.raises(CheckpointError, match=r"bytes cannot hold the records of 20,000 rounds"):
        of_run(tmp_path / "checkpoints", 4_000_004)
    (tmp_path / "rounds.jsonl").write_text("a row of so many bytes\n" * n)
    assert of_run(tmp_path / "checkpoints", 4_000_004)
