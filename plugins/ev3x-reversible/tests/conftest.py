"""Strict JAX in all tests."""

pytest_plugins = ["ev3x.testing.session", "ev3x.testing.distribution"]
