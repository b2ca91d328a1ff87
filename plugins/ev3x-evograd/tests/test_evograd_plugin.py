"""The distribution as a plugin: it is found without being imported, offers what it says, and uses public names only."""

import subprocess
import sys
import unittest
from pathlib import Path

import ev3x_evograd
import pytest
from ev3x_evograd.tasks import NoisyDigits, RotatedDigits

import ev3x
import ev3x.config
from ev3x.testing.distribution import DistributionTests

EXAMPLES = sorted((Path(__file__).parent.parent / "examples").glob("*.toml"))


CONFIG = """
rounds = 2
[task]
use = "evograd:rotated-digits"
[[propose]]
use = "evograd:evograd"
loss = "turned"
meta_loss = "labels"
optimizer = { name = "adam", learning_rate = 1e-2 }
meta_optimizer = { name = "adam", learning_rate = 0.5 }
ranges = { angle = { low = -90, high = 90 } }
"""


class TestDistribution(DistributionTests):
    config = CONFIG
    mistakes = (
        ('use = "evograd:evograd"', 'use = "evograd:evogard"', r"unknown proposer 'evograd:evogard'; did you mean"),
        ('meta_loss = "labels"', 'metaloss = "labels"', r"metaloss.*did you mean 'meta_loss'"),
        ('meta_loss = "labels"', 'meta_loss = "labels"\ncopies = 1', r"copies.*greater than or equal to 2, got 1"),
    )
    heavy = ("optax", "flax", "sklearn")

    def offers(self):
        return {
            "proposer": {"evograd": ev3x_evograd.EvoGrad, "one_step": ev3x_evograd.OneStep},
            "task": {"rotated-digits": RotatedDigits, "noisy-digits": NoisyDigits},
        }

    def tried(self):
        """One proposer: the other has another hypergradient, and nothing else of its own. Tasks have tests."""
        return {"evograd": ev3x_evograd.EvoGrad}

    def test_it_keeps_the_contract(self, check):
        """Nothing is excused."""
        try:
            super().test_it_keeps_the_contract(check)
        except unittest.SkipTest as reason:
            pytest.fail(f"{reason}")


def test_using_the_proposers_imports_neither_flax_nor_scikit_learn():
    code = """
import sys, ev3x
host = ev3x.Host()
assert {*host.offers("proposer", "evograd"), *host.offers("task", "evograd")}
print([n for n in sys.modules if n in ("flax", "sklearn", "matplotlib")])
"""
    done = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0 and done.stdout.strip() == "[]", done.stdout + done.stderr


def test_a_config_builds_a_proposer_and_a_task():
    setup = ev3x.config.loads(CONFIG)
    assert setup.task == RotatedDigits()
    (_, proposer), *_ = setup.method.proposers
    assert isinstance(proposer, ev3x_evograd.EvoGrad) and proposer.copies == 2
    assert proposer.ranges == ev3x.Ranges([ev3x.Range("angle", -90, 90)])


if EXAMPLES:

    @pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
    def test_the_examples_can_be_loaded(path):
        setup = ev3x.config.load(path)
        used = [setup.task, *(proposer for _, proposer in setup.method.proposers)]
        assert any(type(component).__module__.startswith("ev3x_evograd.") for component in used)

else:

    @pytest.mark.skip(reason="there are no examples/*.toml beside the tests")
    def test_the_examples_can_be_loaded():
        pass
