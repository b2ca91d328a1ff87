"""Strict JAX in all tests."""

pytest_plugins = ["ev3x.testing.distribution"]
