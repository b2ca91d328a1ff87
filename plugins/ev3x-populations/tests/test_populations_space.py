"""Every kind of parameter: what coordinates mean, and back; what contradicts itself is refused where it is written."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from ev3x_populations import Categorical, Integers, Ordinal, Space, When
from hypothesis import given
from hypothesis import strategies as st

from ev3x import Range

SPACE = Space(
    [
        Range("rate", 1e-3, 1.0, log=True),
        Integers("layers", 1, 4),
        Integers("width", 8, 512, log=True),
        Ordinal("batch", (16, 32, 64)),
        Categorical("rule", ("sgd", "adam")),
        When(Range("momentum", 0.0, 0.99), "rule", ("sgd",)),
        When(Categorical("shape", ("a", "b")), "layers", (2, 3)),
    ]
)
TABLE = {
    "rate": {"low": 1e-3, "high": 1.0, "log": True},
    "layers": {"low": 1, "high": 4, "log": False, "integer": True},
    "width": {"low": 8, "high": 512, "log": True, "integer": True},
    "batch": {"ordinal": [16, 32, 64]},
    "rule": {"categorical": ["sgd", "adam"]},
    "momentum": {"low": 0.0, "high": 0.99, "log": False, "when": {"rule": ["sgd"]}},
    "shape": {"categorical": ["a", "b"], "when": {"layers": [2, 3]}},
}
POINTS = jax.random.uniform(jax.random.key(0), (4000, len(SPACE)), jnp.float32)


@pytest.fixture(scope="module")
def configs():
    values, active, snapped = jax.jit(lambda x: (SPACE.values(x), SPACE.active(x), SPACE.snapped(x)))(POINTS)
    return SPACE.configs(values, active), np.asarray(snapped)


def test_it_is_what_a_config_says_and_says_it():
    assert Space.parse(TABLE) == SPACE and SPACE.to_config() == TABLE
    assert hash(Space.parse(TABLE)) == hash(SPACE)


def test_all_values_come_equally_often_and_of_pythons_types(configs):
    found, _ = configs
    for name, kinds in (("layers", (1, 2, 3, 4)), ("batch", (16, 32, 64)), ("rule", ("sgd", "adam"))):
        shares = [np.mean([c[name] == kind for c in found]) for kind in kinds]
        # 4,000 draws: a share leaves this band by chance in one of 10^5 cases.
        assert np.allclose(shares, 1 / len(kinds), atol=0.036) and sum(shares) == pytest.approx(1)
    assert {type(c["layers"]) for c in found} == {int} and {type(c["rate"]) for c in found} == {float}
    assert min(c["width"] for c in found) == 8 and max(c["width"] for c in found) >= 500
    assert np.mean([c["rate"] < 10**-1.5 for c in found]) == pytest.approx(0.5, abs=0.036)


def test_what_a_condition_rules_out_is_left_out(configs):
    for config in configs[0]:
        assert ("momentum" in config) == (config["rule"] == "sgd")
        assert ("shape" in config) == (config["layers"] in (2, 3))


def test_a_configuration_has_coordinates_that_mean_it(configs):
    found, snapped = configs
    again = np.asarray(SPACE.snapped(jnp.array([SPACE.point(c) for c in found[:200]], jnp.float32)))
    assert np.allclose(again, snapped[:200], atol=1e-4)


def test_what_means_the_same_is_the_same_and_only_that(configs):
    found, snapped = configs
    discrete = [tuple((n, v) for n, v in c.items() if n not in ("rate", "momentum")) for c in found]
    kinds = {tuple(row) for row in snapped[:, [1, 2, 3, 4, 6]].tolist()}
    assert len(kinds) == len({*discrete})


def test_a_chain_of_conditions_ends_where_a_parent_does_not_exist():
    space = Space(
        [
            Categorical("a", (0, 1)),
            When(Categorical("b", (0, 1)), "a", (1,)),
            When(Range("c", 0.0, 1.0), "b", (1,)),
        ]
    )
    x = jnp.array([[0.2, 0.9, 0.5], [0.9, 0.2, 0.5], [0.9, 0.9, 0.5]], jnp.float32)
    found = space.configs(space.values(x), space.active(x))
    assert found == [{"a": 0}, {"a": 1, "b": 0}, {"a": 1, "b": 1, "c": 0.5}]
    assert space.point({"a": 0}) == [0.25, 0.5, 0.5]


@given(low=st.integers(-50, 50), width=st.integers(1, 60), u=st.floats(0, 1, width=32))
def test_integers_stay_within_their_ends(low, width, u):
    one = Integers("n", low, low + width)
    low_end, high_end = one.ends
    value = float(np.clip(np.round(low_end + u * (high_end - low_end)), one.low, one.high))
    assert low <= value <= low + width and 0 <= one.of(value) <= 1


@pytest.mark.parametrize(
    ("said", "text"),
    [
        ({}, "needs at least one parameter"),
        ({"a": {"low": 1.0, "high": 0.0}}, r"range 'a'"),
        ({"a": {"low": 0.5, "high": 3, "integer": True}}, r"integers 'a': low must be a whole number"),
        ({"a": {"low": 0, "high": 9, "log": True, "integer": True}}, r"'a': a logarithmic range must be positive"),
        ({"a": {"low": 0.0}}, r"parameter 'a' needs low and high, ordinal, or categorical"),
        ({"a": {"low": 0.0, "high": 1.0, "lag": True}}, r"parameter 'a': unknown option 'lag'; did you mean 'log'"),
        ({"a": {"ordinal": [1]}}, r"ordinal 'a' needs a list of at least two values"),
        ({"a": {"categorical": [1, 1]}}, r"categorical 'a' must not have a value twice"),
        ({"a": {"categorical": [1, True]}}, r"categorical 'a' must not have a value twice"),
        ({"a": {"categorical": [[1], [2]]}}, r"categorical 'a' must have numbers, strings or bools"),
        ({"a": 3}, r"parameter 'a' must be a table"),
        ({"a": {"low": 0, "high": 1, "when": {"b": [1]}}}, r"condition of 'a': unknown parameter 'b'.* before it"),
        (
            {"a": {"low": 0, "high": 1}, "b": {"low": 0, "high": 1, "when": {"a": [0.5]}}},
            r"'a' is a range of floats: conditions are on integers and choices",
        ),
        (
            {"a": {"ordinal": [1, 2]}, "b": {"low": 0, "high": 1, "when": {"a": [3]}}},
            r"condition of 'b' can never hold: 'a' is never 3",
        ),
        ({"a": {"low": 0, "high": 1, "when": {"b": [1], "c": [2]}}}, r"when must be \{ other = \[values\] \}"),
    ],
)
def test_bad_spaces_are_refused(said, text):
    with pytest.raises(ValueError, match=text):
        Space.parse(said)


@pytest.mark.parametrize(
    ("config", "text"),
    [
        ({"rat": 0.1}, r"unknown parameter 'rat'; did you mean 'rate'"),
        ({"rate": 2.0}, r"'rate' must lie in \[0.001, 1\], got 2.0"),
        ({"rate": 0.1}, r"'layers' is missing"),
        ({"rate": 0.1, "layers": 2.5}, r"'layers' must be a whole number in \[1, 4\], got 2.5"),
        ({"rate": 0.1, "layers": 1, "width": 8, "batch": 17}, r"'batch' must be one of \(16, 32, 64\), got 17"),
    ],
)
def test_bad_configurations_are_refused(config, text):
    with pytest.raises(ValueError, match=text):
        SPACE.point(config)
