"""Which native targets are in use, and why not: loads `_native`, checks each target, registers it with XLA.

A target is brought up at the first trace that wants it. Whatever goes wrong then, the operation's jnp
definition is used instead and one warning says why. The environment variable EV3X_NATIVE, read at run time,
can be `on` (the default), `off` (always the definition) or `require` (trouble is an error).
"""

import importlib
import importlib.util
import os
import re
import threading
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import jax

MODULE = "ev3x.ops._native"
# XLA's own platform names: register_ffi_target takes any other in silence.
PLATFORMS = ("cpu", "CUDA", "ROCM")

SelfTest = Callable[[str], None]
Version = tuple[int, int]


class NativeError(RuntimeError):
    """A native target is required (EV3X_NATIVE=require) and cannot be used."""


@dataclass(frozen=True)
class FfiTarget:
    """One XLA custom call: name, capsule (or dict of stages) with the handler, XLA's platform name."""

    name: str
    capsule: object
    platform: str = "cpu"


@dataclass(frozen=True)
class Library:
    """The targets that a native module holds, and the FFI version of the headers that it was built with."""

    targets: Mapping[str, FfiTarget]
    ffi_version: Version
    compiler: str


@dataclass(frozen=True)
class TargetStatus:
    """What became of one target: `native`, or `jnp` with the reason."""

    target: str
    platform: str
    state: Literal["native", "jnp"]
    reason: str


class _NotBuilt(Exception):
    """There is no native module, which is a fine way to install ev3x: no warning."""


def load_library() -> Library:
    """The bundled native module's content. A module that is there but does not load raises ImportError."""
    if importlib.util.find_spec(MODULE) is None:
        raise _NotBuilt("built without native code")
    module = importlib.import_module(MODULE)
    targets = {name: FfiTarget(name, capsule) for name, capsule in module.targets().items()}
    return Library(targets, module.FFI_API_VERSION, module.COMPILER)


def runtime_ffi_version() -> Version:
    """XLA's FFI (major, minor) in the jaxlib that runs now, read from the header it ships."""
    text = (Path(jax.ffi.include_dir()) / "xla/ffi/api/c_api.h").read_text()
    found = dict(re.findall(r"#define XLA_FFI_API_(MAJOR|MINOR) (\d+)", text))
    return int(found["MAJOR"]), int(found["MINOR"])


def check_version(built: Version, running: Version) -> None:
    """Returns if a handler built with FFI version `built` runs under `running`; raises RuntimeError if not.

    XLA runs older handlers. A newer one, once registered, stops the whole backend from starting.
    """
    if built[0] != running[0] or built[1] > running[1]:
        raise RuntimeError(
            f"built with XLA FFI {built[0]}.{built[1]}, but this jaxlib has {running[0]}.{running[1]}: "
            "upgrade jaxlib, or reinstall ev3x without --no-build-isolation"
        )


class Registry:
    """Brings up targets one by one, each at most once. Tests make their own with another `load`."""

    def __init__(self, load: Callable[[], Library] = load_library) -> None:
        self._load = load
        self._library: Library | Exception | None = None
        self._declared: dict[str, SelfTest] = {}
        self._status: dict[str, TargetStatus] = {}
        self._lock = threading.RLock()

    def declare(self, target: str, self_test: SelfTest) -> None:
        """Announces a target. `self_test(target)` compares it with its definition, raising on a mismatch."""
        if target in self._declared:
            raise ValueError(f"native target {target!r} is already declared")
        self._declared[target] = self_test

    def ensure(self, target: str, require: bool = False) -> bool:
        """Whether `target` is registered and agrees with its definition; False means: use the definition.

        Safe under any trace. If required, here or by EV3X_NATIVE, False becomes a NativeError.
        """
        mode = _mode()
        if mode == "off" and not require:
            return False
        with self._lock:
            if target not in self._status:
                self._status[target] = self._bring_up(target)
            status = self._status[target]
        if status.state == "jnp" and (require or mode == "require"):
            raise NativeError(f"native target {target!r} is required but not usable: {status.reason}")
        return status.state == "native"

    def status(self) -> list[TargetStatus]:
        """One record per declared target, after bringing up those not yet tried."""
        if _mode() == "off":
            return [TargetStatus(name, "cpu", "jnp", "EV3X_NATIVE=off") for name in self._declared]
        for name in self._declared:
            with self._lock:
                if name not in self._status:
                    self._status[name] = self._bring_up(name)
        return [self._status[name] for name in self._declared]

    def _bring_up(self, name: str) -> TargetStatus:
        platform = "cpu"
        try:
            library = self._get_library()
            target = library.targets[name]
            platform = target.platform
            _register(target, library.ffi_version)
            # Concrete even while an outer function is traced.
            with jax.ensure_compile_time_eval():
                self._declared[name](name)
        except _NotBuilt as absence:
            return TargetStatus(name, platform, "jnp", str(absence))
        except Exception as error:
            reason = " ".join(f"{type(error).__name__}: {error}".split())
            warnings.warn(
                f"ev3x: native target {name} is not used, its jnp definition is: {reason}",
                RuntimeWarning,
                stacklevel=2,
            )
            return TargetStatus(name, platform, "jnp", reason)
        reason = f"XLA FFI {library.ffi_version[0]}.{library.ffi_version[1]}, compiler {library.compiler}"
        return TargetStatus(name, platform, "native", reason)

    def _get_library(self) -> Library:
        if self._library is None:
            try:
                self._library = self._load()
            except Exception as error:  # remembered: a broken library is not loaded once per target
                self._library = error
        if isinstance(self._library, Exception):
            raise self._library
        return self._library


def _mode() -> str:
    mode = os.environ.get("EV3X_NATIVE", "on").lower() or "on"
    if mode not in ("on", "off", "require"):
        raise ValueError(f"the environment variable EV3X_NATIVE must be on, off or require, got {mode!r}")
    return mode


def _register(target: FfiTarget, ffi_version: Version) -> None:
    if target.platform not in PLATFORMS:
        raise ValueError(f"platform must be one of {PLATFORMS}, got {target.platform!r}")
    check_version(ffi_version, runtime_ffi_version())
    # With the backend up, XLA refuses a bad or duplicate handler here; before, it would fail to start later.
    jax.local_devices(backend=target.platform.lower())
    jax.ffi.register_ffi_target(target.name, target.capsule, platform=target.platform)


_registry = Registry()
declare = _registry.declare
ensure = _registry.ensure
status = _registry.status
