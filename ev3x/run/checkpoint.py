"""Saving and restoring a whole run as one Orbax tree: arrays by name, no pickle, no code.

    run        key, round, position in the decide split, current and incumbent variables, aims
    plugins    `plugin@API version`: the states of its proposers, adapters and budget
    streams    positions of streamed data
    history    the records of all rounds

Beside it stand digests of all of this (`digests.py`), which are checked before anything that was read is used.
Every leaf is stored under its path, such as `model/incumbent/params/Dense_0/kernel`.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import itertools
import logging
import os
import re
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp

from ..core.types import PyTree, Record, State
from ..text import command, shown, why
from ..values import twice
from .digests import broken, seal
from .directory import check_path, check_place
from .shapes import check_checkpoint, check_meta
from .sizes import too_large

TRIED = 50  # checkpoints before one that cannot be used


class CheckpointError(Exception):
    """A checkpoint cannot be read, or does not belong to this run."""


class PlaceError(CheckpointError):
    """The first checkpoint of a run cannot be read back: no run can be kept at this place."""


@dataclasses.dataclass(frozen=True)
class Saved:
    """A checkpoint as it was read: arrays by path."""

    run: Mapping[str, Any]
    plugins: Mapping[str, Mapping[str, Any]]
    streams: Mapping[str, np.ndarray[Any, Any]]
    records: Mapping[str, Any]
    meta: Mapping[str, Any]
    digests: Mapping[str, str]

    def state(self, like: State, homes: Mapping[str, str], *, drop: bool = False) -> State:
        """The state, in the structure of `like`; CheckpointError says what does not fit.

        `homes` gives, by label, the branch of `plugins` that holds the state of a component. With `drop`, plugins whose
        saved states do not fit keep the states of `like`, with a warning each.
        """
        misfits = self.misfits(like, homes)
        if misfits and ("" in misfits or not drop):
            way = "" if "" in misfits else ", or let these plugins start anew: `ev3x resume RUN --drop-plugin-state`"
            raise CheckpointError(
                f"the checkpoint does not fit this configuration: {'; '.join(misfits.values())}; "
                f"go back to what it was saved with{way}"
            )
        for text in misfits.values():
            warnings.warn(f"starts anew: {text}", stacklevel=2)
        found = {}
        for path, leaf in zip(paths(like), jax.tree.leaves(like), strict=True):
            branch = _branch(path, homes)
            home = self.plugins.get(branch, {}) if branch else self.run
            if branch in misfits:
                found[path] = _raw(leaf)
            elif path in home:
                found[path] = home[path]
        return fill(like, found)

    def misfits(self, like: State, homes: Mapping[str, str]) -> dict[str, str]:
        """The branches that differ from `like`, and why; the branch of the run itself is ""."""
        found: dict[str, list[str]] = {}
        for path, leaf in zip(paths(like), jax.tree.leaves(like), strict=True):
            branch = _branch(path, homes)
            home = self.plugins.get(branch, {}) if branch else self.run
            if np.prod(leaf.shape) and (fault := _misfit(path, leaf, home.get(path))):
                found.setdefault(branch, []).append(fault)
        known = set(paths(like))
        for branch in dict.fromkeys(homes.values()):
            for path in sorted(self.plugins.get(branch, {}).keys() - known):
                found.setdefault(branch, []).append(f"{path} is there no more")
        words = {}
        for branch, faults in found.items():
            plugin = branch.partition("@")[0]
            others = [b for b in self.plugins if b.partition("@")[0] == plugin and branch not in self.plugins]
            text = f"its states were saved by {others[0]}, it is {branch} now" if others else "; ".join(faults)
            words[branch] = f"plugin {plugin!r}: {text}" if branch else text
        return words

    def history(self, like: Record) -> Record | None:
        """The records of all rounds, each in the structure of `like`; None before the first."""
        if not self.records:
            return None
        n = len(next(iter(self.records.values())))
        return fill(jax.tree.map(lambda x: jax.ShapeDtypeStruct((n, *x.shape), x.dtype), like), self.records)

    def incumbent(self) -> dict[str, np.ndarray[Any, Any]]:
        """The incumbent's variables by path; types that numpy does not know (bfloat16) become float32."""
        head = "model/incumbent/"
        arrays = {path.removeprefix(head): np.asarray(x) for path, x in self.run.items() if path.startswith(head)}
        return {path: x if x.dtype.isbuiltin == 1 else x.astype(np.float32) for path, x in arrays.items()}


