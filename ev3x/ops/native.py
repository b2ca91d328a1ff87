"""Which native targets are in use, and why not: gathers what is offered, checks each target, registers it with XLA.

A target is brought up at the first trace that wants it: its handler is asked for the FFI version that it was built
with, it is registered once the backend is up, and tried on tiny inputs (`self_tests`). Whatever goes wrong, the
definition is used instead, and one warning says why. The environment variable EV3X_NATIVE, read at run time, can
be `on` (the default), `off` (always the definition) or `require` (trouble is an error); `using` overrides it.
EV3X_ISA names an instruction set to use instead of the machine's best, as `ev3x doctor` lists them.
"""

import contextlib
import importlib
import importlib.util
import os
import re
import threading
import time
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

import jax

from ..ffi import PLATFORMS, FfiTarget, SelfTest, Version, check_version, probe

MODULE = "ev3x.ops._native"
OWNER, NOBODY = "ev3x", "nobody"

Mode = Literal["auto", "off", "require"]
Key = tuple[str, str]


@dataclass(frozen=True)
class Library:
    """What the bundled native module holds: capsules by target, how it was built, and what runs of it here."""

    targets: Mapping[str, object]
    ffi_version: Version
    compiler: str
    isa: str
    isas: tuple[str, ...]


@dataclass(frozen=True)
class TargetStatus:
    """What became of one target: `native`, or `jnp` with the reason, which is a `fault` unless it was to be expected.

    `owner` is the distribution that offers the target; `seconds` is what its self-test took, None if there was none.
    """

    target: str
    platform: str
    state: Literal["native", "jnp"]
    reason: str
    owner: str = OWNER
    seconds: float | None = None
    fault: bool = False


@dataclass(frozen=True)
class Offers:
    """What a plugin offers as native targets. `offers(platform)` is asked once per platform, when its backend is up."""

    name: str
    owner: str
    offers: Callable[[str], Iterable[FfiTarget]]


class NativeError(RuntimeError):
    """Native code is required and cannot be used; the text names every target in question, and why."""

    def __init__(self, by: str, unusable: Sequence[TargetStatus]) -> None:
        reasons: dict[str, list[str]] = {}
        for status in unusable:
            reasons.setdefault(status.reason, []).append(repr(status.target))
        each = "; ".join(f"{', '.join(names)}: {reason}" for reason, names in reasons.items())
        super().__init__(f"{by}, but native code cannot be used for {each}")


class NativeWarning(UserWarning):
    """Native code is there and cannot be used; definitions take its place."""


class _NotBuilt(Exception):
    """There is no native module, which is a fine way to install ev3x: no warning."""


class _Use:
    """What is traced inside of `using`: its mode, and the targets that are required and missing."""

    def __init__(self, mode: Mode) -> None:
        self.mode = mode
        self.missing: dict[Key, TargetStatus] = {}


_use: ContextVar[_Use | None] = ContextVar("use", default=None)


def checked(mode: Mode) -> Mode:
    """The mode, or ValueError if there is no such one."""
    if mode not in get_args(Mode):
        raise ValueError(f"native must be one of {', '.join(map(repr, get_args(Mode)))}, got {mode!r}")
    return mode


@contextlib.contextmanager
def using(mode: Mode) -> Iterator[None]:
    """What is traced inside uses native code where it can (`auto`), never (`off`), or must (`require`).

    `auto` leaves it to what is outside, in the end to EV3X_NATIVE; the others stand above it. Where native code is
    required, NativeError at the end names every target that was wanted inside and cannot be used.
    """
    outer = _use.get()
    use = _Use(outer.mode if outer is not None and checked(mode) == "auto" else checked(mode))
    token = _use.set(use)
    try:
        yield
    finally:
        _use.reset(token)
    if use.missing:
        raise NativeError(_mode(use)[1], list(use.missing.values()))


def load_library() -> Library:
    """The bundled native module's content. A module that is there but does not load raises ImportError."""
    if importlib.util.find_spec(MODULE) is None:
        raise _NotBuilt("built without native code")
    module = importlib.import_module(MODULE)
    if wanted := os.environ.get("EV3X_ISA"):
        module.use_isa(wanted)
    return Library(module.targets(), module.FFI_API_VERSION, module.COMPILER, module.isa(), tuple(module.isas()))


def runtime_ffi_version() -> Version:
    """XLA's FFI (major, minor) in the jaxlib that runs now, read from the header it ships."""
    # jaxlib tells it nowhere else.
    text = (Path(jax.ffi.include_dir()) / "xla/ffi/api/c_api.h").read_text(encoding="utf-8")
    found = dict(re.findall(r"#define XLA_FFI_API_(MAJOR|MINOR) (\d+)", text))
    return int(found["MAJOR"]), int(found["MINOR"])


