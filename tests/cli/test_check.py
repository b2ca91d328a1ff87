"""`ev3x plugins check`: what is found without importing anything, and in a process of its own."""

import dataclasses
import json

import pytest
from installing import GOOD
from typer.testing import CliRunner

import ev3x
from ev3x.cli import app
from ev3x.cli.examine import Findings, _build


@pytest.fixture
def check(site):
    """Checks a distribution: the exit code, and what was found, by what was looked at."""

    def run(*args):
        result = CliRunner().invoke(app, ["plugins", "check", *args, "--json"])
        findings = json.loads(result.stdout)["findings"]
        return result.exit_code, {f["what"]: (f["good"], f["text"]) for f in findings}

    return run


def test_a_distribution_that_is_not_there(check):
    code, found = check("ev3x-gone")
    assert code == 1 and found["ev3x-gone"][1].startswith("no installed distribution of that name brings plugins")


def test_what_metadata_tell_is_enough_to_fail(site, check):
    site("old", "raise SystemExit", api="v0")
    site("twice", GOOD, "ev3x-one", "module_of_one")
    site("twice", GOOD, "ev3x-two", "module_of_two")
    assert check("ev3x-old") == (
        1,
        {"metadata": (False, "it was made for plugin API v0, this ev3x runs v1 or newer: upgrade the plugin")},
    )
    code, found = check("EV3X_Two")
    assert code == 1 and "claimed by ev3x-one 1.5 and ev3x-two 1.5" in found["name"][1]


def test_a_sound_plugin_and_one_that_is_not(site, check):
    site("good", "print('hello')\n" + GOOD)
    code, found = check("ev3x-good", "--no-kit")
    assert (code, found["good:mine"]) == (0, (True, "Mine, 2 options"))
    assert found["import"][0] is True and found["while it was loaded"] == (
        None,
        "plugin 'good' of ev3x-good 1.5 printed: hello",
    )
    code, found = check("ev3x-good", "--debug")
    assert (code, found["good:mine"][0]) == (1, False), "its methods return nothing"
    assert "assessor Mine does not keep the contract" in found["good:mine"][1]
    site("deep", "def inner():\n    raise RuntimeError('no luck')\n\ninner()\n")
    code, found = check("--debug", "ev3x-deep")
    assert code == 1 and "RuntimeError: no luck" in found["import"][1]
    assert ", in inner\n    raise RuntimeError('no luck')" in found["while it was loaded"][1]
    site("dead", "import os\nos.abort()")
    code, found = check("ev3x-dead")
    assert code == 1 and found["process"][1].startswith(
        "plugin 'dead' of ev3x-dead 1.5 ended the process that loaded it (signal SIGABRT)"
    )
    site("leaving", "import os\nos._exit(0)")
    code, found = check("ev3x-leaving")
    assert code == 1 and found["process"][1].startswith(
        "plugin 'leaving' of ev3x-leaving 1.5 ended the process that loaded it, as if all were well (exit code 0)"
    )


FAMILY = """
import dataclasses
import ev3x

@dataclasses.dataclass(frozen=True)
class Talks(ev3x.Observer):
    text: str
    def start(self, run, rows):
        print(self.text)

@dataclasses.dataclass(frozen=True)
class Said(Talks):
    kit = ev3x.Kit({"text": "x"}, excuse={"quiet": "it talks to people"})

@dataclasses.dataclass(frozen=True)
class Bare(Talks):
    pass

KINDS = {"said": Said, "bare": Bare, **{f"said_{i}": Said for i in range(8)}}

@ev3x.hookimpl
def ev3x_observers():
    return [ev3x.Offer(name, kind) for name, kind in KINDS.items()]
"""


def test_what_a_class_says_of_its_tests_and_a_sample_of_a_family(site, check):
    site("family", FAMILY)
    code, found = check("ev3x-family", "--quick", "--sample", "4", "--seed", "2")
    drawn = found["sample"][1].removeprefix("4 of 10 observers, drawn by --seed 2: ").split(", ")
    assert found["sample"][0] is None and sorted(name for name in found if name.startswith("family:")) == drawn
    bare = found.pop("family:bare")
    assert code == 1 and bare[0] is False and 'let the class say kit = ev3x.Kit(options={"text": ...})' in bare[1]
    assert {(good, text.partition(" (")[0]) for use, (good, text) in found.items() if use in drawn} == {
        (True, "observer Said: 7 checks ran, 1 excused")
    }


def test_what_cannot_be_built_is_a_fault_only_where_the_kit_is_asked_for(tmp_path):
    @dataclasses.dataclass(frozen=True)
    class Bare(ev3x.Observer):
        text: str

    @dataclasses.dataclass(frozen=True)
    class Refused(Bare):
        kit = ev3x.Kit({"text": 3})

    findings = Findings(tmp_path / "findings")
    for kind in (Bare, Refused):
        for kit in (True, False):
            _build("mine:it", kind, {}, findings, kit=kit)
    found = [json.loads(line) for line in (tmp_path / "findings").read_text().splitlines()]
    assert [f["good"] for f in found] == [False, None, False, None]
    assert "let the class say kit = ev3x.Kit(options=" in found[0]["text"] and "string" in found[2]["text"]


def test_a_folder_that_happens_to_be_called_ev3x_is_not_imported(site, check, tmp_path_factory, monkeypatch):
    clone = tmp_path_factory.mktemp("clone")
    (clone / "ev3x").mkdir()
    for name in ("ev3x/__init__.py", "jax.py"):
        (clone / name).write_text("raise ImportError('sources, not what is installed')\n")
    monkeypatch.chdir(clone)
    monkeypatch.delenv("PYTHONSAFEPATH", raising=False)
    site("good", GOOD)
    code, found = check("ev3x-good", "--no-kit")
    assert (code, found["good:mine"]) == (0, (True, "Mine, 2 options"))
