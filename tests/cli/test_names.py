"""Names and paths that nobody expects: each command answers in one line with exit code 2, or takes them."""

from pathlib import Path

import pytest
from sample_run import put
from typer.testing import CliRunner

import ev3x.run.session
from ev3x.cli import app
from ev3x.config import Override
from ev3x.config.override import ConfigError
from ev3x.run.session import RunError

LONG = "a" * 300
NAMES = [LONG, f"{LONG}.toml", "x/" * 3000, "a\nb\x1b[31m", "no\udcff", "", "$HOME [/bold]", "tiny.py/x"]
COMMANDS = [
    ["run"],
    ["run", "--set"],
    ["run", "--plugin"],
    ["resume"],
    ["explain"],
    ["replay"],
    ["export"],
    ["export", "RUN", "--to"],
    ["config", "check"],
    ["config", "explain", "--plugin"],
    ["plugins", "show"],
    ["plugins", "new"],
    ["plugins", "new", "--from"],
    ["plugins", "new", "brisk", "--into"],
]


@pytest.fixture
def started(monkeypatch, tmp_path):
    """The directories of runs that are asked for, none of which takes place, from a folder with a file and a run."""
    monkeypatch.chdir(tmp_path)
    Path("tiny.py").touch()
    Path("RUN").mkdir()
    put(Path("RUN"))
    seen = []

    def run(setup, directory):
        seen.append(directory)
        raise RunError("this is a test")

    monkeypatch.setattr(ev3x.run.session, "run", run)
    return seen


def answer(*args):
    """What a command says: one line, if it ends with exit code 2; anything else that it ends with is good."""
    result = CliRunner().invoke(app, args)
    assert result.exit_code in (0, 2), (args, result.exception)
    if result.exit_code == 2:
        assert len(result.stderr.strip().splitlines()) == 1 and "\x1b" not in result.stderr, (args, result.stderr)
    return result.stderr.strip()


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_any_name_is_taken_or_refused_in_one_line(started, command):
    for name in NAMES:
        assert answer(*command, name) or command[-1] in ("new", "--into")


@pytest.mark.parametrize("name", ["a b $HOME", "it's größe [/bold]"])
def test_a_directory_for_a_run_may_be_called_anything_that_is_text(started, name):
    assert answer("run", "--out", name) == "this is a test"
    assert started == [Path(name)]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        (LONG, f"{LONG}: File name too long"),
        ("a\nb", "a\\nb: a path must not hold line breaks or control characters"),
    ],
)
def test_what_is_wrong_with_a_path_is_said(started, name, text):
    assert text in answer("run", "--out", name)


def test_an_argument_is_utf_8_text(started):
    assert answer("run", "--set", "seed=\udcff") == "--set: must be UTF-8 text, got 'seed=\\\\udcff'"
    as_ascii = "größe".encode().decode("ascii", "surrogateescape")
    assert "größe" in answer("run", as_ascii)


def test_an_override_is_named_on_one_line():
    with pytest.raises(ConfigError, match=r"^--set a\\nb: must be option=value"):
        Override.parse("a\nb")
    assert Override.parse("seed=[\n1]").value == [1]


@pytest.mark.parametrize("timeout", ["nan", "0", "-1"])
def test_a_time_that_is_none_is_refused(timeout):
    assert "--timeout must be a number of seconds above 0" in answer("plugins", "check", "none", "--timeout", timeout)