class Checkpoints:
    """The last two checkpoints of one run; a checkpoint on disk is always complete."""

    def __init__(self, directory: Path, homes: Mapping[str, str]) -> None:
        self._directory = directory
        self._homes = homes
        self._at: int | None = None
        check_path(directory)
        options = ocp.CheckpointManagerOptions(
            max_to_keep=2, enable_async_checkpointing=False, create=True, cleanup_tmp_directories=True
        )
        try:
            with _quiet():
                self._manager = ocp.CheckpointManager(directory.absolute(), options=options)
        except OSError as error:
            raise CheckpointError(f"checkpoints cannot be written to {shown(directory)}: {why(error)}") from error

    def goes_on(self, saved: Saved) -> None:
        """Take this checkpoint, which was read from here, for the last one that was saved."""
        self._at = int(saved.run["round"])

    def save(
        self,
        state: State,
        history: Record | None,
        positions: Mapping[str, np.ndarray[Any, Any]],
        meta: Mapping[str, Any],
    ) -> None:
        """Write the state of the run, unless this round is saved already; CheckpointError if it was not written."""
        step = int(state.round)
        if step == self._at:
            return
        tree: dict[str, Any] = {"run": {}, "plugins": {}}
        for path, leaf in leaves(state).items():
            branch = _branch(path, self._homes)
            home = tree["plugins"].setdefault(branch, {}) if branch else tree["run"]
            home[path] = np.asarray(leaf)  # numpy arrays can be read on a machine with other devices
        tree |= {"streams": dict(positions), "history": leaves(history)}
        saved = {name: branch for name, branch in tree.items() if branch}
        sealed = seal(step, saved, meta)
        self._write(step, saved, sealed)
        if self._at is None:
            self._read_back(step, saved, sealed)
        self._at = step

    def _write(self, step: int, tree: Mapping[str, Any], sealed: Mapping[str, Any]) -> None:
        """Write the checkpoint. Orbax writes nothing, and says nothing, where one of this number or a later one is."""
        head = f"checkpoint {step} cannot be written to {shown(self._directory)}"
        later = [n for n in _steps(self._directory) if n >= step]
        if later == [step] and self._holds(step, tree, sealed):  # what came after it was interrupted
            return
        if later:
            there = shown(self._directory / str(later[-1]))
            raise CheckpointError(f"{head}: {there} is there, which this run did not save; move it away")
        args = ocp.args.Composite(tree=ocp.args.StandardSave(tree), meta=ocp.args.JsonSave(dict(sealed)))
        try:
            check_place(self._directory.parent)
            with _quiet():
                written = self._manager.save(step, args=args)
        except Exception as error:
            raise CheckpointError(f"{head}: {_said(error)}; earlier ones are kept") from error
        if not written:
            raise CheckpointError(f"{head}: Orbax did not save it; earlier ones are kept")

    def _holds(self, step: int, tree: Mapping[str, Any], sealed: Mapping[str, Any]) -> bool:
        with contextlib.suppress(CheckpointError):
            return _read(self._directory, step, _bytes(tree)).digests == sealed["arrays"]
        return False

    def _read_back(self, step: int, tree: Mapping[str, Any], sealed: Mapping[str, Any]) -> None:
        """Raise PlaceError unless what was written can be read: some places take everything and give nothing back."""
        try:
            same = _read(self._directory, step, _bytes(tree)).digests == sealed["arrays"]
            fault = "" if same else "it is not what was written"
        except CheckpointError as error:
            fault = str(error)
        if fault:
            where = shown(self._directory)
            raise PlaceError(f"checkpoints in {where} cannot be read back, choose another --out: {fault}")


def load(directory: Path) -> Saved | None:
    """The last checkpoint in a directory, None when there is none; CheckpointError when it is not what was saved.

    Writes nothing, so it does not disturb a run that is using this directory. The error names the last sound one.
    """
    return _load(directory, lambda saved: None, None)


