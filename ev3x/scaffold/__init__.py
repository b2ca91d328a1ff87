"""Writes new plugin distributions that work at once: `ev3x plugins new`."""

from .create import Written as Written
from .create import create as create
from .names import ScaffoldError as ScaffoldError
