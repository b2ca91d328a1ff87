"""The README and the examples do what they say, and the README stays short."""

from pathlib import Path

from ev3x_populations.proposer import Dehb

import ev3x.config
from ev3x.testing.distribution import built, snippets

ROOT = Path(__file__).parents[1]
README = ROOT / "README.md"


def test_it_is_short():
    assert len(README.read_text().splitlines()) <= 40


def test_the_search_finds_a_rate():
    (block,) = snippets(README, "python")
    names = {}
    exec(compile(block, "README.md", "exec"), names)
    assert names["search"].evaluations == 22 and 1 / 9 <= names["value"] < 0.2
    assert ("momentum" in names["config"]) == (names["config"]["rule"] == "sgd")


def test_the_proposer_is_built_from_its_table():
    (block,) = snippets(README, "toml")
    ((use, proposer),) = built(block).items()
    assert use == "populations:dehb" and isinstance(proposer, Dehb) and proposer.dehb.fidelities == (1, 3, 9)


def test_the_example_can_be_loaded():
    setup = ev3x.config.load(ROOT / "examples" / "search.toml")
    ((_, proposer),) = setup.method.proposers
    assert isinstance(proposer, Dehb) and [p.name for p in proposer.space][-1] == "temperature"
