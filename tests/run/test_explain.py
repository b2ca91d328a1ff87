"""What a run's files say of every round, and what would have changed its end."""

import json
import re
import sys

import pytest
from sample_run import ROWS, SUMMARY, put, read, row

from ev3x.cli import tables
from ev3x.run import explain, fates
from ev3x.run.explain import of_round, overview, would_change
from ev3x.run.session import RunError
from ev3x.testing.fixtures import command


def test_the_whole_run_in_figures(tmp_path):
    found = overview(*read(put(tmp_path)))
    assert {k: found[k] for k in ("task", "ended", "promise", "assumes", "rounds", "promotions")} == {
        "task": "ev3:toy",
        "ended": "6 rounds",
        "promise": "at most 0.05",
        "assumes": ["fresh examples"],
        "rounds": 6,
        "promotions": 1,
    }
    assert found["verdicts"] == {"better": 1, "undecided": 1, "worse": 1, "equivalent": 1, "none": 1, "spent": 1}
    assert found["ledger"] == ROWS[-1]["ledger"]
    assert found["decide"] == {"examples": 5 * 256, "reused": 1, "uses": 2}
    assert found["lines"][1] == {
        "round": 1,
        "winner": "a/b",
        "verdict": "undecided",
        "promoted": False,
        "shadow": False,
        "metric": "right",
        "gain": 0.01,
        "lower": -0.002,
        "upper": 0.022,
        "p_value": 0.083,
        "alpha": 0.03,
        "examples": 256,
        "why": "why 1",
    }


def test_a_run_that_has_not_ended_has_no_summary(tmp_path):
    found = overview(*read(put(tmp_path, summary=None)))
    assert (found["task"], found["promise"], found["assumes"], found["rounds"]) == (None, None, [], 6)


def test_one_round_with_the_ledger_before_it():
    found = of_round(ROWS, 1)
    assert found["row"] == ROWS[1] and found["ledger_before"] == ROWS[0]["ledger"]
    assert of_round(ROWS, 0)["ledger_before"] == {}


@pytest.mark.parametrize("number", [-1, 6, 100])
def test_a_round_that_there_is_not(number):
    with pytest.raises(RunError, match=rf"--round {number}: this run has rounds 0 to 5"):
        of_round(ROWS, number)


@pytest.mark.parametrize(
    ("made", "text"),
    [
        (ROWS[0], "a level below 0.001: the evidence was enough down to this, 0.03 was offered"),
        (ROWS[1], "right: p = 0.083 was reached, 0.03 was needed"),
        (row(0, "undecided", 0.08, e_values=True), "right: an e-value of 12.5 was reached, 33.3 was needed"),
        (
            row(0, "undecided", 0.01, alpha=0.0, e_values=True),
            "right: an e-value of 100 was reached, more than 1e+38 was needed",
        ),
        (row(0, "undecided", 0.01), "the p-values were small enough: `why` says what else held it back"),
        (ROWS[2], "a better candidate: this one is proven worse than the incumbent, or not finite"),
        (ROWS[4], "a candidate that is eligible, with parameters and scores that are finite"),
        (ROWS[5], "decide examples that have taken part in no decision: a larger decide split, or a stream"),
        (
            row(0, "undecided", alpha=None),
            "intervals that are apart: this confirmation states no error level to compare a p-value with",
        ),
        (
            row(0, "better", alpha=None),
            "intervals that overlap: this confirmation states no error level to compare a p-value with",
        ),
    ],
)
def test_what_would_have_changed_the_verdict(made, text):
    assert would_change(made) == [text]


def test_every_metric_that_held_a_gain_back_is_named():
    made = row(0, "equivalent", p_values={"right": 0.2, "size": 0.01, "recall": 0.9})
    assert would_change(made) == [
        "a larger gain, or a smaller margin: the gain surely lies within the metric's margin",
        "right: p = 0.2 was reached, 0.03 was needed",
        "recall: p = 0.9 was reached, 0.03 was needed",
    ]


def test_files_that_cannot_be_read_are_refused_in_words(tmp_path):
    with pytest.raises(RunError, match="is no run directory"):
        read(tmp_path)
    (tmp_path / "config.toml").touch()
    with pytest.raises(RunError, match="has no round yet: there is nothing to explain"):
        read(tmp_path)
    rows = tmp_path / "rounds.jsonl"
    for text, said in (
        ("{\n{}\n", r"rounds\.jsonl:1: must be the row of a round in JSON: "),
        (
            "[1]\n",
            r"rounds\.jsonl:1: must be .* as this version of ev3x writes it: must be a table, got a list",
        ),
        (
            '{"round": 0, "why": ""}\n',
            "it lacks calls, candidates, confirm, ledger, move, promoted, select_examples, verdict, winner",
        ),
    ):
        rows.write_text(text)
        with pytest.raises(RunError, match=said):
            read(tmp_path)
    put(tmp_path)
    (tmp_path / "summary.json").write_text("{")
    with pytest.raises(RunError, match=r"summary\.json: must be the summary of a run in JSON"):
        read(tmp_path)


