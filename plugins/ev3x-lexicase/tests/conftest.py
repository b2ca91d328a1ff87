"""Strict JAX in all tests."""

import ev3x

pytest_plugins = ["ev3x.testing.session", "ev3x.testing.distribution"]

ev3x.Host().load("lexicase")  # as a run does that names it: from here on native code is found
