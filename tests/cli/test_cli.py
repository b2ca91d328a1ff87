"""The command line in this process: what is printed where, and with which exit code."""

import dataclasses
import json
import tomllib
import warnings

import pytest
from typer.main import get_command
from typer.testing import CliRunner

import ev3x.run.session
from ev3x.cli import app
from ev3x.cli.console import quietly
from ev3x.host import discovery
from ev3x.ops import native
from ev3x.run.watchers import Watchers

SUMMARY = {
    "task": "ev3:distill-mnist1d", "seed": 0, "rounds": 3, "promotions": 1,
    "transitions": {"grow": 2, "undo": 1}, "gradient_steps": 1200,
    "examples": 9, "seconds": 1.25, "test": {"accuracy": 0.65}, "baseline": {"accuracy": 0.1}, "outcome": "finished",
    "reason": "3 rounds", "promise": "over the whole run, ...", "in_shadow": 0,
    "ledger": {"spent": 0.04, "left": 0.01}, "holdout": {"read": 5000, "size": 4000, "uses": 2},
    "about": "MNIST-1D", "versions": {}, "observer_faults": {"progress": 1},
    "proposers": {"fine": {"candidates": 3, "rounds_without": 0, "not_finite": 1},
                  "sick": {"candidates": 6, "rounds_without": 2, "not_finite": 5}},
    "directory": "runs/x", "kept": {"synergy/size 1": {"parameters": 546, "test": {"accuracy": None}}},
}  # fmt: skip


class Failing(ev3x.Observer):
    """An observer that fails."""

    def rounds(self, handle, rows, progress):
        raise ValueError("no screen")


@pytest.fixture
def runs(monkeypatch):
    """The setups and directories of runs that are asked for; none takes place."""
    seen = []

    def run(setup, directory):
        print("a plugin prints this")
        seen.append((setup, directory))
        return SUMMARY

    monkeypatch.setattr(ev3x.run.session, "run", run)
    return seen


def invoke(*args):
    return CliRunner().invoke(app, [str(a) for a in args])


def test_version():
    result = invoke("--version")
    assert result.exit_code == 0 and result.stdout.startswith(f"ev3x {ev3x.__version__}, jax ")


def test_json_is_one_object_on_stdout_and_all_else_goes_to_stderr(runs):
    result = invoke("run", "--json", "--out", "x")
    assert json.loads(result.stdout) == SUMMARY
    assert "a plugin prints this" in result.stderr


def test_a_run_ends_with_a_table(runs):
    result = invoke("run", "--out", "x")
    lines = [line.split() for line in result.stdout.splitlines()]
    assert ["accuracy", "0.1", "0.65"] in lines
    assert ["rounds", "3", "with", "1", "promotion,", "2", "x", "grow,", "1", "x", "undo"] in lines
    assert "budget spent 0.04, left 0.01".split() in lines
    assert "holdout 5,000 decide examples read of 4,000, some 2 times".split() in lines
    assert "faults observer 'progress' failed 1 time".split() in lines
    assert ["files", "runs/x"] in lines and ["data", "MNIST-1D"] in lines
    assert "sick in 2 of 3 rounds none could win; 5 of 6 candidates could not win: 5 not finite".split() in lines
    assert not any(line[:1] == ["fine"] for line in lines)
    assert "synergy/size 1  546 parameters, on the test set accuracy not finite" in result.stdout


def test_quiet_shows_no_progress_and_no_table(runs):
    result = invoke("run", "--quiet", "--out", "x")
    assert [label for label, _ in runs[0][0].observers] == ["curve", "lineage"]
    assert result.stdout == "a plugin prints this\n"


def test_options_of_the_command_line_reach_the_setup(runs, tmp_path):
    options = ["--seconds", 5, "--gradient-steps", 9, "--target", 0.5, "--seed", 4, "--set", "confirm.level=0.01"]
    assert invoke("run", "distill-mnist1d", *options, "--out", tmp_path).exit_code == 0
    setup, directory = runs[0]
    assert dataclasses.astuple(setup.limits) == (None, 5.0, 9, 0.5)
    assert (setup.seed, setup.method.confirm.level, directory) == (4, 0.01, tmp_path)


def test_a_config_may_be_given(runs, tmp_path):
    (tmp_path / "c.toml").write_text("rounds = 7\nseed = 1\n")
    invoke("run", tmp_path / "c.toml", "--seed", 2, "--out", "x")
    assert (runs[0][0].limits.rounds, runs[0][0].seed) == (7, 2)