def test_a_row_that_was_not_written_to_its_end_is_left_out(tmp_path):
    put(tmp_path)
    with (tmp_path / "rounds.jsonl").open("a") as file:
        file.write('{"round": 6, "can')
    assert len(read(tmp_path)[0]) == 6


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (
            {"candidates": 3},
            "rounds.jsonl:1: .* as this version of ev3x writes it: candidates: must be a list, got a number",
        ),
        ({"ledger": []}, "rounds.jsonl:1: .*: ledger: must be a table, got a list"),
        ({"promoted": "x", "why": None}, "rounds.jsonl:1: .*: why: must be a text, got null"),
        (
            {"confirm": {}},
            "rounds.jsonl:1: .*: confirm: it lacks alpha, current, e_values, examples, ",
        ),
        (
            {"candidates": [3]},
            r"rounds.jsonl:1: .*: candidates\[0\]: must be a table, got a number",
        ),
    ],
)
def test_values_that_ev3x_did_not_write_are_told_with_their_file(tmp_path, change, text):
    put(tmp_path)
    path = tmp_path / "rounds.jsonl"
    first, *others = path.read_text(encoding="utf-8").splitlines()
    path.write_text("\n".join([json.dumps(json.loads(first) | change), *others]) + "\n", encoding="utf-8")
    done = command("explain", tmp_path)
    assert done.exit_code == 2 and re.search(text, done.stderr)


def test_rows_and_summaries_of_other_kinds_are_refused(tmp_path):
    put(tmp_path)
    (tmp_path / "summary.json").write_text("[]", encoding="utf-8")
    with pytest.raises(RunError, match=r"summary\.json: must be the summary of a run: must be a table, got a list"):
        read(tmp_path)
    (tmp_path / "rounds.jsonl").write_text("[" * 9000 + "\n", encoding="utf-8")
    with pytest.raises(RunError, match=r"rounds\.jsonl:1: must be the row of a round in JSON"):
        read(tmp_path)


def test_rows_are_taken_one_by_one_and_few_are_kept(monkeypatch):
    """A run may have a million rounds: counts are of all, lines of the last, names of as many as a run can have."""
    monkeypatch.setattr(explain, "LINES", 10)
    monkeypatch.setattr(fates, "NAMES", 3)
    kept = []

    def rows():
        for i in range(100):
            made = row(i, "better" if i < 9 else f"verdict {i}", 0.5, uses=i)
            made["candidates"][0]["name"] = f"proposer{i}/x"
            yield made
            kept.append(sys.getrefcount(made))

    found = overview(rows(), {})
    assert (found["rounds"], found["promotions"], found["lines_left_out"]) == (100, 9, 90)
    assert [line["round"] for line in found["lines"]] == list(range(90, 100))
    assert found["verdicts"] == {"better": 9, "verdict 9": 1, "verdict 10": 1, fates.OTHERS: 89}
    assert sum(counts["candidates"] for counts in found["proposers"].values()) == 200
    assert max(kept) <= 3, "no row is held"
    monkeypatch.setattr(explain, "SIGNS", 40)
    assert len(overview(ROWS, {})["lines"]) == 6
    assert [line["round"] for line in overview([*ROWS, row(6, "worse", why="w" * 50)], {})["lines"]] == [6]


def test_no_row_after_the_round_is_read():
    rows = iter(ROWS)
    assert of_round(rows, 2)["row"] == ROWS[2] and next(rows) == ROWS[3]


def test_very_many_rounds_and_very_long_texts_are_shown_in_part(tmp_path, monkeypatch):
    monkeypatch.setattr(tables, "ROWS", 4)
    monkeypatch.setattr(tables, "LONGEST", 80)
    rows = [row(i, "worse", why=f"why {i} " + "y" * 120) for i in range(9)]
    summary = SUMMARY | {"assumes": [f"assumption {i}" for i in range(30)]}
    said = command("explain", put(tmp_path, rows, summary)).stdout
    assert "lines      the last 4 rounds; 5 are left out (--round N shows any)" in said
    assert "why 4" not in said and "why 5" in said and "why 8" in said and "... (46 more signs)" in said
    assert "assumption 19" in said and "assumption 20" not in said and "and 10 more (--json has all)" in said
    assert len(json.loads(command("explain", tmp_path, "--json").stdout)["lines"]) == 9
