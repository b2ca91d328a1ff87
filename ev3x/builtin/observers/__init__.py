"""Observers: they watch a run."""
