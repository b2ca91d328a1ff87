"""The README does what it says, and its figures are those of the file."""

import json
import re
from pathlib import Path

import numpy as np
from ev3x_lexicase import Lexicase

from ev3x.testing.distribution import built, snippets

ROOT = Path(__file__).parents[1]
README = ROOT / "README.md"
TEXT = README.read_text(encoding="utf-8")


def test_the_function_gives_the_shares_that_it_says():
    (block,) = snippets(README, "python")
    names = {}
    exec(compile(block, "README.md", "exec"), names)
    np.testing.assert_allclose(names["shares"], [3 / 8, 3 / 8, 1 / 4], atol=1e-6)


def test_the_assessor_is_built_from_its_table():
    (block,) = snippets(README, "toml")
    assert built(block) == {"lexicase:lexicase": Lexicase(epsilon=0.0)}  # the others are the defaults


def test_the_tour_names_files_that_are_there():
    tour = re.findall(r"`((?:csrc|tests)/[\w.]+|CMakeLists.txt|pyproject.toml)`", TEXT)
    assert len(tour) == 5 and all((ROOT / name).exists() for name in tour)


def test_the_figures_are_those_of_the_file():
    rows = {
        (r["k"], r["n"], r["scores"], r["epsilon"]): r
        for r in json.loads((ROOT / "benchmarks/shares.json").read_text())["rows"]
    }
    said = re.findall(
        r"^\| (\d+) \| (\d+) \| (\w+) \| (0|MAD) \| ([\d.]+) \| ([\d.]+) \| ([\d.]+) \|$", TEXT, re.MULTILINE
    )
    assert len(said) == 9
    for k, n, scores, epsilon, native, definition, ratio in said:
        row = rows[int(k), int(n), scores, None if epsilon == "MAD" else 0.0]
        assert native == f"{row['ms']['native']['median']:.2f}" and ratio == f"{row['ratio']:.1f}"
        assert definition == f"{row['ms']['definition']['median']:.2f}"