class Registry:
    """The targets of a process: what is offered, by whom, and what became of it. Tests make their own."""

    def __init__(self, load: Callable[[], Library] = load_library) -> None:
        self._load = load
        self._library: Library | Exception | None = None
        self._declared: dict[str, SelfTest] = {}
        self._sources: dict[str, Offers] = {}
        self._asked: set[Key] = set()
        self._offered: dict[Key, tuple[Offers, FfiTarget]] = {}
        self._waiting: dict[Key, str] = {}
        self._status: dict[Key, TargetStatus] = {}
        self._said: set[str] = set()
        self._lock = threading.RLock()
        self.faults: list[str] = []

    def declare(self, target: str, self_test: SelfTest) -> None:
        """Announces a bundled target. `self_test(target)` compares it with its definition, raising on a mismatch."""
        if target in self._declared:
            raise ValueError(f"native target {target!r} is already declared")
        self._declared[target] = self_test

    def attach(self, source: Offers) -> None:
        """Adds what a plugin offers; a second source of the same name changes nothing."""
        with self._lock:
            self._sources.setdefault(source.name, source)

    def ensure(self, target: str, platform: str = "cpu") -> bool:
        """Whether `target` is registered and agrees with its definition; False means: use the definition.

        Safe under any trace. Where native code is required, a target that cannot be used is a NativeError: here, or
        inside of `using` at its end.
        """
        use = _use.get()
        mode, by = _mode(use)
        if mode == "off" or not here(platform):
            return False
        status = self._find((target, platform))
        if status.state == "native":
            return True
        if mode == "on":
            self._tell(status)
        elif use is None:
            raise NativeError(by, [status])
        else:
            use.missing[target, platform] = status
        return False

    def status(self) -> list[TargetStatus]:
        """One record per target that is offered; those for a platform of this process are brought up first."""
        mode, by = _mode(_use.get())
        if mode == "off":
            return [TargetStatus(name, "cpu", "jnp", by) for name in self._declared]
        with self._lock:
            for platform in filter(here, PLATFORMS):
                self._ask(platform)
            keys = [*((name, "cpu") for name in self._declared), *self._offered]
            waiting = [
                TargetStatus(*key, "jnp", f"no {key[1]} device is here", who) for key, who in self._waiting.items()
            ]
            return [*(self._find(key) for key in dict.fromkeys(keys)), *waiting]

    def look(self, target: str, platform: str = "cpu") -> TargetStatus:
        """What became of one target, which is brought up if it has not been."""
        if not here(platform):
            return TargetStatus(target, platform, "jnp", f"no {platform} device is here", NOBODY)
        return self._find((target, platform))

    def library(self) -> Library:
        """The bundled native module, or what is wrong with it, the same each time."""
        with self._lock:
            if self._library is None:
                try:
                    self._library = self._load()
                except Exception as error:  # remembered: a broken library is not loaded once per target
                    self._library = error
        if isinstance(self._library, Exception):
            raise self._library
        return self._library

    def _find(self, key: Key) -> TargetStatus:
        # The thread that waits for the self-test holds the lock: to ask for a target here would be to wait for ever.
        if _trial.under_way:
            raise RuntimeError("a self-test asks for a native target: it must compare the custom call itself")
        with self._lock:
            self._ask(key[1])
            if key not in self._status and not self._bundled(key) and key not in self._offered:
                # Not kept: a plugin that is loaded later may offer it. One without native code is no fault.
                elsewhere = [
                    f"{who} offers it for {p} alone" for (name, p), who in self._waiting.items() if name == key[0]
                ]
                reason = "; ".join([*(elsewhere or ["no plugin that has been loaded offers it"]), *self.faults])
                return TargetStatus(*key, "jnp", reason, NOBODY)
            if key not in self._status:
                self._status[key] = self._bring_up(key)
            return self._status[key]

    def _ask(self, platform: str) -> None:
        """Gathers what plugins offer for a platform that is here."""
        for source in list(self._sources.values()):
            if (source.name, platform) in self._asked:
                continue
            self._asked.add((source.name, platform))  # also one that fails: it is told once
            try:
                # A trace may be under way, of which nothing that a plugin computes here is to be a part.
                with jax.ensure_compile_time_eval():
                    targets = list(source.offers(platform))
            except Exception as error:  # the host words it
                self.faults.append(str(error))
                continue
            for target in targets:
                if target.platform == platform:
                    self._offer(source, target)
                elif not here(target.platform):
                    self._waiting[target.name, target.platform] = source.owner

    def _offer(self, source: Offers, target: FfiTarget) -> None:
        """Adds one target. A name that is offered twice is used by nobody: whose handler it is would be chance."""
        key = (target.name, target.platform)
        if not self._bundled(key) and key not in self._offered:
            self._offered[key] = (source, target)
            return
        name = OWNER if self._bundled(key) else self._offered[key][0].name
        reason = f"offered by {name} and by {source.name}; uninstall one of them"
        self._status[key] = TargetStatus(*key, "jnp", reason, f"{self._owner(key)}, {source.owner}", fault=True)

    def _bring_up(self, key: Key) -> TargetStatus:
        name, platform = key
        owner = self._owner(key)
        # XLA forgets no target. One that is registered and fails its self-test stays, and no program calls it.
        try:
            target = self._target(key)
            built = self._register(target, owner)
            start = time.perf_counter()
            _apart(target.self_test, name)
            seconds = time.perf_counter() - start
        except _NotBuilt as absence:
            return TargetStatus(name, platform, "jnp", str(absence), owner)
        except (Exception, SystemExit) as error:  # whatever a plugin does, there is its definition to go on with
            reason = " ".join(f"{type(error).__name__}: {error}".split())
            return TargetStatus(name, platform, "jnp", reason, owner, fault=True)
        return TargetStatus(name, platform, "native", f"built with XLA FFI {built[0]}.{built[1]}", owner, seconds)

    def _target(self, key: Key) -> FfiTarget:
        if key in self._offered:
            return self._offered[key][1]
        name, library = key[0], self.library()
        if name not in library.targets:
            raise RuntimeError("the native module does not hold it: it is not of these sources; install ev3x again")
        return FfiTarget(name, library.targets[name], self._declared[name])

    def _bundled(self, key: Key) -> bool:
        return key[1] == "cpu" and key[0] in self._declared

    def _owner(self, key: Key) -> str:
        return self._offered[key][0].owner if key in self._offered else OWNER

    def _register(self, target: FfiTarget, owner: str) -> Version:
        """The FFI version that the target was built with, once XLA knows it."""
        built = probe(target.handler)
        way = (
            "reinstall ev3x without --no-build-isolation" if owner == OWNER else f"get {owner} built with older headers"
        )
        check_version(built, runtime_ffi_version(), way)
        # The backend is up, so XLA refuses a bad or duplicate handler here; before, it would fail to start later.
        try:
            jax.ffi.register_ffi_target(target.name, target.handler, platform=target.platform)
        except jax.errors.JaxRuntimeError as error:
            if "API version" not in str(error):
                raise
            way = f"downgrade jaxlib, or get {owner} built with newer headers"
            raise RuntimeError(f"built with XLA FFI {built[0]}.{built[1]}: {way} ({error})") from error
        return built

    def _tell(self, status: TargetStatus) -> None:
        """Warns of a fault that leads to a definition: once per target, and once for what stops several."""
        texts = []
        if status.fault and status.owner == OWNER and isinstance(self._library, Exception):
            texts = [f"native code is not used, the jnp definitions are: {status.reason}"]
        elif status.fault:
            owner = "" if status.owner == OWNER else f" of {status.owner}"
            texts = [f"native target {status.target}{owner} is not used, its jnp definition is: {status.reason}"]
        elif status.owner == NOBODY:
            texts = [f"{fault}; its jnp definitions are used" for fault in self.faults]
        for text in texts:
            if text not in self._said:
                self._said.add(text)
                warnings.warn(f"ev3x: {text}", NativeWarning, stacklevel=2)