def _load(directory: Path, fault: Callable[[Saved], str | None], size: int | None) -> Saved | None:
    check_path(directory)
    steps = _steps(directory)
    if not steps:
        return None
    try:
        return _sound(directory, steps[-1], fault, size)
    except CheckpointError as error:
        way = way_back(directory, fault, size) or f"no other in {shown(directory)} is sound"
        raise CheckpointError(f"{error}; {way}") from error


def way_back(directory: Path, fault: Callable[[Saved], str | None], size: int | None = None) -> str | None:
    """How to go back to the newest sound checkpoint before the last, one in which there is no `fault`; None without.

    What is told deletes nothing. Of very many, as no run leaves them, the last ones are tried.
    """
    steps = _steps(directory)
    for step in reversed([n for n in steps[:-1] if (directory / str(n)).is_dir()][-TRIED:]):
        with contextlib.suppress(CheckpointError):
            _sound(directory, step, fault, size)
            commands = [
                command("mkdir", "-p", away := _aside(directory)),
                command("mv", *(directory / str(n) for n in steps if n > step), away),
            ]
            return f"checkpoint {step} is sound, to go back to it: `{' && '.join(commands)}`"
    return None


def _aside(directory: Path) -> Path:
    """A folder that is not there yet: in one with a checkpoint of the same number, nothing could be put."""
    names = itertools.chain(["damaged"], (f"damaged-{i}" for i in itertools.count(2)))
    return next(path for name in names if not os.path.lexists(path := directory / name))


def _sound(directory: Path, step: int, fault: Callable[[Saved], str | None], size: int | None) -> Saved:
    saved = _read(directory, step, size)
    if text := fault(saved):
        raise CheckpointError(f"checkpoint {step} in {shown(directory)} cannot be used: {text}")
    return saved


def _steps(directory: Path) -> list[int]:
    """The numbers of the checkpoints in a directory, in order."""
    names = (path.name for path in directory.glob("*"))
    return sorted(int(name) for name in names if name.isdecimal() and name == str(int(name)))


def _read(directory: Path, step: int, size: int | None = None) -> Saved:
    """The checkpoint of this number; CheckpointError unless it is what was saved as such.

    `size` is that of the state in bytes, where it is known.
    """
    args = ocp.args.Composite(tree=ocp.args.StandardRestore(), meta=ocp.args.JsonRestore())
    try:
        with _quiet():
            fault = too_large(directory / str(step), size)
            if fault is None:
                options = ocp.CheckpointManagerOptions(read_only=True)
                with ocp.CheckpointManager(directory.absolute(), options=options) as manager:
                    read = manager.restore(step, args=args)
                fault = check_checkpoint(read.tree, read.meta) or broken(step, read.tree, read.meta)
    except Exception as error:
        raise CheckpointError(f"checkpoint {step} in {shown(directory)} cannot be read: {_said(error)}") from error
    if fault:
        raise CheckpointError(f"checkpoint {step} in {shown(directory)} cannot be used: {fault}")
    tree = {"plugins": {}, "streams": {}, "history": {}} | read.tree
    sealed = read.meta
    return Saved(tree["run"], tree["plugins"], tree["streams"], tree["history"], sealed["meta"], sealed["arrays"])


def of_run(directory: Path, size: int | None = None) -> Saved | None:
    """What `load` returns, of a run: with all that a session wrote beside the state, each of its type.

    `size` is that of the run's state in bytes (`sizes.of_state`), where it is known.
    """
    return _load(directory, meta_fault, size)


def meta_fault(saved: Saved) -> str | None:
    """What is wrong with what a checkpoint keeps of its run; None if nothing is."""
    fault = check_meta(saved.meta)
    return f"its metadata: {fault}" if fault else None


def _bytes(tree: Mapping[str, Any]) -> int:
    return sum(np.asarray(leaf).nbytes for leaf in jax.tree.leaves(tree))


