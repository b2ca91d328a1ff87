"""Every strategy of evosax (Lange, arXiv 2212.04180) as a proposer of ev3x."""

from .options import Numbers as Numbers
from .options import Schedule as Schedule
from .proposer import Search as Search
from .proposer import Strategy as Strategy
from .registry import component as component
from .registry import components as components

__all__ = ["Numbers", "Schedule", "Search", "Strategy", "component", "components"]
