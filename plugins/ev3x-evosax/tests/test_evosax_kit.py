"""The proposers keep ev3x's contract: a population, and a distribution in a subspace."""

import ev3x_evosax
import pytest

from ev3x.testing import ask_ahead, check_proposer

PROPOSERS = {
    "population": ev3x_evosax.component("simple_ga")(population=4),
    "distribution": ev3x_evosax.component("sep_cma_es")(population=4, view="subspace", dimensions=3),
}


@pytest.fixture(scope="module", autouse=True)
def _asked_at_once():
    ask_ahead(PROPOSERS.values())


@pytest.mark.parametrize("name", PROPOSERS)
def test_it_keeps_the_contract(name):
    assert not check_proposer(PROPOSERS[name]).having("excused")
