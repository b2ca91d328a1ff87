"""The command line in a process of its own: what it imports, and a whole run, interrupted, resumed and exported."""

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from ev3x.cli import app

EV3X = [sys.executable, "-m", "ev3x.cli"]
# Little to compile: one loss, one optimizer, a simple confirmation.
SETS = ["propose.0.length=2", "propose.0.losses=['labels']", "task.hidden=[4]"]
SETS += ["propose.0.optimizers=[{name='sgd', learning_rate=0.1}]", "confirm=published"]
SETS += ["confirm.block=64", "select.block=64"]
SMALL = [part for text in SETS for part in ("--set", text)]


@pytest.mark.parametrize("args", [["--version"], ["plugins", "list"], ["--help"]])
def test_metadata_need_no_jax_and_no_plugin(args):
    code = f"""
import sys
from ev3x.cli import app
try:
    app({args})
except SystemExit as error:
    assert not error.code, error.code
heavy = {{"jax", "numpy", "optax", "flax", "matplotlib", "ev3x.builtin.plugin"}} & set(sys.modules)
assert not heavy, heavy
"""
    subprocess.run([sys.executable, "-W", "ignore", "-c", code], check=True, stdout=subprocess.DEVNULL)


def ev3x(*args, **options):
    return subprocess.run([*EV3X, *args], capture_output=True, text=True, timeout=300, **options)


def lines(path: Path) -> list[str]:
    return (path / "rounds.jsonl").read_text().splitlines() if (path / "rounds.jsonl").exists() else []


@pytest.mark.long
def test_a_run_is_interrupted_resumed_and_exported(teacher, tmp_path):  # a run that has to train it says so
    out = tmp_path / "run"
    start = [*EV3X, "run", "--out", str(out), "--rounds", "1000000", "--json", *SMALL]
    with subprocess.Popen(start, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        while not lines(out) and process.poll() is None:
            time.sleep(0.2)
        process.send_signal(signal.SIGINT)
        stdout, stderr = process.communicate(timeout=120)
    assert process.returncode == 130, stderr
    summary = json.loads(stdout)
    done = len(lines(out))
    assert summary["outcome"] == "interrupted" and summary["rounds"] == done > 0
    assert "warning" not in stderr.lower()
    assert {p.name for p in out.iterdir()} >= {"config.toml", "rounds.jsonl", "summary.json", "curve.png"}

    result = ev3x("resume", str(out), "--rounds", str(done + 3), "--json")
    assert result.returncode == 0, result.stderr
    assert json.loads(result.stdout)["rounds"] == len(lines(out)) == done + 3
    assert [json.loads(line)["round"] for line in lines(out)] == list(range(done + 3))

    result = ev3x("export", str(out))
    weights = np.load(result.stdout.strip(), allow_pickle=False)
    assert sorted(x.shape for x in weights.values()) == [(4,), (4, 10), (10,), (40, 4)]

    result = CliRunner().invoke(app, ["run", "--out", str(out)])
    assert result.exit_code == 2 and f"{out} is not empty: choose another --out" in result.stderr
