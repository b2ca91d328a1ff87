"""What only a process of its own can show: what an import does, and what a round gives on two devices.

A child reads pickled requests from standard input and answers them in JSON on standard output: `answers.py` is what it
runs. Answers are kept: those to many requests come from one child when `ask` gets them all at once.
"""

from __future__ import annotations

import dataclasses
import io
import json
import os
import pickle
import subprocess
import sys
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ..core.types import Array

DEVICES = 2
SECONDS = 300
FLAG = "--xla_force_host_platform_device_count"


class ChildError(Exception):
    """A child process that could not answer."""


@dataclasses.dataclass(frozen=True)
class Import:
    """Asks what importing a module does, in a process where only JAX and ev3x are.

    Answers `backend` (one was initialised), `printed` (on standard output), and `changes` of JAX's configuration and
    environment.
    """

    module: str


@dataclasses.dataclass(frozen=True)
class OnDevices:
    """Asks how a round on two devices differs from that on one; answers `difference`, None when it does not.

    `given` are the pickled arguments of the bench of this role.
    """

    role: str
    given: bytes

    @classmethod
    def of(cls, role: str, given: Mapping[str, Any]) -> OnDevices:
        """The question for a bench with these arguments; ChildError when they cannot be sent."""
        file = io.BytesIO()
        try:
            _Pickler(file).dump(dict(given))
        except (pickle.PicklingError, AttributeError, TypeError) as error:
            raise ChildError(
                f"the component cannot be sent to a process with {DEVICES} devices ({error}): define it, and what it "
                "is given, at the top of a module; or run the kit where there are two devices"
            ) from error
        return cls(role, file.getvalue())


Request = Import | OnDevices
_answers: dict[Request, dict[str, Any]] = {}


def ask(*requests: Request) -> list[dict[str, Any]]:
    """The answers, in order; ChildError when a child ended without one."""
    for kind in (Import, OnDevices):
        wanted = [r for r in dict.fromkeys(requests) if isinstance(r, kind) and r not in _answers]
        while wanted:
            found = _told(wanted, _devices() if kind is OnDevices else {})
            _answers.update((r, a) for r, a in zip(wanted, found, strict=True) if "late" not in a)
            wanted = [r for r in wanted if r not in _answers]  # imported after one that initialised a backend
    return [_answers[r] for r in requests]


def _told(requests: Sequence[Request], environment: Mapping[str, str]) -> list[dict[str, Any]]:
    """What a child answers; when it dies of several requests, each is asked alone."""
    # It imports what this process does: -P keeps it from a folder `ev3x` or a jax.py that lies about here.
    path = os.pathsep.join(p or os.getcwd() for p in sys.path)
    try:
        done = subprocess.run(
            [sys.executable, "-P", "-c", "from ev3x.testing.answers import main; main()"],
            input=pickle.dumps(requests),
            env={**os.environ, **environment, "PYTHONPATH": path},
            capture_output=True,
            timeout=SECONDS,
        )
    except subprocess.TimeoutExpired:
        raise ChildError(f"a child process did not answer within {SECONDS} s") from None
    if not done.returncode:
        answers: list[dict[str, Any]] = json.loads(done.stdout)
        return answers
    if len(requests) > 1:
        return [answer for request in requests for answer in _told([request], environment)]
    last = done.stderr.decode(errors="replace").strip().splitlines()[-1:]
    how = f"signal {-done.returncode}" if done.returncode < 0 else f"exit code {done.returncode}"
    raise ChildError(f"the child process ended with {how}: {''.join(last) or 'without a word'}")


def _devices() -> dict[str, str]:
    """The environment of a process with several CPU devices."""
    flags = [f for f in os.environ.get("XLA_FLAGS", "").split() if not f.startswith(FLAG)]
    return {"XLA_FLAGS": " ".join([*flags, f"{FLAG}={DEVICES}"]), "JAX_PLATFORMS": "cpu"}


class _Pickler(pickle.Pickler):
    """Pickles keys of JAX too."""

    def reducer_override(self, value: Any) -> Any:
        if isinstance(value, jax.Array) and jnp.issubdtype(value.dtype, jax.dtypes.prng_key):
            return _key, (str(jax.random.key_impl(value)), np.asarray(jax.random.key_data(value)))
        return NotImplemented


def _key(kind: str, data: Any) -> Array:
    key: Array = jax.random.wrap_key_data(data, impl=kind)
    return key
