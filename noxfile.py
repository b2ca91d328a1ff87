"""The matrix to run by hand: `nox` runs the tests on every Python with the oldest and the newest JAX it gets."""

import nox

nox.options.default_venv_backend = "venv"
OLDEST = ("jax==0.7.0", "jaxlib==0.7.0")


@nox.session(python=["3.11", "3.12", "3.13"])
@nox.parametrize("jax", ["oldest", "newest"])
def tests(session: nox.Session, jax: str) -> None:
    """The tests against the installed wheel."""
    session.install(".[test]", *(OLDEST if jax == "oldest" else ()))
    session.run("pytest", "-n", "2", *session.posargs)


@nox.session(python="3.11")
def pure(session: nox.Session) -> None:
    """The tests against an install without native code."""
    session.install(".[test]", env={"EV3X_NATIVE": "OFF"})
    session.run("pytest", "-n", "2", *session.posargs)
