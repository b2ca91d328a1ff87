"""Sessions: how a run stops, goes on to the same bits, and keeps what it has when something fails."""

import dataclasses
import errno
import io
import itertools
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
import warnings
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from toys import Shift, Toy, Wide, Widening, examples, make, method, right, same, sgd, splits

import ev3x
from ev3x.builtin.adapters.grow import Grow
from ev3x.builtin.adapters.promote import Promote
from ev3x.builtin.adapters.shadow import Shadow
from ev3x.builtin.adapters.synergy import Synergy
from ev3x.builtin.assessors.paired import Paired
from ev3x.builtin.observers.progress import ShowProgress
from ev3x.builtin.proposers.trajectories import Trajectories
from ev3x.core.observe import Limits
from ev3x.ops import native
from ev3x.run import directory as directory_
from ev3x.run import identity, session
from ev3x.run.checkpoint import CheckpointError, load
from ev3x.run.identity import belongs
from ev3x.run.session import RunError, export, resume, run

PAIR = Trajectories(losses=["xent"], optimizers=[sgd(momentum=0.9)], length=4)
PROMOTE = Promote()
TEST = examples(99, 50)
RAISES: dict[str, Exception] = {}  # what the sources and metrics called so are to raise


def batch(i):
    return jax.tree.map(np.asarray, make(jax.random.fold_in(jax.random.key(11), i), 16))


def batches(offset, end=None, fail_at=None):
    def fresh():
        for i in itertools.count():
            if i == end:
                return
            if i == fail_at and "stream" in RAISES:
                raise RAISES["stream"]
            yield batch(offset + i)

    return fresh


class Counter:
    """An iterator that knows where it is."""

    def __init__(self, offset):
        self.i = offset

    def __iter__(self):
        return self

    def __next__(self):
        self.i += 1
        return batch(self.i - 1)

    def get_state(self):
        return {"i": self.i}

    def set_state(self, state):
        self.i = state["i"]


def feed(explore):
    decide = ev3x.Stream(batches(20_000), batches=16)
    return ev3x.Feed(ev3x.Stream(explore, batches=4), splits().assess, decide, batch_size=8, rounds=2)


def moody(logits, batch):
    """Not a number for a model that is sure of itself."""
    return jnp.where(jnp.abs(logits).max() > 50, jnp.nan, right(logits, batch).astype(jnp.float32))


def no_data():
    raise AssertionError("data were loaded")


LOADS = {
    "endless": splits,
    "other": lambda: splits(decide=ev3x.Decide(ev3x.Generated(jax.random.key(1), make))),
    "short": lambda: splits(decide=ev3x.Decide(examples(5, 64 * 6))),
    "again": lambda: splits(decide=ev3x.Decide(examples(5, 64 * 6), reuse=True)),
    "none": no_data,
    "functions": lambda: feed(batches(0)),
    "counter": lambda: feed(Counter(0)),
    "ends": lambda: feed(batches(0, end=10)),
    "fails": lambda: feed(batches(0, fail_at=10)),
}


@dataclasses.dataclass(frozen=True)
class Loaded(Toy):
    """A toy with data of a kind."""

    kind: str = "endless"

    def load(self, seed):
        return ev3x.Data(LOADS[self.kind](), TEST, f"toy, {self.kind}")


def setup(task=None, proposer=PAIR, rounds=6, observers=(), adapters=(PROMOTE,), save_every=0.0, **limits):
    labels = ("trajectories", "shift", "noting", "promote", "widen", "budget")
    return session.Setup(
        task_id="ev3:toy",
        task=task or Loaded(),
        method=method(proposer, adapters=adapters),
        layout=ev3x.Layout(),
        limits=Limits(rounds=rounds, **limits),
        seed=0,
        observers=tuple(observers),
        ids={label: f"ev3:{label}" for label in labels},
        save_every=save_every,
        config="rounds = 6\n",
    )


def on(kind, **options):
    return setup(Loaded(kind=kind), **options)


def last(directory):
    saved = load(directory / "checkpoints")
    assert saved is not None
    return saved


def bits(directory):
    """Where a run ended: everything in its last checkpoint, and its rows."""
    saved = last(directory)
    return saved.run, dict(saved.plugins), dict(saved.streams), dict(saved.records), saved.meta["totals"]["promotions"]


def assert_same_end(directory, whole):
    assert same(bits(directory), bits(whole))
    assert (directory / "rounds.jsonl").read_bytes() == (whole / "rounds.jsonl").read_bytes()


def strict(text):
    def refuse(name):
        raise AssertionError(f"{name} is no JSON")

    return json.loads(text, parse_constant=refuse)


def rows(directory):
    return [strict(line) for line in (directory / "rounds.jsonl").read_text().splitlines()]


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    return tmp_path_factory.mktemp("whole")


@pytest.fixture(scope="module")
def whole(place):
    """An undisturbed run of six rounds."""
    with jax.numpy_dtype_promotion("strict"):
        run(setup(), place / "run")
    return place / "run"


def test_the_promise_leaves_out_rounds_that_read_decide_examples_again(place):
    exact = method(PAIR, confirm=Paired(block=64, blocks=2), adapters=(PROMOTE,))
    for kind in ("short", "again"):
        run(dataclasses.replace(on(kind, rounds=3 if kind == "short" else 6), method=exact), place / kind)
    fresh, again = (strict((place / kind / "summary.json").read_text())["promise"] for kind in ("short", "again"))
    assert fresh == "over the whole run, the chance of any false promotion is at most 0.05"
    assert again == f"{fresh}; it does not hold for rounds that read decide examples again (`uses` in their records)"
    assert [r["confirm"]["uses"] for r in rows(place / "again")] == 3 * [0] + 3 * [1]


