"""EvoGrad for ev3x: hyperparameters learned with first-order gradients while the model trains (arXiv 2106.10575)."""

from .hypergradients import Hypergradient as Hypergradient
from .hypergradients import evograd as evograd
from .hypergradients import one_step as one_step
from .proposers import EvoGrad as EvoGrad
from .proposers import HyperLearner as HyperLearner
from .proposers import OneStep as OneStep

__all__ = ["EvoGrad", "HyperLearner", "Hypergradient", "OneStep", "evograd", "one_step"]
