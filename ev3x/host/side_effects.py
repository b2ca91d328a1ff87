"""Guards the process while a plugin is imported or its hooks run: forbidden side effects are undone and reported."""

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
from ..text import draft

SLOW_SECONDS = 5.0
# These decide how JAX computes, and on which devices. A plugin that changes one changes everyone's results.
VARIABLES = (
    "EV3X_", "JAX_", "XLA_", "LIBTPU_", "CUDA_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES",
    "NVIDIA_TF32_OVERRIDE",
)  # fmt: skip
_log = logging.getLogger("ev3x.plugins")


class SideEffectError(Exception):
    """A plugin changed a setting that all others depend on; the setting was changed back."""


@contextlib.contextmanager
def watched(who: str) -> Iterator[None]:
    """Runs code of a plugin. If the code changed JAX's settings, changes them back and raises SideEffectError.

    Output that the plugin prints goes to the log, and so does a note on an import that takes long or starts JAX's
    backends. Warning filters stay as they are. A file names the plugin that is running, in case the process dies.
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
    """The plugins that were being loaded when their processes died, as far as known; later calls omit them."""
    found: list[str] = []
    notes: list[Path] = []
    with contextlib.suppress(OSError):
        notes = sorted(_crumbs().glob("*.txt"))
    for path in notes:
        with contextlib.suppress(OSError, ValueError):
            if not _alive(int(path.stem)):
                found.append(path.read_text(encoding="utf-8"))
                path.unlink()
    return found


def forget(process: int) -> None:
    """Removes the note of what a process was loading: for a process that was killed on purpose."""
    with contextlib.suppress(OSError):
        (_crumbs() / f"{process}.txt").unlink(missing_ok=True)


def _restore(settings: Mapping[str, Any], environment: Mapping[str, str]) -> list[str]:
    """The names of what was changed since then; all of it is changed back."""
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
            except Exception as error:  # some settings cannot change once the backends have started
                text += f" (it stays so: {error})"
            changed.append(text)
    return changed


def _environment() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if name.startswith(VARIABLES)}


def _crumbs() -> Path:
    return cache.directory() / "loading"


@contextlib.contextmanager
def _crumb(who: str) -> Iterator[None]:
    """Keeps a file with the name of the plugin while the body runs, if the file can be written."""
    path = _crumbs() / f"{os.getpid()}.txt"
    with contextlib.suppress(OSError):
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with draft(path, mode=0o600) as new:
            new.write_text(who, encoding="utf-8", errors="backslashreplace")
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
