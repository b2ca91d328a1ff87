"""A proposer and a task keep the contract. The other proposer has another hypergradient, the other task other data."""

import ev3x_evograd
from ev3x_evograd.tasks import RotatedDigits

import ev3x
from ev3x.testing import check_proposer, check_task

SGD = ev3x.Optimizer("sgd", learning_rate=0.1)


def left_out(report):
    return [record.name for record in report.having("excused")]


def test_a_proposer_keeps_the_contract():
    # The kit's tiny task has a hyperparameter to learn, and its explore split a meta split.
    losses = {"loss": "logistic", "meta_loss": "hinge"}
    proposer = ev3x_evograd.EvoGrad(**losses, optimizer=SGD, meta_optimizer=SGD, length=1)
    assert left_out(check_proposer(proposer)) == []


def test_a_task_keeps_the_contract():
    assert left_out(check_task(RotatedDigits())) == ["growths"]  # it names none
