"""Sums that some versions of XLA compile wrongly are noticed, and avoided where the process is ours."""

import os
import subprocess
import sys

import pytest

from ev3x import wrong_sums

LOOK = """
import warnings
from ev3x import wrong_sums
warnings.simplefilter("error")
print(wrong_sums.wrong())
wrong_sums.warn()
"""


def look(flags):
    environment = {**os.environ, "XLA_FLAGS": flags}
    return subprocess.run([sys.executable, "-c", LOOK], env=environment, capture_output=True, text=True)


def test_the_flag_is_set_once_and_only_where_it_is_known():
    environment = {"XLA_FLAGS": "--xla_force_host_platform_device_count=2"}
    wrong_sums.spare(environment)
    wrong_sums.spare(environment)
    added = f" {wrong_sums.OPTION}=" if wrong_sums.concerned() else ""
    assert environment == {"XLA_FLAGS": f"--xla_force_host_platform_device_count=2{added}"}


def test_what_the_user_says_of_the_flag_stays():
    environment = {"XLA_FLAGS": f"{wrong_sums.OPTION}=1"}
    wrong_sums.spare(environment)
    assert environment == {"XLA_FLAGS": f"{wrong_sums.OPTION}=1"}


def test_in_these_tests_sums_are_right():
    assert not wrong_sums.wrong()


@pytest.mark.skipif(not wrong_sums.concerned(), reason="this jaxlib computes sums itself")
def test_wrong_sums_are_told_where_nobody_turned_them_off():
    left, off = look(""), look(f"{wrong_sums.OPTION}=")
    assert off.returncode == 0 and off.stdout == "False\n"
    if left.stdout == "False\n":
        pytest.skip("this jaxlib is newer than the bug")
    assert left.stdout == "True\n" and "WrongSums: jaxlib" in left.stderr and wrong_sums.advice() in left.stderr
