"""What the confirmation promises: false promotions at the stated rate at most, and true gains found."""

import null
import pytest

REPEATS = 4_000
PAIRED = tuple(null.RULES)


@pytest.mark.parametrize(
    ("metric", "gain", "copied", "n"),
    [
        ("accuracy", 0.0, 0.0, 2_048),
        ("accuracy", 0.0, 0.8, 2_048),
        ("accuracy", 0.0, 0.98, 2_048),
        ("accuracy", -0.002, 0.8, 2_048),
        ("accuracy", 0.0, 0.98, 8_192),
        ("likelihood", 0.0, 0.0, 2_048),
        ("likelihood", 0.0, 0.98, 2_048),
    ],
)  # all cases are in the benchmark
def test_a_candidate_that_is_no_better_is_promoted_at_the_stated_rate_at_most(metric, gain, copied, n):
    hits = null.promotions(PAIRED[:2], null.Case(metric, gain, copied, n), REPEATS).tolist()
    for rule, count in zip(PAIRED, hits, strict=False):
        low, high = null.interval(count, REPEATS)
        assert low <= null.level(rule), f"{rule}: promoted {count / REPEATS:.4f} [{low:.4f}, {high:.4f}]"


def test_a_true_gain_is_found_where_the_published_rule_is_blind():
    per_round, over_run, published = null.promotions(PAIRED, null.Case("accuracy", 0.01, 0.8, 8_192), 1_000).tolist()
    assert per_round > 850 and over_run > 800 and published < 50


def test_a_gain_of_a_metric_without_bounds_is_found():
    per_round, over_run = null.promotions(PAIRED[:2], null.Case("likelihood", 0.05, 0.8, 8_192), 1_000).tolist()
    assert per_round > 950 and over_run > 900


def test_the_level_is_used_and_not_left_lying():
    """A test that never promotes would be honest too: at zero gain the rate comes near the level."""
    hits, _ = null.promotions(PAIRED[:2], null.Case("likelihood", 0.0, 0.0, 2_048), REPEATS).tolist()
    assert null.interval(hits, REPEATS)[1] > 0.045
