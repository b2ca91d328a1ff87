"""Populations that search, for ev3x: DEHB, differential evolution with Hyperband (arXiv 2105.09821)."""

from .brackets import Bracket as Bracket
from .brackets import brackets as brackets
from .dehb import DEHB as DEHB
from .dehb import State as State
from .dehb import Trials as Trials
from .dehb import ask as ask
from .dehb import init as init
from .dehb import tell as tell
from .dehb import warm as warm
from .search import Asked as Asked
from .search import Found as Found
from .search import Search as Search
from .search import minimize as minimize
from .space import Categorical as Categorical
from .space import Integers as Integers
from .space import Ordinal as Ordinal
from .space import Space as Space
from .space import When as When

__all__ = [
    "DEHB",
    "Asked",
    "Bracket",
    "Categorical",
    "Found",
    "Integers",
    "Ordinal",
    "Search",
    "Space",
    "State",
    "Trials",
    "When",
    "ask",
    "brackets",
    "init",
    "minimize",
    "tell",
    "warm",
]
