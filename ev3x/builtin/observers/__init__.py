"""Observers: what can watch a run."""
