"""Who could not win, and why: counted from rows, and told when it goes on."""

import pytest
from sample_run import ROWS, row

from ev3x.run.explain import overview, would_change
from ev3x.run.fates import PATIENCE, fates, in_words, starved


def rounds(*reasons):
    """A row for each: the reasons of the candidates of a proposer; None for one that could win."""
    return [
        {
            **row(i, "none"),
            "candidates": [{"name": f"a/{k}", **({"barred": r} if r else {})} for k, r in enumerate(these)],
        }
        for i, these in enumerate(reasons)
    ]


def test_candidates_are_counted_by_proposer_and_reason():
    made = rounds(("not finite", None), ("not finite", "not eligible"), (None, None))
    assert fates(made) == {"a": {"candidates": 6, "rounds_without": 1, "not_finite": 2, "not_eligible": 1}}
    assert in_words(fates(made)["a"]) == "3 of 6 candidates could not win: 2 not finite, 1 not eligible"
    assert in_words(fates(rounds((None,)))["a"]) == ""
    assert overview(made, {})["proposers"] == fates(made)


@pytest.mark.parametrize(
    ("made", "text"),
    [
        (rounds(*[("not finite", "not finite")] * PATIENCE), "of 10, 10 with NaN or infinity ("),
        (rounds(*[("not eligible",)] * PATIENCE), "of 5, 5 not `eligible` by its own word (a method that waits"),
        (
            rounds(*[("no finite score", "idle")] * PATIENCE),
            "of 10, 5 without a finite score (look at the metrics); 5 waiting",
        ),
        (rounds((None,), *[("not finite",)] * PATIENCE), "of 5, 5 with NaN"),
    ],
)
def test_rounds_in_a_row_without_a_candidate_that_could_win_are_told(made, text):
    said = starved(made)["a"]
    assert said.startswith("proposer 'a': in 5 rounds in a row none of its candidates could win: ") and text in said


@pytest.mark.parametrize(
    "made",
    [
        rounds(*[("not finite",)] * (PATIENCE - 1)),
        rounds(*[("not finite",)] * PATIENCE, ("not finite", None)),
        rounds((None,), *[("not finite",)] * (PATIENCE - 1)),
        rounds(*[("idle", "idle")] * 40),
        ROWS,
        [],
    ],
)
def test_what_recovers_or_waits_by_design_is_not_told(made):
    assert starved(made) == {}


def test_a_run_that_ends_early_is_told_of_all_its_rounds():
    few = rounds(("not finite",), ("not finite",))
    assert starved(few) == {} and "in 2 rounds in a row" in starved(few, ended=True)["a"]
    assert "in the only round" in starved(few[:1], ended=True)["a"]
    assert starved(rounds((None,), ("not finite",)), ended=True) == {} == starved([], ended=True)


def test_what_would_have_changed_a_round_without_a_winner_names_the_reasons():
    (made,) = rounds(("not finite", "not finite", "not eligible"))
    first, *reasons = would_change(made)
    assert first == "a candidate that is eligible, with parameters and scores that are finite"
    assert [text.partition(" (")[0] for text in reasons] == [
        "2 candidates with NaN or infinity",
        "1 candidate not `eligible` by its own word",
    ]
