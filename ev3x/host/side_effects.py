"""A watch over plugins while they are imported or asked what they offer: what they may not do is undone and told."""

from __future__ import annotations

import contextlib
import io
import logging
import os
import threading
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from .. import cache
from ..devices import backend_is_up

SLOW_SECONDS = 5.0
# What decides how JAX computes, and on what. A plugin that changes it changes the results of everyone.
VARIABLES = (
    "EV3X_", "JAX_", "XLA_", "LIBTPU_", "CUDA_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES",
    "NVIDIA_TF32_OVERRIDE",
)  # fmt: skip
_log = logging.getLogger("ev3x.plugins")


class SideEffectError(Exception):
    """A plugin has changed what all others depend on; it was changed back."""


@contextlib.contextmanager
def watched(who: str) -> Iterator[None]:
    """Runs code of a plugin. Raises SideEffectError after it if JAX's settings were changed, which it changes back.

    What is printed goes to the log. An import that takes long, and one that starts JAX's backends, is told there too.
    Warning filters stay as they are. A file says which plugin is being run, for the case that the process dies.
    """
    import jax

    settings, environment, idle = dict(jax.config.values), _environment(), not backend_is_up()
    printed = io.StringIO()
    slow = threading.Timer(SLOW_SECONDS, _log.warning, [f"{who} has been loading for {SLOW_SECONDS:.0f} s"])
    slow.daemon = True
    slow.start()
    failed = True
    try:
        with _crumb(who), warnings.catch_warnings(), contextlib.redirect_stdout(printed):
            yield
        failed = False
    finally:
        slow.cancel()
        changed = ", ".join(_restore(settings, environment))
        if printed.getvalue():
            _log.info("%s printed: %s", who, printed.getvalue().rstrip())
        if changed and failed:
            _log.warning("%s changed %s: changed back", who, changed)
    if changed:
        raise SideEffectError(f"it changed {changed}, which is for the program alone to set: changed back")
    if idle and backend_is_up():
        _log.warning("%s starts JAX's backends when it is loaded: settings made after it have no effect", who)


def last_words() -> list[str]:
    """The plugins that were being loaded when their processes died, as far as it is known; and forgets them."""
    found = []
    for path in sorted(_crumbs().glob("*.txt")):
        with contextlib.suppress(OSError, ValueError):
            if not _alive(int(path.stem)):
                found.append(path.read_text(encoding="utf-8"))
                path.unlink()
    return found


def forget(process: int) -> None:
    """Forgets what a process was loading that was made to die."""
    with contextlib.suppress(OSError):
        (_crumbs() / f"{process}.txt").unlink(missing_ok=True)


def _restore(settings: Mapping[str, Any], environment: Mapping[str, str]) -> list[str]:
    """Undo what was changed since then, and say what it was."""
    import jax

    changed = []
    now = _environment()
    for name in sorted(now.keys() | environment.keys()):
        if now.get(name) != environment.get(name):
            changed.append(f"the variable {name} from {environment.get(name)!r} to {now.get(name)!r}")
            os.environ.pop(name, None)
            if name in environment:
                os.environ[name] = environment[name]
    for name, value in dict(jax.config.values).items():
        if name in settings and value != settings[name]:
            text = f"{name} from {settings[name]!r} to {value!r}"
            try:
                jax.config.update(name, settings[name])
            except Exception as error:  # some cannot be set any more once the backends are up
                text += f" (it stays so: {error})"
            changed.append(text)
    return changed


def _environment() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if name.startswith(VARIABLES)}


def _crumbs() -> Path:
    return cache.directory() / "loading"


@contextlib.contextmanager
def _crumb(who: str) -> Iterator[None]:
    """A file with these words for as long as this lasts, if it can be written at all."""
    path = _crumbs() / f"{os.getpid()}.txt"
    with contextlib.suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(who, encoding="utf-8")
    try:
        yield
    finally:
        with contextlib.suppress(OSError):
            path.unlink(missing_ok=True)


def _alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True
