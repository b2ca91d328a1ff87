"""What is left of a run until its limits, also where there is nothing to tell."""

import math

import pytest
from toys import ACCURACY

from ev3x.core.observe import Limits
from ev3x.run import limits
from ev3x.run.summary import Totals

ROW = {"gradient_steps": 4}
DONE = Totals(seconds=8.0, gradient_steps=16)


@pytest.mark.parametrize(
    ("given", "seconds"),
    [
        ({}, None),
        ({"seconds": math.inf}, None),
        ({"target": 0.5}, None),
        ({"seconds": 10.0}, 2.0),
        ({"seconds": 1.0}, 0.0),
        ({"rounds": 10}, 12.0),
        ({"rounds": 10, "seconds": math.inf}, 12.0),
        ({"gradient_steps": 20}, 2.0),
        ({"rounds": 10, "seconds": 10.0}, 2.0),
    ],
)
def test_the_time_left_is_that_of_the_first_finite_limit(given, seconds):
    assert limits.left(Limits(**given), DONE, 4, [ROW] * 2, 4.0) == seconds


def test_a_limit_without_end_is_never_reached():
    endless = Limits(seconds=math.inf)
    assert limits.reached(endless, ACCURACY, Totals(seconds=1e300), [ROW]) is None


def test_rounds_without_steps_tell_nothing_about_the_steps_left():
    assert limits.left(Limits(gradient_steps=20), DONE, 4, [{"gradient_steps": 0}], 1.0) is None
