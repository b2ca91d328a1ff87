"""`ev3x explain` and `ev3x replay`: what people read, and exit codes."""

import json
import shutil
import subprocess
import sys

import pytest
from sample_run import ROWS, SUMMARY, put, row
from typer.testing import CliRunner

from ev3x.cli import app
from ev3x.cli.console import DIFFERS
from ev3x.run.manifest import seal

# Little to compile: one loss, one optimizer, a simple confirmation.
SMALL = ["propose.0.length=2", "propose.0.losses=['labels']", "task.hidden=[4]", "confirm=published"]
SMALL += ["propose.0.optimizers=[{name='sgd', learning_rate=0.1}]", "confirm.block=64", "select.block=64"]


def invoke(*args):
    return CliRunner().invoke(app, [str(a) for a in args])


def words(result):
    return [" ".join(line.split()) for line in result.stdout.splitlines()]


def test_explain_shows_the_run_and_a_line_per_round(tmp_path):
    lines = words(invoke("explain", put(tmp_path)))
    assert lines[:6] == [
        "task ev3:toy: 6 rounds",
        "promise at most 0.05",
        "assumes fresh examples",
        "rounds 6: 1 better, 1 undecided, 1 worse, 1 equivalent, 1 none, 1 spent; 1 promoted",
        "budget spent 0.06, left -0.01",
        "data 1,280 decide examples were read; 1 rounds read some again, one was read 2 times",
    ]
    assert "0 a/b better, promoted why 0" in lines
    assert "4 none none why 4" in lines


def test_explain_shows_everything_of_a_round(tmp_path):
    rows = [
        *ROWS,
        row(6, "undecided", 0.08, e_values=True, uses=2, shadow={"promoted": True, "move": "take"}, calls={"g": "x"}),
    ]
    lines = words(invoke("explain", put(tmp_path, rows), "--round", 6))
    for line in (
        "round 6",
        "done nothing, in shadow; else promoted; move: take; g: x",
        "a/b yes 0.75 right 0.75 [0.7, 0.8]",
        "a/c no 0.75 size 3",
        "right 0.75 [0.7, 0.8] 0.75 [0.7, 0.8] 0.74 +0.01 [-0.002, +0.022] 0.08 0.03",
        "size 3 3 3 +0 not tested 0.03",
        "examples 256 of the decide split, 64 of the assess split; some took part in 2 confirmations before",
        "before spent 0.06, left -0.01",
        "after spent 0.07, left -0.02",
        "otherwise right: an e-value of 12.5 was reached, 33.3 was needed",
    ):
        assert line in lines
    first = words(invoke("explain", tmp_path, "--round", 0))
    assert "done promoted; move: take" in first and "before nothing: the first round" in first


def test_explain_takes_nothing_of_a_run_for_markup(tmp_path):
    odd = row(0, "undecided", why="[red]b[/red] [/]") | {"winner": "[bold]a[/]"}
    put(tmp_path, [odd], SUMMARY | {"promise": "[/x]"})
    for args in ((), ("--round", 0)):
        result = invoke("explain", tmp_path, *args)
        assert result.exit_code == 0 and "[bold]a[/]" in result.stdout and "[red]b[/red] [/]" in result.stdout


def test_explain_as_json(tmp_path):
    put(tmp_path)
    assert json.loads(invoke("explain", tmp_path, "--json").stdout)["verdicts"]["spent"] == 1
    assert json.loads(invoke("explain", tmp_path, "--json", "--round", 2).stdout)["row"] == ROWS[2]


@pytest.mark.parametrize("command", ["explain", "replay", "verify"])
def test_a_directory_without_a_run_is_refused(command):
    result = invoke(command, "nowhere")
    text = "nowhere is no run directory: it has no config.toml\n"
    assert (result.exit_code, result.stdout, result.stderr) == (2, "", text)


def test_a_round_that_there_is_not_is_refused(tmp_path):
    result = invoke("explain", put(tmp_path), "--round", 6)
    assert (result.exit_code, result.stderr) == (2, "--round 6: this run has rounds 0 to 5\n")


def test_explain_needs_no_jax(tmp_path):
    code = f"""
import sys
from ev3x.cli import app
try:
    app(["explain", {str(put(tmp_path))!r}])
except SystemExit as error:
    assert not error.code, error.code
heavy = {{"jax", "numpy", "orbax", "ev3x.builtin.plugin"}} & set(sys.modules)
assert not heavy, heavy
"""
    subprocess.run([sys.executable, "-W", "ignore", "-c", code], check=True, stdout=subprocess.DEVNULL)


