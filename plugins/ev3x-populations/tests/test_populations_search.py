"""From Python: a program per rung shape for objectives in JAX; any black box asks and tells; kills lose nothing."""

import collections
import signal
import subprocess
import sys
import time
from pathlib import Path

import jax
import numpy as np
import pytest
from ev3x_populations import DEHB, Asked, Categorical, Search, Space, When, minimize

from ev3x import Range

SPACE = Space([Range("x", 0, 1), Categorical("kind", ("a", "b")), When(Range("y", 0, 1), "kind", ("b",))])
DEHB_ = DEHB(SPACE, 1, 9)


def black_box(config, fidelity):
    """Numpy only; best at kind b, x = .3, y = .7; worse, and noisier in its scale, at a low fidelity."""
    y = (config["y"] - 0.7) ** 2 if config["kind"] == "b" else 0.5
    return np.float64((config["x"] - 0.3) ** 2 + y + 1 / fidelity)


def go(search, rungs):
    for _ in range(rungs):
        asked = search.ask()
        search.tell(asked, [black_box(config, asked.fidelity) for config in asked.configs])
    return search


def test_an_objective_in_jax_is_compiled_once_per_rung_shape():
    traces = collections.Counter()

    def objective(values, fidelity, key):
        traces[fidelity] += 1
        y = (values["y"] - 0.7) ** 2
        return (values["x"] - 0.3) ** 2 + y + 1 / fidelity + 0.01 * jax.random.normal(key)

    dehb = DEHB(Space([Range("x", 0, 1), Range("y", 0, 1)]), 1, 3)
    found = minimize(objective, dehb, jax.random.key(0), 1000)
    shapes = {(rung.n, rung.level) for rung in dehb.cycle}
    assert sum(traces.values()) == len(shapes) == 3, "vmap traces an objective once for each program"
    assert found.evaluations[-1] <= 1000 < found.evaluations[-1] + 3
    assert found.value < 0.35 and abs(found.config["x"] - 0.3) < 0.15 and abs(found.config["y"] - 0.7) < 0.15
    assert np.isinf(found.values[0]) and (np.diff(found.values[1:]) <= 0).all()
    again = minimize(objective, dehb, jax.random.key(0), 600)
    on = minimize(objective, dehb, jax.random.key(0), 1000 - int(again.evaluations[-1]), state=again.state)
    assert on.config == found.config and np.array_equal(on.values, found.values[len(again.values) :])
    assert sum(traces.values()) == 3 and on.evaluations[-1] == found.evaluations[-1]


def test_an_objective_that_gives_nothing_is_told():
    dehb = DEHB(Space([Range("x", 0, 1)]), 1, 1, population=4)
    with pytest.raises(ValueError, match="objective: none of 4 values was finite"):
        minimize(lambda values, fidelity, key: values["x"] * np.nan, dehb, jax.random.key(0), 4)
    with pytest.raises(ValueError, match=r"evaluations = 3: no finite value at full fidelity yet.* after 4"):
        minimize(lambda values, fidelity, key: values["x"], dehb, jax.random.key(0), 3)
    with pytest.raises(ValueError, match=r"objective: must return one number, got an array of shape \(2,\)"):
        minimize(lambda values, fidelity, key: jax.numpy.zeros(2), dehb, jax.random.key(0), 4)


def test_a_black_box_is_searched_and_a_saved_search_goes_on_to_the_same_bits(tmp_path):
    whole, killed = Search(DEHB_, seed=5), Search(DEHB_, seed=5)
    assert whole.best is None
    for rung in range(20):  # saved and loaded at every rung, asked and not told
        go(whole, 1)
        killed.ask()
        killed.save(tmp_path / "search.npz")
        killed = go(Search.load(DEHB_, tmp_path / "search.npz"), 1)
        for a, b in zip(jax.tree.leaves(whole.state), jax.tree.leaves(killed.state), strict=True):
            assert np.array_equal(a, b), f"rung {rung}"
    config, value = whole.best
    assert value < 0.4 and config["kind"] == "b" and set(config) == {"x", "kind", "y"}
    assert whole.evaluations == killed.evaluations == sum(DEHB_.rung(i).n for i in range(20))
    assert [*tmp_path.iterdir()] == [tmp_path / "search.npz"]
    with pytest.raises(ValueError, match=r"dehb: .* was saved with other settings"):
        Search.load(DEHB(SPACE, 1, 27), tmp_path / "search.npz")


def test_a_warm_start_tells_without_asking():
    search = Search(DEHB_, seed=1)
    known = [{"x": 0.31, "kind": "b", "y": 0.69}, {"x": 0.9, "kind": "a"}]
    search.tell(Asked(known, fidelity=9), [black_box(c, 9) for c in known])
    config, value = search.best
    assert config["x"] == pytest.approx(0.31) and value < 0.12 and search.evaluations == 0
    search.tell(Asked(known[:1], fidelity=1), [1.0])
    assert len(search.ask().configs) == 9, "the schedule begins as ever"
    assert go(search, 9).best[1] <= value


def test_what_does_not_fit_is_told():
    search = Search(DEHB_)
    asked = search.ask()
    with pytest.raises(ValueError, match="values must be 9 numbers, one for each trial"):
        search.tell(asked, [1.0])
    with pytest.raises(ValueError, match="values: all 9 are NaN or infinite, and no finite one was told before"):
        search.tell(asked, [np.nan] * 9)
    with pytest.raises(ValueError, match=r"fidelity must be one of \(1.0, 3.0, 9.0\), got 2"):
        search.tell(Asked([{"x": 0.1, "kind": "a"}], fidelity=2), [1.0])
    with pytest.raises(ValueError, match="configuration: unknown parameter 'z'"):
        search.tell(Asked([{"z": 0.1}], fidelity=1), [1.0])
    search.tell(asked, [1.0] * 8 + [np.nan])
    with pytest.raises(ValueError, match="asked: these trials are of another rung"):
        search.tell(asked, [1.0] * 9)


CHILD = """
import sys, time
sys.path.insert(0, sys.argv[2])
from pathlib import Path
from test_populations_search import DEHB_, Search, go
path = Path(sys.argv[1])
search = Search.load(DEHB_, path) if path.exists() else Search(DEHB_, seed=5)
while True:
    go(search, 1).save(path)
    print(int(search.state.step), flush=True)
    if search.state.step >= 400:
        break
"""


@pytest.mark.long
def test_a_killed_search_ends_in_the_same_bits(tmp_path):
    path, kills, rng = tmp_path / "search.npz", 0, np.random.default_rng(0)
    command = [sys.executable, "-c", CHILD, str(path), str(Path(__file__).parent)]
    while True:
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as child:
            steps = [int(child.stdout.readline())]
            if kills < 3:
                time.sleep(float(rng.uniform(0, 0.2)))
                child.send_signal(signal.SIGKILL)
                kills += 1
                continue
            steps += map(int, child.stdout)
        break
    assert child.returncode == 0 and steps[-1] == 400 and steps[0] > 1, "it went on from where it was killed"
    whole, found = go(Search(DEHB_, seed=5), 400), Search.load(DEHB_, path)
    assert all(
        np.array_equal(a, b) for a, b in zip(jax.tree.leaves(whole.state), jax.tree.leaves(found.state), strict=True)
    )