def test_a_run_leaves_its_config_rows_summary_and_checkpoints(whole):
    summary = strict((whole / "summary.json").read_text())
    wanted = (
        "task seed rounds promotions transitions gradient_steps seconds test baseline outcome reason promise versions"
    )
    assert set(wanted.split()) <= set(summary)
    assert {
        k: summary[k] for k in ("task", "seed", "rounds", "transitions", "gradient_steps", "outcome", "reason")
    } == {
        "task": "ev3:toy",
        "seed": 0,
        "rounds": 6,
        "transitions": {},
        "gradient_steps": 24,
        "outcome": "finished",
        "reason": "6 rounds",
    }
    assert summary["promotions"] == sum(r["promoted"] for r in rows(whole)) > 0
    assert summary["test"]["accuracy"] > summary["baseline"]["accuracy"]
    assert summary["examples"] == 6 * (64 + 128)
    assert [r["round"] for r in rows(whole)] == list(range(6))
    assert (whole / "config.toml").read_text() == "rounds = 6\n"
    assert not list(whole.glob("*.new"))


@pytest.fixture
def unbuilt(monkeypatch):
    """A process in which ev3x was installed without native code."""

    def load():
        raise native._NotBuilt("built without native code")

    monkeypatch.delenv("EV3X_NATIVE", raising=False)
    monkeypatch.setattr(native, "registry", native.Registry(load))
    for target in ("ev3x_score_moments", "ev3x_score_stats"):
        native.declare(target, lambda target: None)


@pytest.mark.parametrize("kind", ["endless", "functions"])
def test_where_native_code_is_required_and_missing_a_run_ends_before_its_first_round(kind, unbuilt, tmp_path):
    required = dataclasses.replace(on(kind), native="require", native_origin="my.toml:3")
    with pytest.raises(RunError) as error:
        run(required, tmp_path / "run")
    assert re.fullmatch(
        r"my\.toml:3: native = \"require\", but native code cannot be used for ('ev3x_score_\w+'(, )?)+: "
        "built without native code",
        str(error.value),
    )
    assert not (tmp_path / "run/rounds.jsonl").exists() or not rows(tmp_path / "run")


def test_what_the_environment_requires_is_said_without_a_line(unbuilt, monkeypatch):
    monkeypatch.setenv("EV3X_NATIVE", "require")
    other = setup(Loaded(measured=(ev3x.Metric("right", right),)))  # traced nowhere else
    with pytest.raises(RunError, match="EV3X_NATIVE=require, but native code cannot be used for 'ev3x_"):
        run(other, None)


def test_a_run_keeps_to_definitions_where_native_code_is_off(monkeypatch):
    monkeypatch.setattr(native, "registry", native.Registry(lambda: pytest.fail("loaded")))
    summary = run(dataclasses.replace(setup(rounds=1), native="off"), None)
    assert summary["rounds"] == 1


def test_a_run_needs_no_directory():
    summary = run(setup(rounds=2), None)
    assert summary["rounds"] == 2 and summary["directory"] is None


@pytest.mark.bits
@pytest.mark.parametrize("stops", [(2,), (1, 2, 5), (0,)])
def test_a_resumed_run_ends_in_the_same_bits(whole, tmp_path, stops):
    run(setup(rounds=stops[0]), tmp_path)
    for stop in (*stops[1:], 6):
        resume(setup(rounds=stop), tmp_path)
    assert_same_end(tmp_path, whole)
    assert strict((tmp_path / "summary.json").read_text())["examples"] == 6 * 192


@pytest.mark.parametrize(
    ("seconds", "capacity"), [(1e-9, 128), (1e6, 128), pytest.param(1e6, 3, marks=pytest.mark.long)]
)
def test_the_size_of_chunks_changes_nothing(whole, tmp_path, monkeypatch, seconds, capacity):
    monkeypatch.setattr(session, "CHUNK_SECONDS", seconds)
    monkeypatch.setattr(session, "CAPACITY", capacity)
    run(setup(), tmp_path)
    assert_same_end(tmp_path, whole)


def test_a_finished_run_that_is_resumed_runs_nothing_and_ends_well(whole, tmp_path):
    run(setup(rounds=3), tmp_path)
    before = bits(tmp_path), rows(tmp_path)
    for limit in (3, 2):
        summary = resume(setup(rounds=limit), tmp_path)
        assert (summary["outcome"], summary["reason"], summary["gradient_steps"]) == ("finished", "3 rounds", 12)
    assert same(bits(tmp_path), before[0]) and rows(tmp_path) == before[1]


def test_rows_that_are_ahead_of_the_checkpoint_are_cut_back(whole, tmp_path):
    run(setup(rounds=2), tmp_path)
    with (tmp_path / "rounds.jsonl").open("a") as file:
        file.write((whole / "rounds.jsonl").read_text().splitlines()[2] + '\n{"round": 3, "cand')
    resume(setup(), tmp_path)
    assert_same_end(tmp_path, whole)


def test_a_run_killed_before_its_first_checkpoint_starts_again(whole, tmp_path):
    (tmp_path / "config.toml").write_text("rounds = 6\n")
    with pytest.raises(RunError, match=r"ended before its first checkpoint: `ev3x resume .*` starts it again"):
        export(tmp_path)
    resume(setup(), tmp_path)
    assert_same_end(tmp_path, whole)


# How a run stops


def test_it_stops_at_a_number_of_gradient_steps():
    summary = run(setup(rounds=None, gradient_steps=9), None)
    assert (summary["rounds"], summary["gradient_steps"], summary["reason"]) == (3, 12, "12 gradient steps")


def test_it_stops_after_a_time():
    summary = run(setup(rounds=None, seconds=0.01), None)
    assert summary["rounds"] >= 1 and summary["outcome"] == "finished" and "seconds" in summary["reason"]


