"""Every strategy of evosax (Lange, arXiv 2212.04180) as a proposer of ev3x."""

from .components import component as component
from .components import components as components
from .options import Numbers as Numbers
from .options import Schedule as Schedule
from .proposer import Search as Search
from .proposer import Strategy as Strategy

__all__ = ["Numbers", "Schedule", "Search", "Strategy", "component", "components"]
