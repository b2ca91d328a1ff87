"""The docs hold what the benchmark of the operations wrote, and its rows say what was measured."""

import functools
import json
from concurrent.futures import ThreadPoolExecutor

import jax.numpy as jnp
import measure
import ops
import pytest
from opponents.forms import Forms

from ev3x.ops import native

RESULTS = measure.RESULTS / "ops.json"


def test_the_docs_hold_the_tables_of_the_results():
    text = ops.DOCS.read_text()
    assert ops.documented(text, json.loads(RESULTS.read_text())) == text


def test_a_page_without_marks_is_no_place_for_tables():
    with pytest.raises(ValueError, match="must hold"):
        ops.documented("# Measurements", {"machine": measure.machine(), "repeats": 7, "rows": []})


@pytest.mark.skipif(not native.ensure("ev3x_rank_metrics"), reason="native targets are not in use here")
def test_a_case_becomes_a_line_of_the_table():
    def natural(scores, labels):
        return (scores > 0).sum(-1)

    def broken_down(scores, labels):
        return jnp.stack([(row > 0).sum() for row in scores])

    forms = Forms({"at once": natural}, {"one by one": broken_down})
    arrays = functools.partial(ops.labelled, (3, 100))
    case = ops.Case("rank_metrics", "both", (3, 100), arrays, ops.op("rank_metrics"), forms, goal=1e9, read=True)
    with ThreadPoolExecutor(2) as pool:
        row = json.loads(json.dumps(ops.measured(case, 7, pool)))
    assert set(row["forms"]) == {"at once", "one by one"} and row["known"]["name"] == "one by one"
    assert row["best"]["name"] in row["forms"] and row["read"]["bytes"] == 4 * 300 + 100
    assert row["native"]["ms"]["low"] <= row["native"]["ms"]["median"] <= row["native"]["ms"]["high"]
    text = ops.markdown({"machine": measure.machine(), "repeats": 7, "rows": [row]})
    line = next(t for t in text.splitlines() if t.startswith("| rank_metrics, both | (3, 100) |"))
    assert line.count("|") == len(ops.HEAD) + 1 and line.endswith("1,000,000,000: **no** |")


def test_the_operation_and_its_definition_are_told_apart():
    arrays = [jnp.asarray(a) for a in ops.labelled((3, 100))]
    with pytest.raises(RuntimeError, match="did not choose"):
        ops.program(lambda p, *_: p + 1, arrays, "require")


def test_every_case_has_a_shape_for_a_quick_look():
    assert {c.op for c in ops.wanted([], quick=True)} == set(ops.QUICK) == {c.op for c in ops.cases()}