def test_it_stops_at_a_target_as_the_device_compares_it(whole, tmp_path):
    """The target is a double that float32 rounds down to the score: reached on the device, missed in double."""
    at, row = next((i, r) for i, r in enumerate(rows(whole)) if r["promoted"])
    target = float(np.nextafter(row["confirm"]["winner"]["mean"]["accuracy"], 1.0))
    summary = run(setup(rounds=None, target=target), tmp_path)
    assert (summary["rounds"], summary["outcome"]) == (at + 1, "finished")
    assert "the target of" in summary["reason"] and "was reached" in summary["reason"]
    assert resume(setup(rounds=None, target=target), tmp_path)["rounds"] == at + 1


def test_when_the_decide_split_is_spent_it_goes_on_and_says_so(tmp_path):
    summary = run(on("short"), tmp_path)
    assert (summary["rounds"], summary["outcome"]) == (6, "finished")
    told = rows(tmp_path)
    assert [r["verdict"] == "spent" for r in told] == 3 * [False] + 3 * [True]
    assert told[-1]["why"] == "nothing can be promoted: every decide example has taken part in a decision already"
    assert told[-1]["ledger"] == told[2]["ledger"] == summary["ledger"] and not told[-1]["promoted"]
    assert summary["holdout"] == {"read": 384, "size": 384, "uses": 1}


def test_in_the_shadow_a_run_changes_nothing_and_says_what_it_would_have_done(tmp_path):
    summary = run(setup(adapters=(Shadow(),)), tmp_path)
    would = sum(r["shadow"]["promoted"] for r in rows(tmp_path))
    assert (summary["promotions"], summary["in_shadow"]) == (0, would) and would > 0
    assert summary["test"] == summary["baseline"]


# What is refused


@pytest.mark.parametrize("where", ["/proc/ev3x", "file", "file/below"])
def test_an_unwritable_place_is_refused_before_anything_is_loaded(tmp_path, where):
    (tmp_path / "file").touch()
    with pytest.raises(RunError, match=r"cannot write to .*; choose another --out"):
        run(on("none"), tmp_path / where)


