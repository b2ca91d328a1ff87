"""Lexicase selection for ev3x: the candidate that wins the most tournaments over single examples."""

from .assessor import Lexicase as Lexicase
from .shares import selection_shares as selection_shares

__all__ = ["Lexicase", "selection_shares"]
