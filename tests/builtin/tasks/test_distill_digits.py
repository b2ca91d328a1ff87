"""The digits: splits that share nothing, a teacher that is no JAX model, and the example that runs."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import jax
import numpy as np
import pytest
from sklearn.datasets import load_digits
from sklearn.svm import SVC
from toys import evolver, sgd

from ev3x import config
from ev3x.builtin.assessors.mean_bounds import MeanBounds
from ev3x.builtin.assessors.paired import Paired
from ev3x.builtin.proposers.trajectories import Trajectories
from ev3x.builtin.tasks.distill_digits import DistillDigits
from ev3x.core.plan import Plan
from ev3x.run import session

EXAMPLE = Path(__file__).parents[3] / "examples" / "distill_digits.toml"
TASK = DistillDigits()


def test_splits_hold_every_scan_once():
    data = TASK.load(3)
    parts = [getattr(data.splits.check(), name).source for name in ("explore", "assess", "decide")] + [data.test]
    assert [p.size for p in parts] == [900, 300, 300, 297]
    mine = np.concatenate([p.tree["x"].reshape(p.size, 64) for p in parts]).tolist()
    theirs = (load_digits().data / 16).astype(np.float32).tolist()
    assert sorted(mine) == sorted(theirs)
    assert set(parts[0].tree) == {"x", "y", "teacher"} and all(set(p.tree) == {"x", "y"} for p in parts[1:])
    assert data.splits.decide.reuse and "read again" in data.about


def test_the_seed_alone_decides():
    assert TASK.load(3).fingerprint() == TASK.load(3).fingerprint() != TASK.load(4).fingerprint()


def test_the_teacher_is_a_support_vector_machine_that_saw_the_explore_scans_alone():
    data = TASK.load(0)
    tree, test = data.splits.explore.source.tree, data.test.tree
    teacher = SVC(C=10.0).fit(tree["x"].reshape(900, 64), tree["y"])
    np.testing.assert_allclose(tree["teacher"], teacher.decision_function(tree["x"].reshape(900, 64)), rtol=1e-5)
    right = (teacher.predict(test["x"].reshape(297, 64)) == test["y"]).mean()
    assert right > 0.97 and f"{right:.1%}" in data.about


def test_the_default_confirmation_says_what_to_set():
    setup = config.load(None, [config.Override.parse("task.use='distill-digits'")])
    with pytest.raises(
        ValueError, match=r"decide split has 300 .* reads up to 32768; .* lower confirm\.block or confirm\.bl"
    ):
        Plan(setup.task, setup.method).check(TASK.load(0).splits)


@pytest.mark.loose_types("flax mixes integers and floats")
def test_the_example_runs_and_says_when_scans_are_read_again(tmp_path):
    setup = config.load(EXAMPLE, [config.Override.parse("rounds=3")])
    kept = tuple((label, o) for label, o in setup.observers if label == "none")
    summary = session.run(dataclasses.replace(setup, observers=kept), tmp_path / "run")
    assert summary["rounds"] == 3 and summary["about"].startswith("scikit-learn's digits")
    assert summary["test"]["accuracy"] > summary["baseline"]["accuracy"] + 0.3
    rows = map(json.loads, (tmp_path / "run" / "rounds.jsonl").read_text().splitlines())
    assert [row["confirm"]["uses"] for row in rows] == [0, 1, 2]


@pytest.mark.loose_types("flax mixes integers and floats")
def test_a_residual_student_takes_part_in_rounds():
    task = DistillDigits(student="resnet", blocks=(1,), filters=2)
    trained = Trajectories(losses=["kl"], optimizers=[sgd()], length=5)
    run = evolver(trained, task=task, data=task.load(0).splits, select=MeanBounds(block=300), confirm=Paired(300, 1))
    state, record = run.round(run.init(0))
    assert set(state.model.current) == {"params", "batch_stats"} and np.isfinite(record.selection.mean).all()
    assert jax.tree.leaves(state.model.current["batch_stats"])[0].any()
