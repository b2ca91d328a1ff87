"""The proposer keeps ev3x's contract; the other one has another hypergradient, and nothing else of its own."""

import ev3x_evograd

import ev3x
from ev3x.testing import check_proposer

SGD = ev3x.Optimizer("sgd", learning_rate=0.1)


def test_it_keeps_the_contract():
    # The kit's tiny task has a hyperparameter to learn, and its explore split a meta split.
    losses = {"loss": "logistic", "meta_loss": "hinge"}
    proposer = ev3x_evograd.EvoGrad(**losses, optimizer=SGD, meta_optimizer=SGD, length=1)
    assert not check_proposer(proposer).having("excused")