def _mode(use: _Use | None) -> tuple[Literal["on", "off", "require"], str]:
    """The mode that holds, and who says so."""
    if use is not None and use.mode != "auto":
        return use.mode, f'native = "{use.mode}"'
    mode = os.environ.get("EV3X_NATIVE", "on").lower() or "on"
    if mode not in ("on", "off", "require"):
        raise ValueError(f"the environment variable EV3X_NATIVE must be on, off or require, got {mode!r}")
    return mode, f"EV3X_NATIVE={mode}"  # type: ignore[return-value]


class _Trial(threading.local):
    """Whether this thread runs a self-test."""

    under_way = False


_trial = _Trial()


def _apart(self_test: SelfTest, name: str) -> None:
    """Runs a self-test in a thread of its own: without the caller's trace, mesh and debugging."""
    # Traces and meshes belong to a thread. debug_nans and the like may be set for all, and results do hold NaN.
    raised: list[BaseException] = []

    def run() -> None:
        _trial.under_way = True
        try:
            with jax.debug_nans(False), jax.debug_infs(False), jax.transfer_guard("allow"):
                self_test(name)
        except BaseException as error:  # threads print what ends them, and go on as if nothing had been
            raised.append(error)

    thread = threading.Thread(target=run, name=f"self-test of {name}")
    thread.start()
    thread.join()
    if raised:
        raise raised[0]


def here(platform: str) -> bool:
    """Whether this process has devices of a platform; its backend is up then."""
    if platform not in PLATFORMS:
        raise ValueError(f"platform must be one of {PLATFORMS}, got {platform!r}")
    try:
        return bool(jax.local_devices(backend=platform.lower()))
    except RuntimeError:
        return False


registry = Registry()


def declare(target: str, self_test: SelfTest) -> None:
    """Announces a bundled target to this process's registry; see `Registry.declare`."""
    registry.declare(target, self_test)


def ensure(target: str, platform: str = "cpu") -> bool:
    """Whether `target` can be used in this process; see `Registry.ensure`."""
    return registry.ensure(target, platform)


def status() -> list[TargetStatus]:
    """What became of every target of this process; see `Registry.status`."""
    return registry.status()


def version() -> str:
    """The native code that results depend on, in a few words: "off", "none", or its instruction set and compiler."""
    if _mode(_use.get())[0] == "off":
        return "off"
    try:
        library = registry.library()
    except Exception:  # said where a target is asked for
        return "none"
    return f"{library.isa}, compiler {library.compiler}"