@pytest.fixture(scope="module")
def ran(tmp_path_factory):
    """A real run of two rounds."""
    out = tmp_path_factory.mktemp("ran") / "run"
    result = invoke(
        "run", "distill-digits", "--quiet", "--rounds", 2, "--out", out, *(x for text in SMALL for x in ("--set", text))
    )
    assert result.exit_code == 0, result.stderr
    return out


def test_a_run_is_explained_and_replayed(ran):
    assert any(line.startswith("rounds 2: ") for line in words(invoke("explain", ran)))
    assert invoke("explain", ran, "--round", 1).exit_code == 0
    result = invoke("replay", ran)
    assert (result.exit_code, result.stdout) == (0, "2 rounds replayed: every verdict follows from its evidence\n")
    assert json.loads(invoke("replay", ran, "--json").stdout) == {"rounds": 2, "differences": [], "notes": []}


def test_a_run_is_verified_file_by_file(ran, tmp_path):
    shutil.copytree(ran, tmp_path / "run")
    assert invoke("export", tmp_path / "run").exit_code == 0
    files = sum(path.is_file() for path in (tmp_path / "run").rglob("*")) - 2  # the lock and the manifest
    result = invoke("verify", tmp_path / "run")
    assert (result.exit_code, result.stderr) == (0, "")
    count, digest = result.stdout.splitlines()
    assert count == f"{files} files as the run left them, 0 not" and digest.startswith("digest of the manifest: ")
    weights = tmp_path / "run/weights.npz"
    weights.write_bytes(weights.read_bytes()[:-1])
    result = invoke("verify", tmp_path / "run")
    assert result.exit_code == DIFFERS
    assert result.stderr == "weights.npz: is not what it was when the run ended\n"
    found = json.loads(invoke("verify", tmp_path / "run", "--json").stdout)
    assert found["sound"] == files - 1 and [fault["file"] for fault in found["faults"]] == ["weights.npz"]
    (tmp_path / "run/manifest.json").unlink()
    result = invoke("verify", tmp_path / "run")
    assert (
        result.exit_code == 2 and "has no manifest.json: the run has not ended, or was resumed since" in result.stderr
    )


def test_explain_warns_of_files_that_are_not_as_the_run_left_them(tmp_path):
    put(tmp_path)
    seal(tmp_path)
    assert invoke("explain", tmp_path).stderr == ""
    put(tmp_path, [*ROWS[:-1], row(5, "worse", 0.5)])
    result = invoke("explain", tmp_path)
    expected = f"warning: rounds.jsonl is not what it was when the run ended: `ev3x verify {tmp_path}`\n"
    assert (result.exit_code, result.stderr) == (0, expected)


def test_an_edited_config_of_a_run_is_refused_and_shows(ran, tmp_path):
    shutil.copytree(ran, tmp_path / "run")
    config = tmp_path / "run/config.toml"
    text = config.read_text()
    config.write_text(text.replace("length = 2", "length = 3"))
    result = invoke("resume", tmp_path / "run", "--rounds", 3)
    assert (
        result.exit_code == 2
        and "is of another run, or its config.toml was edited: propose[0].length was 2, is 3" in (result.stderr)
    )
    result = invoke("export", tmp_path / "run")
    assert result.exit_code == 2 and "propose[0].length was 2, is 3" in result.stderr
    assert "run config.toml: propose[0].length 2 3" in words(invoke("replay", tmp_path / "run"))
    config.write_text(text.replace("rounds = 2", "rounds = 1"))
    assert invoke("replay", tmp_path / "run").exit_code == 0
    assert json.loads(invoke("resume", tmp_path / "run", "--json").stdout)["changes"] == [
        "before round 2: rounds 2 -> 1"
    ]


def test_a_difference_is_shown_and_ends_with_a_code_of_its_own(ran, tmp_path):
    shutil.copytree(ran, tmp_path / "run")
    path = tmp_path / "run" / "rounds.jsonl"
    path.write_text(path.read_text().replace('"why": "', '"why": "[/] ', 1))
    for name in ("summary.json", "manifest.json"):  # as of a run that was killed
        (tmp_path / "run" / name).unlink()
    result = invoke("replay", tmp_path / "run")
    assert result.exit_code == DIFFERS == 3
    assert any(line.startswith("0 rounds.jsonl: why [/] ") for line in words(result))
    assert words(result)[-2:] == [
        "2 rounds replayed: 1 value does not follow from what is recorded",
        "if config.toml was changed since the run began, replay it as it was then",
    ]
    assert result.stderr == "note: summary.json is not there: the run was killed, or is under way\n"
    result = invoke("replay", tmp_path / "run", "--json")
    assert result.exit_code == DIFFERS
    (difference,) = json.loads(result.stdout)["differences"]
    assert (difference["round"], difference["what"]) == (0, "rounds.jsonl: why")
