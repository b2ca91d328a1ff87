"""The distribution as a plugin: it is found without being imported, offers what it says, and uses public names only."""

from pathlib import Path

import ev3x_fds
import pytest
from ev3x_fds.tasks import Digits

import ev3x.config
from ev3x.testing.distribution import DistributionTests, built, snippets

HERE = Path(__file__).parents[1]
README = HERE / "README.md"
CONFIG = """
rounds = 2
[task]
use = "fds:digits"
[[propose]]
use = "fds:fds"
loss = "labels"
horizon = 100
schedules = [
  { name = "learning_rate", windows = 5, step = 0.1 },
  { name = "momentum", step = 0.1 },
]
"""


class TestDistribution(DistributionTests):
    config = CONFIG
    mistakes = (
        ('use = "fds:fds"', 'use = "fds:fsd"', r"unknown proposer 'fds:fsd'; did you mean"),
        ("horizon = 100", "horizon = 0", r"horizon.*greater than or equal to 1, got 0"),
        ("windows = 5", "windows = 7", r"'learning_rate': 7 windows do not divide a horizon of 100 steps"),
        ('"momentum"', '"learning_rate"', r"'learning_rate' comes twice"),
        ('"momentum"', '"momentun"', r"has no hyperparameter 'momentun'; it has learning_rate, momentum, weight_decay"),
        ("step = 0.1 },\n]", "start = 2.0 },\n]", r"schedule 'momentum': start must lie in \[0, 1\], got 2"),
    )
    heavy = ("optax", "sklearn")

    def offers(self):
        return {
            "proposer": {"fds": ev3x_fds.FDS, "random": ev3x_fds.RandomSchedules},
            "task": {"digits": Digits},
        }

    def tried(self):
        """The proposers. Of the task, `init` and `predict` have tests of their own."""
        return {"fds": ev3x_fds.FDS, "random": ev3x_fds.RandomSchedules}


def test_a_config_builds_a_proposer_and_a_task():
    setup = ev3x.config.loads(CONFIG)
    assert setup.task == Digits()
    (_, proposer), *_ = setup.method.proposers
    assert isinstance(proposer, ev3x_fds.FDS)
    assert proposer.schedules == (ev3x_fds.Schedule("learning_rate", windows=5), ev3x_fds.Schedule("momentum"))


@pytest.mark.parametrize("path", sorted((HERE / "examples").glob("*.toml")), ids=lambda path: path.stem)
def test_the_examples_can_be_loaded(path):
    setup = ev3x.config.load(path)
    assert any(isinstance(proposer, ev3x_fds.FDS) for _, proposer in setup.method.proposers)


def test_the_readme_is_short():
    assert len(README.read_text(encoding="utf-8").splitlines()) <= 40


def test_the_function_of_the_readme_finds_schedules():
    (block,) = snippets(README, "python")
    names = {}
    exec(compile(block, "README.md", "exec"), names)
    found = names["found"]
    assert float(found.value) < float(found.history["value"][0]) and (found.schedules["learning_rate"] > 0).all()


def test_the_proposer_of_the_readme_is_built_from_its_table():
    (block,) = snippets(README, "toml")
    ((use, proposer),) = built(block).items()
    assert use == "fds:fds" and isinstance(proposer, ev3x_fds.FDS) and proposer.schedules[0].windows == 5