def test_without_out_the_next_free_directory_is_taken(runs, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs" / "distill-mnist1d-1").mkdir(parents=True)
    invoke("run")
    assert str(runs[0][1]) == "runs/distill-mnist1d-2"


def test_an_interrupted_run_ends_with_130(monkeypatch):
    monkeypatch.setattr(ev3x.run.session, "run", lambda *_: SUMMARY | {"outcome": "interrupted"})
    result = invoke("run", "--json", "--out", "x")
    assert result.exit_code == 130 and json.loads(result.stdout)["outcome"] == "interrupted"

    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(ev3x.run.session, "run", interrupted)
    assert invoke("run", "--out", "x").exit_code == 130


@pytest.mark.parametrize(
    ("args", "text"),
    [
        (["run", "distil-mnist1d"], "distil-mnist1d: task.use: unknown task 'distil-mnist1d'; did you mean"),
        (["run", "none.toml"], "none.toml: cannot be read: No such file or directory"),
        (["run", "--rounds", "0"], "--rounds 0: rounds: must be greater than or equal to 1, got 0"),
        (["run", "--set", "confirm.levl=1"], "--set confirm.levl=1: confirm.levl: unknown option 'levl'"),
        (["resume", "nowhere"], "nowhere is no run directory: it has no config.toml"),
        (["export", "nowhere"], "nowhere is no run directory"),
        (["plugins", "show", "ev3:pared"], "unknown component 'ev3:pared'; did you mean 'ev3:paired'?"),
        (["plugins", "show", "nobody"], "unknown plugin 'nobody'"),
    ],
)
def test_known_errors_are_one_message_and_exit_code_2(args, text):
    result = invoke(*args)
    assert result.exit_code == 2 and result.stdout == ""
    assert result.stderr.startswith(text)


@pytest.mark.parametrize(("kind", "code"), [(ev3x.run.session.RunError, 2), (RuntimeError, 1)])
def test_only_known_errors_lose_their_traceback(monkeypatch, kind, code):
    def fail(*_):
        raise kind("what happened")

    monkeypatch.setattr(ev3x.run.session, "run", fail)
    result = invoke("run", "--out", "x")
    assert result.exit_code == code
    assert isinstance(result.exception, SystemExit) == (code == 2)


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (FileNotFoundError(2, "No such file or directory", "data\n.npy"), "data\\n.npy: No such file or directory"),
        (OSError(28, "No space left on device"), "a file cannot be written: No space left on device"),
    ],
)
def test_errors_about_files_are_known_errors(monkeypatch, error, text):
    def fail(*_):
        raise error

    monkeypatch.setattr(ev3x.run.session, "run", fail)
    result = invoke("run", "--out", "x")
    assert (result.exit_code, result.stderr.strip()) == (2, text)


DEEP = "def inner():\n    raise RuntimeError('no luck')\n\ndef outer():\n    inner()\n\nouter()\n"


@pytest.mark.parametrize(
    "args", [("plugins", "show", "deep"), ("run", "deep:task", "--out", "x"), ("config", "explain", "deep:task")]
)
@pytest.mark.parametrize("at", [0, 1, None])
def test_debug_shows_the_full_traceback_of_a_plugins_frames_wherever_it_stands(site, args, at):
    site("deep", DEEP)
    plain = invoke(*args)
    assert plain.exit_code == 2 and "Traceback" not in plain.stderr and "no luck" in plain.stderr
    result = invoke(*args[:at], "--debug", *args[len(args[:at]) :])
    assert result.exit_code == 2 and result.stderr.endswith(plain.stderr)
    assert result.stderr.count("Traceback (most recent call last)") == 1
    for frame in ("in <module>\n    outer()", "in outer\n    inner()", "in inner\n    raise RuntimeError('no luck')"):
        assert frame in result.stderr
    assert "Traceback" not in invoke(*args).stderr, "it is not kept"


def test_debug_shows_faults_that_a_run_survives_and_our_own_refusals(monkeypatch):
    def run(*_):
        watchers = Watchers([("screen", Failing())])
        watchers.start(None, ())
        watchers.rounds((), None)
        return SUMMARY

    monkeypatch.setattr(ev3x.run.session, "run", run)
    plain, debug = invoke("run", "--out", "x"), invoke("run", "--out", "x", "--debug")
    assert "observer 'screen' failed: ValueError: no screen" in plain.stderr and "Traceback" not in plain.stderr
    assert "in rounds\n    raise ValueError" in debug.stderr and "observer 'screen' failed" in debug.stderr
    refused = invoke("--debug", "resume", "nowhere")
    assert "in check_run\n" in refused.stderr and refused.stderr.endswith("it has no config.toml\n")


