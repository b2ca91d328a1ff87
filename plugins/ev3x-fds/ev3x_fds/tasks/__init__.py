"""Tasks to learn schedules on."""

from .digits import Digits as Digits
