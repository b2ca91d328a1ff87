"""Every example is a config that builds."""

from pathlib import Path

import pytest

from ev3x import config

EXAMPLES = sorted((Path(__file__).parents[1] / "examples").glob("*.toml"))


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_an_example_builds_and_says_how_to_run_it(path):
    setup = config.load(path, [])
    assert setup.limits.rounds is not None and f"ev3x run examples/{path.name}" in path.read_text()
    assert [type(o).__name__ for _, o in setup.observers] == ["ShowProgress", "Curve", "Lineage"]


def test_there_are_examples():
    assert {path.stem for path in EXAMPLES} >= {"growth", "synergy", "objectives", "distill_digits", "distill_cifar"}
