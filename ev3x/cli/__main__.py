"""`python -m ev3x.cli`."""

from . import main

main()
