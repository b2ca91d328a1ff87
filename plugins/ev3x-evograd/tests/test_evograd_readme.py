"""The README does what it says, and stays short."""

from pathlib import Path

import ev3x_evograd
import pytest

from ev3x.testing.distribution import built, snippets

README = Path(__file__).parents[1] / "README.md"


def test_it_is_short():
    assert len(README.read_text().splitlines()) <= 40


def test_the_function_gives_a_hypergradient():
    (block,) = snippets(README, "python")
    names = {}
    exec(compile(block, "README.md", "exec"), names)
    found = names["found"]
    # θ* lies between the parameter, .3, and the minimum of f_T, 1 / 1.1: both are near 1/2.
    assert float(found.gradient) != 0 and 0 <= float(found.meta_loss) < 1


def test_the_proposer_is_built_from_its_table():
    (block,) = snippets(README, "toml")
    ((use, proposer),) = built(block).items()
    assert use == "evograd:evograd" and isinstance(proposer, ev3x_evograd.EvoGrad)
    assert proposer.meta_optimizer.numbers == {"learning_rate": pytest.approx(0.3)}