def test_a_directory_that_holds_something_is_refused_before_anything_is_loaded(tmp_path):
    (tmp_path / "thesis.tex").touch()
    (tmp_path / ".lock").touch()
    with pytest.raises(RunError, match="is not empty: choose another --out, or `ev3x resume"):
        run(on("none"), tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == [".lock", "thesis.tex"]
    (tmp_path / "thesis.tex").unlink()
    assert run(setup(rounds=1), tmp_path)["rounds"] == 1


def test_a_run_that_cannot_begin_leaves_the_directory_free(tmp_path):
    def wrong(predictions, batch):
        return predictions[:3]

    for task, text in (
        (Loaded(kind="none"), "data were loaded"),
        (Loaded(measured=(ev3x.Metric("wrong", wrong),)), "metric 'wrong' must return one value per example"),
    ):
        with pytest.raises(Exception, match=text):
            run(setup(task), tmp_path / "run")
        assert not list((tmp_path / "run").iterdir())


def test_a_run_in_use_by_another_process_is_refused(tmp_path):
    run(setup(rounds=1), tmp_path)
    code = "import fcntl, sys; f = open(sys.argv[1], 'a'); fcntl.lockf(f, fcntl.LOCK_EX); print('held', flush=True)"
    other = subprocess.Popen(
        [sys.executable, "-c", f"{code}; input()", tmp_path / ".lock"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    with other:
        assert other.stdout.readline() == b"held\n"
        with pytest.raises(RunError, match="is in use by another process"):
            resume(on("none"), tmp_path)
    assert resume(setup(rounds=2), tmp_path)["rounds"] == 2


@pytest.mark.parametrize("do", [export, lambda path: resume(on("none"), path)])
def test_a_directory_that_is_no_run_is_refused(tmp_path, do):
    for path in (tmp_path, tmp_path / "absent"):
        with pytest.raises(RunError, match=r"is no run directory: it has no config\.toml"):
            do(path)


def test_changed_data_are_refused(tmp_path):
    run(setup(rounds=1), tmp_path)
    with pytest.raises(RunError, match="the data of this run have changed since it was saved"):
        resume(on("other"), tmp_path)
    assert len(rows(tmp_path)) == 1


def test_another_configuration_is_refused_in_words(tmp_path):
    run(setup(rounds=1), tmp_path)
    other = dataclasses.replace(PAIR, optimizers=[sgd(momentum=0.9), sgd()])
    with pytest.raises(CheckpointError, match=r"does not fit this configuration: .*(is missing|must be)"):
        resume(setup(proposer=other), tmp_path)


CONFIG = """rounds = 3
seed = 0
[confirm]
use = "ev3:betting"
level = 0.05
[[propose]]
length = 4
[[observe]]
use = "ev3:curve"
"""


def configured(*edits, **options):
    text = CONFIG
    for old, new in edits:
        assert old in text
        text = text.replace(old, new)
    return dataclasses.replace(setup(**options), config=text)


@pytest.fixture(scope="module")
def one(tmp_path_factory):
    """A run of one round with a config."""
    directory = tmp_path_factory.mktemp("one") / "run"
    with jax.numpy_dtype_promotion("strict"):
        run(configured(rounds=1), directory)
    return directory


@pytest.mark.parametrize(
    ("edit", "text"),
    [
        (("level = 0.05", "level = 0.1"), "confirm.level was 0.05, is 0.1"),
        (("length = 4", "length = 8"), "propose[0].length was 4, is 8"),
        (("level = 0.05", "level = 0.05\nundecided = 'take'"), 'confirm.undecided was (not there), is "take"'),
        (("level = 0.05\n", ""), "confirm.level was 0.05, is (not there)"),
    ],
)
def test_a_config_that_makes_another_run_is_refused_and_the_files_stay(one, edit, text):
    files = {path: path.read_bytes() for path in one.rglob("*") if path.is_file()}
    with pytest.raises(RunError) as caught:
        resume(configured(edit, rounds=2), one)
    assert str(caught.value) == (
        f"{one}: its checkpoint is of another run, or its config.toml was edited: {text}; "
        "results of two runs are not mixed: put back what was, or begin a new run"
    )
    assert files == {path: path.read_bytes() for path in one.rglob("*") if path.is_file()}


def test_checkpoints_of_another_run_are_refused(one):
    with pytest.raises(RunError, match=r"is of another run, .*: seed was 0, is 1; results"):
        resume(dataclasses.replace(configured(), seed=1), one)
    with pytest.raises(RunError, match=r'is of another run, .*: task was "ev3:toy", is "ev3:other"; results'):
        resume(dataclasses.replace(configured(), task_id="ev3:other"), one)


def test_after_a_checkpoint_of_another_run_the_last_one_of_this_run_is_told(one, tmp_path):
    """What is told works, twice: the folder that damaged ones are put in may be there."""
    shutil.copytree(one, tmp_path / "run")
    checkpoints = tmp_path / "run/checkpoints"
    other = configured(("level = 0.05", "level = 0.1"), rounds=2)
    run(other, tmp_path / "other")
    for n in (1, 2):
        shutil.copytree(tmp_path / "other/checkpoints/2", checkpoints / "2")
        with pytest.raises(
            RunError, match=r"level was 0\.1, is 0\.05; results .* mixed: checkpoint 1 is sound"
        ) as caught:
            resume(configured(rounds=2), tmp_path / "run")
        subprocess.run(["sh", "-c", str(caught.value).split("`")[1]], check=True)
        assert len(list(checkpoints.glob("damaged*/2"))) == n
        assert belongs(last(tmp_path / "run").meta, configured(), tmp_path / "run") is None


def test_weights_that_the_run_did_not_end_with_are_exported_with_a_warning(one, tmp_path):
    shutil.copytree(one, tmp_path / "run")
    with warnings.catch_warnings(action="error"):
        export(tmp_path / "run")
    shutil.rmtree(tmp_path / "run/checkpoints/1")
    with pytest.warns(
        UserWarning, match=r"checkpoints/1/.* is not what it was .* \(nor are \d+ others\): `ev3x verify "
    ):
        export(tmp_path / "run")


@pytest.mark.parametrize("text", ["a." * 100_000 + "a = 1", "k = [" + "[" * 3000, "k = 1\n" * 200_000, "\x00", "x = 1"])
def test_what_a_checkpoint_says_of_its_config_is_looked_at_before_it_is_parsed(one, text, monkeypatch):
    then = last(one).meta | {"config": text}
    monkeypatch.setattr(identity, "way_back", lambda *_: None)
    began = time.process_time()
    with pytest.raises(RunError, match=r"its checkpoint is of another run"):
        belongs(then, configured(), one)
    assert identity.edited(then, configured().config) and time.process_time() - began < 5


def test_what_may_be_changed_is_recorded_for_good(one, tmp_path):
    shutil.copytree(one, tmp_path / "run")
    longer = ("rounds = 3", "rounds = 2"), ("ev3:curve", "ev3:lineage")
    summary = resume(configured(*longer, rounds=2), tmp_path / "run")
    expected = ["before round 1: rounds 3 -> 2", 'before round 1: observe[0].use "ev3:curve" -> "ev3:lineage"']
    assert summary["changes"] == expected and last(tmp_path / "run").meta["changes"] == expected
    assert resume(configured(*longer, rounds=2), tmp_path / "run")["changes"] == expected


def test_an_option_that_came_with_another_version_is_recorded_and_not_refused(one, tmp_path, monkeypatch):
    shutil.copytree(one, tmp_path / "run")
    monkeypatch.setattr(identity, "versions", lambda: {"ev3x": "9.9"})
    newer = ("level = 0.05", "level = 0.05\nnew = 1")
    with pytest.warns(UserWarning, match="resumed with other versions"):
        changes = resume(configured(newer, rounds=1), tmp_path / "run")["changes"]
    assert changes[0] == "before round 1: confirm.new (not there) -> 1" and "before round 1: ev3x" in changes[1]
    with pytest.raises(RunError, match=r"confirm\.level was 0\.05, is 0\.1; results"):
        resume(configured(("level = 0.05", "level = 0.1"), rounds=1), tmp_path / "run")


def test_weights_of_another_run_are_not_exported(one, tmp_path):
    shutil.copytree(one, tmp_path / "run")
    config = tmp_path / "run/config.toml"
    config.write_text(CONFIG.replace("rounds = 3", "rounds = 9"))
    assert export(tmp_path / "run").exists()
    config.write_text(CONFIG.replace("level = 0.05", "level = 0.1"))
    with pytest.raises(
        RunError, match=r"is of another run, or its config\.toml was edited: confirm\.level was 0\.05, is 0\.1$"
    ):
        export(tmp_path / "run")
    config.write_text("rounds = [")
    with pytest.raises(RunError, match=r"its config\.toml was edited: \(no config\) was"):
        export(tmp_path / "run")


def test_a_run_that_goes_on_without_native_code_is_told_so(tmp_path, monkeypatch):
    monkeypatch.delenv("EV3X_NATIVE", raising=False)
    summary = run(setup(rounds=1), tmp_path)
    then = summary["versions"]["native"]
    with pytest.warns(UserWarning, match=re.escape(f"bits may differ: native {then} -> off")):
        resume(dataclasses.replace(setup(rounds=2), native="off"), tmp_path)


def test_other_versions_are_told(tmp_path, monkeypatch):
    run(setup(rounds=1), tmp_path)
    monkeypatch.setattr(identity, "versions", lambda: {"jax": "9.9"})
    with pytest.warns(UserWarning, match=r"resumed with other versions, bits may differ: jax .* -> 9\.9"):
        resume(setup(rounds=1), tmp_path)


# Interruptions


@dataclasses.dataclass(frozen=True)
class Chunks(ev3x.Observer):
    """Says so on stdout when a chunk has ended."""

    def rounds(self, handle, rows, progress):
        print(progress.rounds, flush=True)


MANY = 60


def work(directory):
    """Run in small chunks until something ends it, and print the summary (in a process of its own)."""
    session.CHUNK_SECONDS = 1e-9
    print(json.dumps(run(setup(rounds=MANY, observers=[("chunks", Chunks())]), Path(directory))))


@pytest.fixture(scope="module")
def long(place):
    """An undisturbed run of many rounds."""
    with jax.numpy_dtype_promotion("strict"):
        run(setup(rounds=MANY), place / "long")
    return place / "long"


def interrupted(directory, number, after):
    """A run in a process of its own that got a signal after so many chunks: its exit code and last line."""
    code = "import sys, test_session; test_session.work(sys.argv[1])"
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    with subprocess.Popen([sys.executable, "-c", code, directory], stdout=subprocess.PIPE, env=env, text=True) as child:
        for _ in range(after):
            child.stdout.readline()
        child.send_signal(number)
        rest = child.stdout.read().splitlines()
    return child.returncode, rest[-1] if rest else ""


@pytest.mark.long
def test_ctrl_c_ends_the_chunk_and_the_run_can_go_on(long, tmp_path):
    code, last = interrupted(tmp_path, signal.SIGINT, after=3)
    summary = strict(last)
    assert code == 0 and summary["outcome"] == "interrupted" and 3 <= summary["rounds"] < MANY
    assert summary["reason"] == f"interrupted; {summary['rounds']} rounds are kept, `ev3x resume {tmp_path}` goes on"
    assert summary == strict((tmp_path / "summary.json").read_text()) and len(rows(tmp_path)) == summary["rounds"]
    resume(setup(rounds=MANY), tmp_path)
    assert_same_end(tmp_path, long)


@pytest.mark.bits
@pytest.mark.long
@pytest.mark.parametrize("after", [4, 15])
def test_a_killed_run_resumes_to_the_same_bits(long, tmp_path, after):
    """The long version is benchmarks/attack_kills.py."""
    assert interrupted(tmp_path, signal.SIGKILL, after)[0] == -signal.SIGKILL
    assert int(last(tmp_path).run["round"]) < MANY
    resume(setup(rounds=MANY), tmp_path)
    assert_same_end(tmp_path, long)


@pytest.mark.parametrize(("module", "name"), [(session, "rows"), (ev3x.Evolver, "_call"), (session, "_strong")])
@pytest.mark.parametrize(
    "kind", ["functions", *(pytest.param(k, marks=pytest.mark.long) for k in ("endless", "counter"))]
)
def test_a_second_ctrl_c_at_any_moment_saves_nothing_half(whole, streamed, tmp_path, monkeypatch, module, name, kind):
    """Neither a state without its records, nor a stream that is ahead of what was trained on it."""
    original, calls = getattr(module, name), itertools.count()

    def stop(*args, **options):
        if next(calls) == 2:
            raise KeyboardInterrupt
        return original(*args, **options)

    monkeypatch.setattr(session, "CHUNK_SECONDS", 1e-9)
    with monkeypatch.context() as patched:
        patched.setattr(module, name, stop)
        with pytest.raises(KeyboardInterrupt):
            run(on(kind, save_every=1e9), tmp_path)
    assert 0 < len(rows(tmp_path)) < 6
    resume(on(kind), tmp_path)
    assert_same_end(tmp_path, whole if kind == "endless" else streamed[kind])


# Observers


@dataclasses.dataclass(frozen=True)
class Failing(Chunks):
    """Fails at each chunk, or by leaving the process."""

    exits: bool = False

    def rounds(self, handle, rows, progress):
        if self.exits:
            sys.exit("bye")
        raise ValueError("no screen")


@pytest.mark.parametrize(
    ("observer", "text"), [(Failing(), "ValueError: no screen"), (Failing(True), r"it called sys.exit\('bye'\)")]
)
def test_an_observer_that_fails_is_counted_and_left_out_after_three_times(whole, tmp_path, monkeypatch, observer, text):
    monkeypatch.setattr(session, "CHUNK_SECONDS", 1e-9)
    with pytest.warns(UserWarning, match=f"observer 'screen' failed: {text}") as told:
        summary = run(setup(observers=[("screen", observer)]), tmp_path)
    assert summary["observer_faults"] == {"screen": 3} and summary["outcome"] == "finished"
    assert [("left out" in str(w.message)) for w in told] == [False, False, True]
    assert_same_end(tmp_path, whole)


@dataclasses.dataclass(frozen=True)
class FailingAtTheEnd(ev3x.Observer):
    """Fails when the summary is written already."""

    def end(self, handle, summary):
        raise OSError(28, "No space left on device")


def test_the_summary_tells_of_observers_that_fail_at_the_end(tmp_path):
    with pytest.warns(UserWarning, match="observer 'picture' failed: OSError.*No space left"):
        summary = run(setup(rounds=1, observers=[("picture", FailingAtTheEnd())]), tmp_path)
    assert summary["observer_faults"] == {"picture": 1} and summary["outcome"] == "finished"
    assert strict((tmp_path / "summary.json").read_text(encoding="utf-8")) == summary


@dataclasses.dataclass(frozen=True)
class Careless(ev3x.Observer):
    """Changes all that it gets, and the working directory."""

    def rounds(self, handle, rows, progress):
        assert len(rows) == 1 and rows[0]["candidates"]
        rows[0].clear()
        os.chdir("/")

    def end(self, handle, summary):
        assert summary["rounds"] == 2
        summary.clear()


def test_what_an_observer_does_to_its_own_harms_neither_the_run_nor_another(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(session, "CHUNK_SECONDS", 1e-9)
    both = [("one", Careless()), ("two", Careless())]
    summary = run(setup(rounds=2, observers=both), Path("here"))
    assert summary["observer_faults"] == {} and Path.cwd() == tmp_path
    assert strict(Path("here/summary.json").read_text(encoding="utf-8")) == summary
    assert len(Path("here/rounds.jsonl").read_text(encoding="utf-8").splitlines()) == 2


class Unread(io.StringIO):
    """A screen that nobody looks at any more."""

    def write(self, text):
        raise BrokenPipeError(errno.EPIPE, "Broken pipe")


def test_a_screen_that_breaks_is_a_fault_of_the_observer_and_not_of_the_run(whole, tmp_path, monkeypatch):
    monkeypatch.setattr(session, "CHUNK_SECONDS", 1e-9)
    monkeypatch.setattr(sys, "stderr", Unread())
    with pytest.warns(UserWarning, match="observer 'progress' failed: BrokenPipeError.*Broken pipe"):
        summary = run(setup(observers=[("progress", ShowProgress(every=0.0))]), tmp_path)
    assert summary["outcome"] == "finished" and summary["observer_faults"]["progress"] >= 3
    assert strict((tmp_path / "summary.json").read_text(encoding="utf-8")) == summary
    assert_same_end(tmp_path, whole)


# A disk that is full


@dataclasses.dataclass(frozen=True)
class Spoiling(ev3x.Observer):
    """After two rounds, spoils the place where this is written."""

    what: str = ""

    def start(self, run, rows):
        return run.directory

    def rounds(self, handle, rows, progress):
        if progress.rounds == 2:
            (handle / self.what).rename(handle / "away")
            (handle / self.what).symlink_to("/dev/full")


@pytest.mark.parametrize(
    ("what", "error", "text"),
    [
        (
            "rounds.jsonl",
            RunError,
            "cannot write {}/rounds.jsonl: No space left on device; 3 rounds are kept, {} goes on",
        ),
        (
            "checkpoints",
            CheckpointError,
            "checkpoint 2 .* {}/checkpoints: .*; earlier ones are kept: {} goes on after 1 round",
        ),
    ],
)
def test_a_full_disk_ends_the_run_and_says_what_is_kept(whole, tmp_path, monkeypatch, what, error, text):
    monkeypatch.setattr(session, "CHUNK_SECONDS", 1e-9)
    monkeypatch.setattr(directory_, "_OURS", 0)  # the link stands for a file of the run itself
    with pytest.raises(error, match=text.format(tmp_path, f"`ev3x resume {tmp_path}`") + "$") as caught:
        run(setup(observers=[("spoiling", Spoiling(what))]), tmp_path)
    assert "\n" not in str(caught.value)
    (tmp_path / what).unlink()
    (tmp_path / "away").rename(tmp_path / what)
    resume(setup(), tmp_path)
    assert_same_end(tmp_path, whole)


# What fails while it runs


def raising(predictions, batch):
    if "metric" in RAISES and len(batch["y"]) == 64:  # not on the test set
        raise RAISES["metric"]
    return (predictions > 0) == batch["y"]


HOST = Loaded(measured=(ev3x.Metric("plain", raising, binary=True, host=True),))


def test_a_metric_that_raises_on_the_host_keeps_what_was_trained(tmp_path, monkeypatch):
    run(setup(HOST, rounds=4), tmp_path / "whole")
    run(setup(HOST, rounds=2), tmp_path / "run")
    monkeypatch.setitem(RAISES, "metric", ValueError("no such class"))
    text = (
        r"metric 'plain' of the task Loaded: a callback raised ValueError: no such class \(.*in raising\); "
        r"2 rounds are kept, `ev3x resume .*` goes on"
    )
    with pytest.raises(RunError, match=text):
        resume(setup(HOST, rounds=4), tmp_path / "run")
    assert int(last(tmp_path / "run").run["round"]) == 2
    monkeypatch.delitem(RAISES, "metric")
    resume(setup(HOST, rounds=4), tmp_path / "run")
    assert_same_end(tmp_path / "run", tmp_path / "whole")


def test_a_candidate_that_is_not_finite_loses_and_the_record_says_so(tmp_path):
    proposer = Trajectories(losses=["xent", "broken"], optimizers=[sgd()], length=2)
    run(setup(proposer=proposer, rounds=2), tmp_path)
    for row in rows(tmp_path):
        good, bad = row["candidates"]
        assert good["eligible"] and not bad["eligible"] and row["winner"] == good["name"]
        assert row["why"].endswith(f"; not finite: {bad['name']}") and bad["barred"] == "not finite"
        assert "barred" not in good


@dataclasses.dataclass(frozen=True)
class Noting(Shift):
    """Notes a vector with a NaN for each candidate."""

    def propose(self, site, key, current, state, explore):
        made = super().propose(site, key, current, state, explore)
        return dataclasses.replace(made, notes={"vector": jnp.array([[1.0, jnp.nan]]), "flag": jnp.array([True])})


def test_rows_are_plain_numbers_even_when_nobody_can_win(tmp_path):
    with pytest.warns(
        UserWarning, match="proposer 'noting': in the only round none of its candidates could win: of 1, 1"
    ):
        run(setup(proposer=Noting(("nan",)), rounds=1), tmp_path)
    (row,) = rows(tmp_path)
    assert row["winner"] is None and row["why"] == "no candidate could win: not finite: noting/+nan"
    assert row["candidates"][0]["value"] is None
    assert row["candidates"][0]["notes"] == {"vector": [1.0, None], "flag": 1.0}


@dataclasses.dataclass(frozen=True)
class Waiting(Shift):
    """A population between two rungs: nobody may win."""

    idles = True


def test_who_never_could_win_is_told_with_the_reason_and_counted(tmp_path, monkeypatch):
    sick, shy, wise = Shift(("nan", "inf")), Shift((0.0,), (False,)), Waiting((0.0,), (False,))
    task = Loaded(measured=(ev3x.Metric("moody", moody),))
    parts = [("sick", sick), ("shy", shy), ("wise", wise), ("far", Shift((1000.0,))), ("good", Shift((0.1,)))]
    four = dataclasses.replace(setup(task, rounds=7), method=method(*parts, adapters=(PROMOTE,)))
    monkeypatch.setattr(session, "CHUNK_SECONDS", 1e-9)
    with pytest.warns(UserWarning, match="none of its candidates could win") as told:
        run(four, tmp_path)
    said = [str(w.message).partition(": in 5 rounds in a row none of its candidates could win: of ") for w in told]
    assert [(who, "; ".join(part.partition(" (")[0] for part in why.split("; "))) for who, _, why in said] == [
        ("proposer 'sick'", "10, 10 with NaN or infinity"),
        ("proposer 'shy'", "5, 5 not `eligible` by its own word"),
        ("proposer 'far'", "5, 5 without a finite score"),
    ]
    summary = strict((tmp_path / "summary.json").read_text())
    assert summary["proposers"] == {
        "sick": {"candidates": 14, "rounds_without": 7, "not_finite": 14},
        "shy": {"candidates": 7, "rounds_without": 7, "not_eligible": 7},
        "wise": {"candidates": 7, "rounds_without": 7, "idle": 7},
        "far": {"candidates": 7, "rounds_without": 7, "no_finite_score": 7},
        "good": {"candidates": 7, "rounds_without": 0},
    }
    assert rows(tmp_path)[0]["why"].endswith(
        "; not finite: sick/+nan, sick/+inf; not eligible: shy/+0; idle: wise/+0; no finite score: far/+1000"
    )


# Streams


@pytest.fixture(scope="module")
def streamed(place):
    """Undisturbed runs of six rounds on streams of each kind."""
    with jax.numpy_dtype_promotion("strict"):
        for kind in ("functions", "counter"):
            run(on(kind), place / kind)
    return {kind: place / kind for kind in ("functions", "counter")}


@pytest.mark.bits
@pytest.mark.parametrize("kind", ["functions", "counter"])
def test_a_run_on_streams_resumes_to_the_same_bits(streamed, tmp_path, kind):
    assert run(on(kind, rounds=2), tmp_path)["rounds"] == 2
    resume(on(kind), tmp_path)
    assert_same_end(tmp_path, streamed[kind])


def test_a_stream_that_ends_stops_the_run(tmp_path):
    for begin in (run, resume):
        summary = begin(on("ends"), tmp_path)
        assert (summary["rounds"], summary["outcome"]) == (4, "stopped")
        assert summary["reason"] == "the explore stream ended after 10 batches"


def test_a_stream_that_raises_keeps_what_was_trained(streamed, tmp_path, monkeypatch):
    monkeypatch.setitem(RAISES, "stream", OSError("the disk is gone"))
    with pytest.raises(RunError, match=r"explore stream raised.*the disk is gone.*; 4 rounds are kept, `ev3x resume"):
        run(on("fails"), tmp_path)
    assert len(rows(tmp_path)) == 4
    monkeypatch.delitem(RAISES, "stream")
    resume(on("fails"), tmp_path)
    assert_same_end(tmp_path, streamed["functions"])


def test_a_stream_too_short_to_go_on_is_told(tmp_path, monkeypatch):
    run(on("functions", rounds=4), tmp_path)
    monkeypatch.setitem(LOADS, "functions", lambda: feed(batches(0, end=5)))
    with pytest.raises(RunError, match="cannot go on: the explore stream ended after 5 batches; the run had read 8"):
        resume(on("functions"), tmp_path)
    assert len(rows(tmp_path)) == 4


# Growth, types and weights


@dataclasses.dataclass(frozen=True)
class LoadedWide(Wide, Loaded):
    """A wide toy with data of its own."""


@dataclasses.dataclass(frozen=True)
class Widen(ev3x.Adapter):
    """Calls the host after every second round; the model becomes twice as wide, the new part random."""

    def init(self, site, metrics):
        return jnp.int32(0)

    def decide(self, index, state, decision, selection, confirmation):
        call = jnp.where(state % 2 == 1, 1, 0)
        return dataclasses.replace(decision, calls=decision.calls.at[index].set(call)), state + 1

    def transform(self, key, call, state, form, probe):
        def pad(x):
            return jnp.concatenate([x, 0.01 * jax.random.normal(key, x.shape)])

        wider = {name: jax.tree.map(pad, getattr(form.model, name)) for name in ("current", "incumbent")}
        task = dataclasses.replace(form.task, width=2 * form.task.width)
        return state, dataclasses.replace(form, task=task, model=dataclasses.replace(form.model, **wider))


@pytest.mark.long
@pytest.mark.bits
def test_a_run_that_grows_resumes_to_the_same_bits(tmp_path):
    def growing(rounds):
        return setup(LoadedWide(), rounds=rounds, adapters=(Promote(), Widen()))

    summary = run(growing(4), tmp_path / "whole")
    assert summary["transitions"] == {"transition": 2}
    assert [r["calls"] for r in rows(tmp_path / "whole")] == [{}, {"widen": "transition"}] * 2
    for at in (2, 3):
        run(growing(at), tmp_path / str(at))
        resume(growing(4), tmp_path / str(at))
        assert_same_end(tmp_path / str(at), tmp_path / "whole")
    with np.load(export(tmp_path / "whole"), allow_pickle=False) as weights:
        assert weights["params/w"].shape == (4, 2)


@dataclasses.dataclass(frozen=True)
class LoadedGrowing(Widening, Loaded):
    """A toy that grows, with data of its own."""


@pytest.mark.long
def test_a_model_on_trial_resumes_in_both_shapes_and_the_incumbents_is_exported(tmp_path):
    still = ("shift", Shift((0.0,)))  # never better than the incumbent: grown after two rounds, undone after four

    def on_trial(rounds):
        adapters = (PROMOTE, ("grow", Grow(patience=2)))
        return dataclasses.replace(
            setup(LoadedGrowing(), still, rounds=rounds, adapters=adapters),
            ids={"shift": "ev3:shift", "promote": "ev3:promote", "grow": "ev3:grow", "budget": "ev3:budget"},
        )

    summary = run(on_trial(7), tmp_path / "whole")
    assert summary["transitions"] == {"grow": 2, "undo": 1}
    calls = [{}, {"grow": "grow"}, {}, {"grow": "undo"}, {}, {"grow": "grow"}, {}]
    assert [r["calls"] for r in rows(tmp_path / "whole")] == calls
    for at in (2, 3, 4, 5):
        run(on_trial(at), tmp_path / str(at))
        resume(on_trial(7), tmp_path / str(at))
        assert_same_end(tmp_path / str(at), tmp_path / "whole")
    with np.load(export(tmp_path / "whole"), allow_pickle=False) as weights:
        assert weights["params/w"].shape == (1, 2)
    assert summary["test"] == summary["baseline"]


@pytest.mark.long
def test_passes_resume_with_their_archive_and_the_summary_reports_it(tmp_path):
    def passing(rounds):
        adapters = (PROMOTE, ("synergy", Synergy(patience=1, passes=2, most=1)))
        return dataclasses.replace(
            setup(LoadedGrowing(), ("shift", Shift((0.0,))), rounds=rounds, adapters=adapters),
            ids={"shift": "ev3:shift", "promote": "ev3:promote", "synergy": "ev3:synergy", "budget": "ev3:budget"},
        )

    summary = run(passing(10), tmp_path / "whole")
    assert summary["transitions"]["pass"] == 1 and summary["transitions"]["done"] == 1
    assert {name: model["parameters"] for name, model in summary["kept"].items()} == {
        "synergy/size 1": 3,
        "synergy/size 2": 6,
    }
    calls = [next(iter(r["calls"].values()), "") for r in rows(tmp_path / "whole")]
    for at in (calls.index("grow") + 1, calls.index("pass") + 1, calls.index("done") + 1):
        run(passing(at), tmp_path / str(at))
        resume(passing(10), tmp_path / str(at))
        assert_same_end(tmp_path / str(at), tmp_path / "whole")


@dataclasses.dataclass(frozen=True)
class LoadedWrong(LoadedGrowing):
    """A wide toy whose growth changes what it predicts."""

    def grow(self, how, key, variables):
        wider = jax.tree.map(lambda x: jnp.concatenate([x, x + 1]), variables)
        return dataclasses.replace(self, width=2 * self.width), wider


def test_a_growth_that_changes_predictions_ends_the_run_in_words(tmp_path):
    adapters = (PROMOTE, ("grow", Grow(patience=2)))
    wrong = setup(LoadedWrong(), ("shift", Shift((0.0,))), rounds=7, adapters=adapters)
    ids = {"shift": "ev3:shift", "promote": "ev3:promote", "grow": "ev3:grow", "budget": "ev3:budget"}
    with pytest.raises(RunError, match=r"grow: 'widen' of LoadedWrong is no morphism.*\(\d rounds are kept, "):
        run(dataclasses.replace(wrong, ids=ids), tmp_path / "run")


@dataclasses.dataclass(frozen=True)
class Half(Loaded):
    """A toy in bfloat16 with a weakly typed constant: times bfloat16 it stays bfloat16, else it becomes float32."""

    def init(self, key):
        params = {"w": jax.random.normal(key, (2,), jnp.bfloat16), "b": jnp.float32(0.1)}
        return {"params": params, "constants": {"scale": jnp.array(1.1)}}

    def predict(self, variables, batch):
        p = variables["params"]
        return (batch["x"].astype(jnp.bfloat16) @ p["w"]) * variables["constants"]["scale"] + p["b"]


@pytest.mark.long
@pytest.mark.bits
@pytest.mark.loose_types("bfloat16 and float32 are mixed on purpose")
def test_bfloat16_and_weak_types_resume_to_the_same_bits_and_numpy_reads_the_weights(tmp_path):
    run(setup(Half(), rounds=4), tmp_path / "whole")
    run(setup(Half(), rounds=2), tmp_path / "run")
    resume(setup(Half(), rounds=4), tmp_path / "run")
    assert_same_end(tmp_path / "run", tmp_path / "whole")
    to = export(tmp_path / "run", tmp_path / "w.npz")
    with np.load(to, allow_pickle=False) as weights:
        assert {name: x.dtype.name for name, x in weights.items()} == dict.fromkeys(
            ("params/b", "params/w", "constants/scale"), "float32"
        )
        incumbent = last(tmp_path / "run").run["model/incumbent/params/w"]
        assert weights["params/w"].tolist() == incumbent.astype(np.float32).tolist()


def test_exported_weights_are_the_incumbents(whole, tmp_path):
    path = export(whole)
    assert path == whole / "weights.npz"
    with np.load(path, allow_pickle=False) as weights:
        found = {name: weights[name] for name in weights.files}
    path.unlink()
    saved = last(whole).run
    assert set(found) == {"params/b", "params/w"}
    for name, value in found.items():
        assert value.dtype == np.float32 and np.array_equal(value, saved[f"model/incumbent/{name}"])
    with pytest.raises(RunError, match=f"cannot write {tmp_path}/absent/w.npz: No such file or directory"):
        export(whole, tmp_path / "absent/w.npz")