def _branch(path: str, homes: Mapping[str, str]) -> str:
    """The branch of `plugins` that a leaf of the state belongs to; empty for the run's own."""
    role, _, rest = path.partition("/")
    if role not in ("proposers", "adapters", "budget"):
        return ""
    label = next(n for n in homes if f"{rest}/".startswith(f"{n}/")) if rest and role != "budget" else role
    return homes[label]


def leaves(tree: PyTree) -> dict[str, Any]:
    """Every leaf that is not empty, as a plain array, by path; CheckpointError when two have the same."""
    named = zip(paths(tree), jax.tree.leaves(tree), strict=True)
    return {name: _raw(leaf) for name, leaf in named if np.size(leaf)}


def paths(tree: PyTree) -> list[str]:
    """The paths of all leaves, in order; CheckpointError when two are the same."""
    names = [_name(path) for path, _ in jax.tree_util.tree_leaves_with_path(tree)]
    if len(set(names)) < len(names):
        raise CheckpointError(f"two leaves of the state have the same path: {twice(names)}; rename one of them")
    return names


def fill(like: PyTree, found: Mapping[str, Any]) -> PyTree:
    """A tree in the structure of `like`, with the leaves found by path; CheckpointError says which do not fit."""
    filled, faults = [], []
    for name, leaf in zip(paths(like), jax.tree.leaves(like), strict=True):
        if not np.prod(leaf.shape):
            filled.append(jnp.zeros(leaf.shape, leaf.dtype))
        elif fault := _misfit(name, leaf, found.get(name)):
            faults.append(fault)
        else:
            array = jnp.asarray(found[name])
            filled.append(jax.random.wrap_key_data(array, impl=jax.random.key_impl(leaf)) if _is_key(leaf) else array)
    if faults:
        raise CheckpointError("the checkpoint does not fit this configuration: " + "; ".join(faults))
    return jax.tree.unflatten(jax.tree.structure(like), filled)


def _misfit(name: str, leaf: Any, value: Any) -> str | None:
    """Why this value cannot replace the leaf of that name; None if it can."""
    raw = jax.eval_shape(jax.random.key_data, leaf) if _is_key(leaf) else leaf
    if value is None:
        return f"{name} is missing"
    if (value.shape, value.dtype) == (raw.shape, raw.dtype):
        return None
    return f"{name} must be {raw.dtype}{list(raw.shape)}, got {value.dtype}{list(value.shape)}"


def _raw(leaf: Any) -> Any:
    return jax.random.key_data(leaf) if _is_key(leaf) else leaf


def _name(path: Any) -> str:
    return jax.tree_util.keystr(path, simple=True, separator="/")


def _is_key(leaf: Any) -> bool:
    return bool(jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key))


class _Held(logging.Filter):
    """Keeps what Orbax logs off the screen, and the errors among it for later."""

    def __init__(self) -> None:
        super().__init__()
        self.errors: list[str] = []

    def filter(self, record: logging.LogRecord) -> bool:
        if record.levelno >= logging.ERROR:
            self.errors.append(shown(record.getMessage())[:200])
        return False


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Hides Orbax's reports. What it logs as an error is a warning, unless the body raises: then that error says it."""
    _spare_after_effects()
    logger, held = logging.getLogger("absl"), _Held()
    logger.addFilter(held)
    try:
        yield
    finally:
        logger.removeFilter(held)
    for text in held.errors:
        warnings.warn(f"Orbax reports: {text}", stacklevel=3)


@functools.cache
def _spare_after_effects() -> None:
    """From here on, reads that Orbax began and then gave up, because one failed, end without some sixty tracebacks."""
    before = sys.unraisablehook

    def hook(unraisable: Any) -> None:
        if str(unraisable.exc_value) != "Event loop is closed":
            before(unraisable)

    sys.unraisablehook = hook
    logging.getLogger("asyncio").addFilter(lambda r: "tensorstore" not in str(r.exc_info and r.exc_info[1]))


def _said(error: Exception) -> str:
    """What Orbax says of a failure, without the places in its sources."""
    if isinstance(error, OSError):
        return why(error)
    first = str(error).strip().partition("\n")[0]
    return shown(re.sub(r"\s*\[(source locations|tensorstore_spec)=.*", "", first)) or type(error).__name__
