"""FDS for ev3x: hyperparameter schedules learned over whole runs, in forward mode (arXiv 2007.07869)."""

from .function import Found as Found
from .function import fds as fds
from .function import random_search as random_search
from .hypergradients import Hypergradient as Hypergradient
from .hypergradients import hypergradient as hypergradient
from .hypergradients import train as train
from .proposers import FDS as FDS
from .proposers import RandomSchedules as RandomSchedules
from .rules import SGD as SGD
from .rules import Rule as Rule
from .rules import chain as chain
from .schedules import Schedule as Schedule
from .schedules import spread as spread

__all__ = [
    "FDS",
    "SGD",
    "Found",
    "Hypergradient",
    "RandomSchedules",
    "Rule",
    "Schedule",
    "chain",
    "fds",
    "hypergradient",
    "random_search",
    "spread",
    "train",
]
