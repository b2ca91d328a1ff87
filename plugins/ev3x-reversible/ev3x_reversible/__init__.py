"""Reversible learning for ev3x: exact hypergradients of whole training runs in little memory (arXiv 1502.03492)."""

from .proposers import Reversible as Reversible
from .tape import Tape as Tape
from .training import Gradient as Gradient
from .training import Hypergradient as Hypergradient
from .training import hypergradient as hypergradient
from .training import record as record
from .training import rewind as rewind
from .training import train as train

__all__ = ["Gradient", "Hypergradient", "Reversible", "Tape", "hypergradient", "record", "rewind", "train"]
