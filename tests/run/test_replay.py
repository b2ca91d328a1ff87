"""Replay: an untouched run follows from its records, and one altered value anywhere is found and named."""

import dataclasses
import json
import re
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from test_session import PAIR, PROMOTE, Loaded, LoadedGrowing, rows, setup
from toys import ACCURACY, LIKELIHOOD, Shift, method, sgd

import ev3x
from ev3x.builtin.adapters.grow import Grow
from ev3x.builtin.adapters.promote import Promote
from ev3x.builtin.adapters.reweight import Reweight
from ev3x.builtin.adapters.synergy import Synergy
from ev3x.builtin.assessors.paired import Paired
from ev3x.core.observe import Limits
from ev3x.run import identity
from ev3x.run import replay as replay_
from ev3x.run.checkpoint import CheckpointError, load
from ev3x.run.fates import fates
from ev3x.run.rederive import Difference, dependent
from ev3x.run.replay import Replayed, replay
from ev3x.run.session import RunError, resume, run


def records(kind, proposer=PAIR, level=0.05):
    """A setup of six rounds, three with decide examples, in which aims move; of kind `none`, data cannot be loaded."""
    made = setup(Loaded(measured=(ACCURACY, LIKELIHOOD), kind=kind))
    method_ = method(
        proposer,
        confirm=Paired(block=64, blocks=2, level=level),
        adapters=(PROMOTE, ("reweight", Reweight())),
        weights={"accuracy": 1, "likelihood": 1},
    )
    ids = {name: f"ev3:{name}" for name in ("trajectories", "promote", "reweight", "budget")}
    return dataclasses.replace(made, method=method_, ids=ids)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A run of three confirmations, and three rounds without decide examples."""
    directory = tmp_path_factory.mktemp("whole") / "run"
    with jax.numpy_dtype_promotion("strict"):
        run(records("short"), directory)
    return directory


@pytest.fixture
def copy(whole, tmp_path):
    """Its files, to be altered."""
    for name in ("config.toml", "rounds.jsonl", "summary.json"):
        (tmp_path / name).write_bytes((whole / name).read_bytes())
    shutil.copytree(whole / "checkpoints", tmp_path / "checkpoints")
    return tmp_path


def found(replayed):
    return [(d.round, d.what) for d in replayed.differences]


def altered(monkeypatch, **branches):
    """From here on, checkpoints are read with these values by path in these branches."""

    def read(directory, size):
        saved = load(directory)
        changed = {}
        for branch, values in branches.items():
            old = dict(getattr(saved, branch))
            for path, change in values.items():
                old[path] = change(old[path])
            changed[branch] = old
        return dataclasses.replace(saved, **changed)

    monkeypatch.setattr(replay_, "of_run", read)


def at(*place, by=None, to=None):
    """A change of the value at a place of an array."""

    def change(array):
        array = np.array(array)
        array[place] = to if by is None else array[place] * by
        return array

    return change


@pytest.mark.bits
def test_an_untouched_run_follows_from_its_records_to_the_bit_and_needs_no_data(whole):
    verdicts = [row["verdict"] for row in rows(whole)]
    assert verdicts[3:] == 3 * ["spent"] and "better" in verdicts[:3]
    assert rows(whole)[0]["weights"] != rows(whole)[3]["weights"]
    assert replay(records("none"), whole) == Replayed(6, (), ())


@pytest.mark.parametrize(
    ("path", "change", "what"),
    [
        ("round", at(1, to=5), "round"),
        ("aims", at(1, 0, to=0.5), "aims[0]"),
        ("alpha", at(1, by=1.1), "alpha"),
        ("selection/winner", at(1, to=-1), "selection.winner"),
        ("confirmation/outcome", at(1, 0, to=2), "confirmation.outcome[0]"),
        ("confirmation/p_value", at(1, 0, by=0.9), "confirmation.p_value[0]"),
        ("confirmation/p_values", at(1, 0, 0, to=np.nan), "confirmation.p_values[0, 0]"),
        ("confirmation/examples", at(1, to=127), "confirmation.examples"),
        ("decision/move", at(1, to=2), "decision.move"),
        ("decision/promote", lambda x: x ^ (np.arange(6) == 1), "decision.promote"),
        ("decision/applied", at(1, to=False), "decision.applied"),
        ("decision/calls", at(1, 0, to=1), "decision.calls[0]"),
        ("evidence/reference_mean", None, "confirmation.reference[0]"),
    ],
)
def test_one_altered_value_of_a_record_is_found_and_named(whole, monkeypatch, path, change, what):
    if path.startswith("evidence"):
        path = next(p for p in load(whole / "checkpoints").records if p.startswith("evidence/ref"))
        change = at(1, 0, 0, by=1.25)
    altered(monkeypatch, records={path: change})
    replayed = replay(records("none"), whole)
    assert (1, what) in found(replayed), replayed
    assert min(round_ for round_, _ in found(replayed) if round_ is not None) == 1


def test_a_round_that_read_examples_cannot_pass_for_one_without(whole, monkeypatch):
    """Nor can one without examples have a verdict."""
    altered(monkeypatch, records={"confirmation/outcome": at(1, to=4)})
    assert (1, "confirmation.outcome[0]") in found(replay(records("none"), whole))
    altered(monkeypatch, records={"confirmation/outcome": at(4, 0, to=3)})
    assert (4, "confirmation.outcome[0]") in found(replay(records("none"), whole))


@pytest.mark.parametrize(
    ("branch", "path", "what"),
    [
        ("plugins", "budget/confirmations", "state after it: budget.confirmations"),
        ("run", "model/aims", "state after it: model.aims[0]"),
    ],
)
def test_what_a_resumed_run_would_go_on_with_is_compared_too(whole, monkeypatch, branch, path, what):
    def fewer(values):
        return values | {path: values[path] - 1}

    saved = load(whole / "checkpoints")
    old = getattr(saved, branch)
    changed = fewer(dict(old)) if branch == "run" else {name: fewer(dict(values)) for name, values in old.items()}
    monkeypatch.setattr(replay_, "of_run", lambda *_: dataclasses.replace(saved, **{branch: changed}))
    assert found(replay(records("none"), whole)) == [(5, what)]


def test_another_rounding_is_noted_and_no_difference(whole, monkeypatch):
    altered(monkeypatch, records={"confirmation/lower": lambda x: np.nextafter(x, np.float32(1))})
    monkeypatch.setattr(replay_, "rows", lambda plan, records: [json.loads(line) for line in lines])
    lines = (whole / "rounds.jsonl").read_text().splitlines()
    replayed = replay(records("none"), whole)
    assert replayed.differences == () and len(replayed.notes) == 1
    assert re.fullmatch(r"\d+ numbers are not the same to the bit, but to a relative 1e-05: .*", replayed.notes[0])


# The files


def test_a_p_value_that_was_changed_in_the_rows_is_found(copy):
    lines = (copy / "rounds.jsonl").read_text().splitlines()
    row = json.loads(lines[1])
    was, row["confirm"]["p_value"] = row["confirm"]["p_value"], 0.001
    (copy / "rounds.jsonl").write_text("\n".join([lines[0], json.dumps(row), *lines[2:]]) + "\n")
    (difference,) = replay(records("none"), copy).differences
    assert difference == Difference(1, "rounds.jsonl: confirm.p_value", 0.001, was)


@pytest.mark.parametrize(
    ("change", "what"),
    [
        (lambda row: row | {"promoted": int(row["promoted"])}, "promoted"),
        (lambda row: row | {"by": "hand"}, "by"),
        (lambda row: {k: v for k, v in row.items() if k != "why"}, "why"),
        (lambda row: row | {"candidates": row["candidates"] * 2}, "candidates"),
        (lambda row: row | {"candidates": [row["candidates"][0] | {"value": 1.0}]}, "candidates[0].value"),
        (lambda row: [row], "the row"),
    ],
)
def test_rows_must_be_exactly_those_of_the_records(copy, change, what):
    lines = (copy / "rounds.jsonl").read_text().splitlines()
    (copy / "rounds.jsonl").write_text("\n".join([*lines[:2], json.dumps(change(json.loads(lines[2]))), *lines[3:]]))
    assert found(replay(records("none"), copy)) == [(2, f"rounds.jsonl: {what}")]


def test_rows_that_are_lost_or_no_json_are_differences(copy):
    lines = (copy / "rounds.jsonl").read_text().splitlines()
    (copy / "rounds.jsonl").write_text("\n".join([*lines[:4], "{"]))
    assert found(replay(records("none"), copy)) == [(i, "rounds.jsonl: the row") for i in (4, 5)]
    (copy / "rounds.jsonl").unlink()
    assert len(replay(records("none"), copy).differences) == 6


def test_the_summary_must_agree(copy):
    path = copy / "summary.json"
    summary = json.loads(path.read_text())
    for name, value in (("promotions", 9), ("seed", 1), ("gradient_steps", 0), ("rounds", 7), ("rounds", -1)):
        path.write_text(json.dumps(summary | {name: value}))
        assert found(replay(records("none"), copy)) == [(None, f"summary.json: {name}")]
    for name, value in (
        ("ledger.spent", 0.0),
        ("holdout.read", 1),
        ("holdout.uses", 2),
        ("proposers.trajectories.rounds_without", 1),
        ("promise", "nothing can go wrong"),
        ("promise", summary["promise"].replace("0.05", "0.01")),
        ("assumes", []),
        ("parameters", 10**9),
        ("in_shadow", 1),
        ("seconds", 0.0),
        ("task", "ev3:other"),
    ):
        edited = inner = json.loads(json.dumps(summary))
        *outer, last = name.split(".")
        for step in outer:
            inner = inner[step]
        assert inner[last] != value
        inner[last] = value
        path.write_text(json.dumps(edited))
        assert found(replay(records("none"), copy)) == [(None, f"summary.json: {name}")], name
    path.write_text(json.dumps(summary | {"rounds": 5}))
    assert (None, "summary.json: gradient_steps") in found(replay(records("none"), copy))
    path.write_text("[]")
    assert found(replay(records("none"), copy)) == [(None, "summary.json")]


def test_totals_of_the_checkpoint_must_agree(whole, monkeypatch):
    saved = load(whole / "checkpoints")
    meta = saved.meta | {"totals": saved.meta["totals"] | {"promotions": 5}}
    monkeypatch.setattr(replay_, "of_run", lambda *_: dataclasses.replace(saved, meta=meta))
    (difference,) = replay(records("none"), whole).differences
    assert (difference.what, difference.recorded) == ("checkpoint: promotions", 5)


# What cannot be replayed, in words


def test_rounds_after_the_last_checkpoint_are_named(copy):
    with (copy / "rounds.jsonl").open("a") as file:
        file.write('{"round": 6}\n{"rou')
    replayed = replay(records("none"), copy)
    assert replayed.differences == () and replayed.rounds == 6
    assert replayed.notes == (
        "rounds 6 to 7 are in rounds.jsonl, but came after the last checkpoint: no evidence of them was saved; "
        f"`ev3x resume {copy}` runs them again",
    )


def test_a_row_after_the_end_of_a_finished_run_is_a_difference(copy, whole):
    (copy / "manifest.json").write_bytes((whole / "manifest.json").read_bytes())
    with (copy / "rounds.jsonl").open("a") as file:
        file.write('{"round": 6}\n{"rou')
    replayed = replay(records("none"), copy)
    assert found(replayed) == [(6, "rounds.jsonl: the row"), (7, "rounds.jsonl: the row")] and replayed.notes == ()


def test_very_many_rows_after_the_end_are_counted(copy, whole, monkeypatch):
    monkeypatch.setattr(replay_, "ROWS", 2)
    (copy / "manifest.json").write_bytes((whole / "manifest.json").read_bytes())
    with (copy / "rounds.jsonl").open("a") as file:
        file.write("0\n" * 5000)
    *_, last = replay(records("none"), copy).differences
    assert found(replay(records("none"), copy))[:-1] == [(6, "rounds.jsonl: the row"), (7, "rounds.jsonl: the row")]
    assert (last.round, last.what) == (8, "rounds.jsonl: the row, and 4,997 after it")


def test_what_is_taken_as_given_must_be_as_the_run_left_it(copy, whole):
    (copy / "manifest.json").write_bytes((whole / "manifest.json").read_bytes())
    assert found(replay(records("none"), copy)) == []
    path = copy / "summary.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"test": {"accuracy": 1.0}}))
    assert found(replay(records("none"), copy)) == [(None, "summary.json")]
    path.unlink()
    assert replay(records("none"), copy) == Replayed(
        6, (Difference(None, "summary.json", "altered or gone", "as the run left it"),), ()
    )
    (copy / "summary.json").write_bytes((whole / "summary.json").read_bytes())
    (copy / "manifest.json").write_text("{}")
    assert found(replay(records("none"), copy)) == [(None, "manifest.json")]


def test_a_promise_for_examples_that_were_read_again_must_say_so(tmp_path):
    made = dataclasses.replace(records("again"), limits=Limits(rounds=4))
    run(made, tmp_path)
    assert replay(records("none"), tmp_path) == Replayed(4, (), ())
    path = tmp_path / "summary.json"
    summary = json.loads(path.read_text())
    path.write_text(json.dumps(summary | {"promise": summary["promise"].partition(";")[0]}))
    assert found(replay(records("none"), tmp_path)) == [(None, "summary.json: promise")]


def test_a_killed_run_has_no_summary_or_that_of_an_earlier_end(copy):
    path = copy / "summary.json"
    summary = json.loads(path.read_text())
    first = rows(copy)[:2]
    early = {"rounds": 2, "promotions": sum(row["promoted"] for row in first), "gradient_steps": 8}
    early |= {"examples": 2 * (64 + 128), "ledger": first[-1]["ledger"], "proposers": fates(first), "seconds": 0.1}
    early["holdout"] = summary["holdout"] | {"read": 2 * 128}
    path.write_text(json.dumps(summary | early))
    note = "summary.json is of an earlier end, after 2 rounds: the run went on, and was killed or goes on"
    assert replay(records("none"), copy) == Replayed(6, (), (note,))
    path.unlink()
    note = "summary.json is not there: the run was killed, or is under way"
    assert replay(records("none"), copy) == Replayed(6, (), (note,))


def test_a_directory_without_a_run_or_a_checkpoint_is_refused(tmp_path):
    with pytest.raises(RunError, match=r"is no run directory: it has no config\.toml"):
        replay(records("none"), tmp_path)
    (tmp_path / "config.toml").touch()
    with pytest.raises(RunError, match="ended before its first checkpoint, there is nothing to replay: `ev3x resume"):
        replay(records("none"), tmp_path)


def test_another_configuration_is_refused_or_shows(whole):
    other = dataclasses.replace(PAIR, optimizers=[sgd(momentum=0.9), sgd()])
    text = r"fit this configuration: eligible must be bool\[6, 2\], got bool\[6, 1\];.*config\.toml must be as it was"
    with pytest.raises(CheckpointError, match=text):
        replay(records("none", other), whole)
    looser = found(replay(records("none", level=0.1), whole))
    assert {(i, "alpha") for i in range(6)} <= set(looser)


def test_an_edited_config_is_a_difference_and_a_change_on_purpose_a_note(whole, monkeypatch):
    other = dataclasses.replace(records("none"), config="rounds = 9\n[confirm]\nlevel = 0.1\n")
    assert found(replay(other, whole)) == [(None, "config.toml: confirm")]
    saved = load(whole / "checkpoints")
    meta = saved.meta | {"changes": ["before round 2: rounds 2 -> 6"]}
    monkeypatch.setattr(replay_, "of_run", lambda *_: dataclasses.replace(saved, meta=meta))
    assert replay(records("none"), whole).notes == ("changed on purpose before round 2: rounds 2 -> 6",)


def test_other_versions_are_noted(whole, monkeypatch):
    now = identity.versions()
    monkeypatch.setattr(identity, "versions", lambda: now | {"jax": "9.9"})
    (note,) = replay(records("none"), whole).notes
    assert note.startswith("the run was made with other versions, which may be why values differ: jax ")
    assert note.endswith(" -> 9.9")


# Adapters


def grown(adapter, rounds=8):
    ids = {name: f"ev3:{name}" for name in ("shift", "promote", "grown", "budget")}
    made = setup(LoadedGrowing(), ("shift", Shift((0.0,))), rounds=rounds, adapters=(PROMOTE, ("grown", adapter)))
    return dataclasses.replace(made, ids=ids)


@pytest.mark.long
@pytest.mark.parametrize(
    ("adapter", "stops", "calls"),
    [
        (Grow(patience=2), (4, 7), "grow undo grow"),
        (Synergy(patience=1, passes=2, most=1), (4,), "grow pass"),
    ],
)
def test_runs_whose_models_grow_follow_when_resumed_too(tmp_path, adapter, stops, calls):
    run(grown(adapter, stops[0]), tmp_path)
    for stop in stops[1:]:
        resume(grown(adapter, stop), tmp_path)
    assert [what for row in rows(tmp_path) for what in row["calls"].values()] == calls.split()
    nothing = dataclasses.replace(grown(adapter), task=LoadedGrowing(kind="none"))
    assert replay(nothing, tmp_path) == Replayed(stops[-1], (), ())


@dataclasses.dataclass(frozen=True)
class Weighing(Grow):
    """Grows once, takes the mean of the weights along, and decides by it."""

    def init(self, site, metrics):
        return {"mean": jnp.zeros(()), "rounds": jnp.int32(0)}

    def decide(self, index, state, decision, selection, confirmation):
        first = state["rounds"] == 1
        decision = dataclasses.replace(decision, calls=decision.calls.at[index].set(2 * first.astype(jnp.int32)))
        return dataclasses.replace(decision, aims=decision.aims + state["mean"]), state | {
            "rounds": state["rounds"] + 1
        }

    def transform(self, key, call, state, form, probe):
        _, form = super().transform(key, call, Grow.init(self, ev3x.Site(form.task), ()), form, None)
        return state | {"mean": form.model.current["params"]["w"].mean()}, form


def test_what_hangs_on_weights_is_noted_and_the_rest_is_derived(tmp_path, monkeypatch):
    made = grown(Weighing(), 4)
    run(made, tmp_path)
    replayed = replay(made, tmp_path)
    assert replayed.differences == ()
    assert replayed.notes == (
        "from round 2 on, decision.aims may hang on weights that 'grown' took over in a host transition: "
        "no record has weights, so this was not derived",
    )
    altered(monkeypatch, records={"decision/promote": lambda x: x ^ (np.arange(4) == 3)})
    assert (3, "decision.promote") in found(replay(made, tmp_path))


@dataclasses.dataclass(frozen=True)
class Watching(Promote):
    """Decides and has nothing done."""

    def decide(self, index, state, decision, selection, confirmation):
        decision, state = super().decide(index, state, decision, selection, confirmation)
        return dataclasses.replace(decision, applied=jnp.asarray(False)), state


def test_a_run_in_shadow_follows(tmp_path, monkeypatch):
    made = setup(adapters=(("promote", Watching()),))
    run(made, tmp_path)
    assert replay(made, tmp_path) == Replayed(6, (), ())
    altered(monkeypatch, records={"decision/applied": at(2, to=True)})
    assert (2, "decision.applied") in found(replay(made, tmp_path))


def test_dependence_is_never_missed():
    def f(a, b, c):
        return {"a": a, "sum": jnp.where(a > 0, a, 1.0) + b, "c": jax.jit(lambda x: 2 * x)(c), "constant": jnp.ones(2)}

    given = (jnp.ones(()), jnp.ones(()), jnp.ones(3))
    names = sorted(f(*given))
    for marked, hang in (((1, 0, 0), {"a", "sum"}), ((0, 1, 0), {"sum"}), ((0, 0, 1), {"c"}), ((0, 0, 0), set())):
        assert {n for n, yes in zip(names, dependent(f, given, list(map(bool, marked))), strict=True) if yes} == hang
