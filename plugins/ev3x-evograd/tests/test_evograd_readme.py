"""The README does what it says, and stays short."""

import re
import tomllib
from pathlib import Path

import ev3x_evograd
import pytest

TEXT = (Path(__file__).parents[1] / "README.md").read_text()


def test_it_is_short():
    assert len(TEXT.splitlines()) <= 40


def test_the_function_gives_a_hypergradient():
    (block,) = re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL)
    names = {}
    exec(compile(block, "README.md", "exec"), names)
    found = names["found"]
    # θ* lies between the parameter, .3, and the minimum of f_T, 1 / 1.1: both are near 1/2.
    assert float(found.gradient) != 0 and 0 <= float(found.meta_loss) < 1


def test_the_proposer_is_built_from_its_table():
    (block,) = re.findall(r"```toml\n(.*?)```", TEXT, re.DOTALL)
    (table,) = tomllib.loads(block)["propose"]
    assert table.pop("use") == "evograd:evograd"
    assert ev3x_evograd.EvoGrad.build(table).meta_optimizer.numbers == {"learning_rate": pytest.approx(0.3)}