def leaves(command, path=()):
    for name, inner in command.commands.items():
        yield from leaves(inner, (*path, name)) if hasattr(inner, "commands") else [(*path, name)]


def test_every_command_takes_debug_and_the_help_says_so():
    found = list(leaves(get_command(app)))
    assert len(found) > 10
    for path in found:
        result = invoke(*path, "--debug", "--help")
        assert result.exit_code == 0 and "--debug shows the full traceback" in result.stdout, path
    assert "--debug" in invoke("--help").stdout
    assert invoke("run", "--", "--debug").exit_code == 2, "behind -- it is an argument"


def test_values_that_our_own_checks_refuse_are_known_errors(monkeypatch):
    monkeypatch.setattr(ev3x.run.session, "run", lambda *_: ev3x.Metric("m", max, low=1.0, high=0.0))
    result = invoke("run", "--out", "x")
    assert result.exit_code == 2 and result.stderr.startswith("metric 'm': low must be below high")


def test_config_check_tells_everything(tmp_path):
    path = tmp_path / "c.toml"
    path.write_text("rounds = 0\nsed = 1\n")
    result = invoke("config", "check", path)
    assert result.exit_code == 2
    assert [line.partition(": ")[0] for line in result.stderr.splitlines()] == [f"{path}:1", f"{path}:2"]
    path.write_text("rounds = 1\n")
    assert invoke("config", "check", path).stdout == f"{path}: good\n"
    assert invoke("config", "check", path, "--set", "seed=-1").exit_code == 2


def test_config_explain_prints_a_config():
    result = invoke("config", "explain", "--set", "rounds=9")
    assert tomllib.loads(result.stdout)["rounds"] == 9
    assert "# the chance of a false promotion" in result.stdout


def test_plugins_show():
    everything, paired = invoke("plugins", "show", "ev3").stdout, invoke("plugins", "show", "paired").stdout
    assert "ev3:trajectories" in everything and "observer" in everything
    assert paired.startswith("ev3:paired, an assessor\nBetter when the contender beats")
    assert ["level", "float", ">", "0", "0.05", "the", "chance"] in [x.split()[:7] for x in paired.splitlines()]


def test_plugins_list_shows_states_and_faults(monkeypatch):
    one, two = (discovery.PluginInfo("twice", "m", name, "1.5") for name in ("a", "b"))
    new = discovery.PluginInfo("new", "n", "ev3x-new", "2.0", "v9")
    plugins = {"ev3": discovery.builtin(), "new": new}
    index = discovery.Index(plugins, {"twice": (one, two)}, {"bad": "/x: unreadable"}, ("some fault",))
    monkeypatch.setattr(discovery, "discover", lambda: index)
    monkeypatch.setenv("EV3X_PLUGINS", "-b")
    result = invoke("plugins", "list")
    lines = {
        ("ev3", "ev3x", "v1"): "usable",
        ("new", "ev3x-new", "v9"): "it needs plugin API v9, this ev3x has v1: upgrade ev3x",
        ("twice", "a", "v1"): "usable",
        ("twice", "b", "v1"): "b is disabled by EV3X_PLUGINS",
        ("bad", "", ""): "/x: unreadable",
    }
    assert (result.exit_code, result.stderr) == (0, "some fault\n")
    rows = json.loads(invoke("plugins", "list", "--json").stdout)["plugins"]
    assert {(r["plugin"], r["distribution"], r["api"]): r["state"] for r in rows} == lines
    for (name, distribution, _), state in lines.items():
        assert any(
            line.startswith(name) and distribution in line and line.endswith(state)
            for line in result.stdout.splitlines()
        )


def test_a_fallback_of_native_code_is_one_line(monkeypatch):
    def load():
        raise ImportError("undefined symbol: xyz")

    made = native.Registry(load)
    for name in ("t", "u"):
        made.declare(name, lambda target: None)
    monkeypatch.delenv("EV3X_NATIVE", raising=False)
    monkeypatch.setattr(ev3x.run.session, "run", lambda *_: SUMMARY | {"x": [made.ensure(n) for n in "tut"]})
    result = invoke("run", "--quiet", "--out", "x")
    assert result.exit_code == 0
    assert result.stderr == (
        "warning: ev3x: native code is not used, the jnp definitions are: ImportError: undefined symbol: xyz\n"
    )


def test_warnings_are_single_lines(capsys):
    with quietly():
        warnings.warn("resumed with other versions", stacklevel=1)
        warnings.warn("old", DeprecationWarning, stacklevel=1)
    assert capsys.readouterr().err == "warning: resumed with other versions\n"
