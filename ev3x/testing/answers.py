"""What a child process does that is asked by `child.py`: it imports a module, or runs a round on two devices."""

from __future__ import annotations

import contextlib
import importlib
import io
import json
import pickle
import sys
from typing import Any

import jax

from ..devices import backend_is_up
from .bench import Setting
from .child import Import, OnDevices, Request
from .common import divided
from .components import BENCHES


def main() -> None:
    """Answer the requests on standard input."""
    requests: list[Request] = pickle.loads(sys.stdin.buffer.read())
    out = sys.stdout
    with contextlib.redirect_stdout(sys.stderr):
        found = [imported(request) if isinstance(request, Import) else divides(request) for request in requests]
    out.write(json.dumps(found))


def imported(request: Import) -> dict[str, Any]:
    """What importing the module does; `late` where a backend is up already, so that nothing could be seen."""
    if backend_is_up():
        return {"late": True}
    before, printed = Setting.now(), io.StringIO()
    with contextlib.redirect_stdout(printed):
        importlib.import_module(request.module)
    changes, backend = before.changes(Setting.now()), backend_is_up()
    before.restore()
    return {"printed": printed.getvalue(), "changes": changes, "backend": backend}


def divides(request: OnDevices) -> dict[str, Any]:
    """How the round on all devices differs from that on one."""
    return {"difference": divided(BENCHES[request.role](**pickle.loads(request.given)), jax.devices())}
