"""Damages the files of a run, one try at a time at seeded places: each damage is named, or changes nothing.

`flips` flips one bit of one file. `damages` cuts, deletes, exchanges and renumbers files and whole checkpoints, puts
older ones and those of other runs in their place, and edits the config. Then what uses the files is asked, in this
process: `load` and `belongs` (as `resume` does), `replay`, and `verify`, which looks at the whole directory.

    named      the use ended with an error or a difference
    harmless   every value that was read is the same, or no use reads such a file (weights, pictures, the manifest)
    on purpose the config says something else, but only what may be changed (limits, observers)
    SILENT     a changed value that the use does not name

`verify` must name the file in each case.
"""

from __future__ import annotations

import contextlib
import filecmp
import functools
import json
import re
import shutil
import subprocess
import tempfile
import tomllib
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

import jax
import numpy as np
from attack import Found

from ev3x import config
from ev3x.host.host import Host
from ev3x.run import manifest, session
from ev3x.run.checkpoint import CheckpointError, Checkpoints, Saved, load, of_run
from ev3x.run.identity import FREE, belongs
from ev3x.run.manifest import verify
from ev3x.run.replay import replay
from ev3x.run.setup import Setup

FLIPS, DAMAGES = 2000, 200
RESUMED = 20  # every so many tries, a run whose damage was mended as told is resumed to its end
CONFIG = """
task = "distill-digits"
rounds = 4
save_every = 1e-9
[[propose]]
use = "trajectories"
length = 2
losses = ["labels"]
optimizers = [{ name = "sgd", learning_rate = 0.1 }]
[confirm]
use = "published"
block = 64
[select]
use = "mean_bounds"
block = 64
[[observe]]
use = "curve"
"""
EDITS = [("rounds = 4", "rounds = 5"), ("length = 2", "length = 3"), ("= 0.1", "= 0.2"), ("block = 64", "block = 65")]
EDITS += [("seed = 0", "seed = 1"), ('"labels"', '"kl"'), ("save_every = 1e-09", "save_every = 9.0")]
EDITS += [("level = 0.05", "level = 0.5"), ("distill-digits", "distill-mnist1d"), ("[[observe]]", "[[obverse]]")]


# One run, and what to do with it.


def make(directory: Path, text: str = CONFIG, *, moments: Path | None = None) -> Path:
    """A new run with weights and a picture; under `moments`, if given, the directory as it was after each save."""
    save = Checkpoints.save

    def kept(store: Checkpoints, state: Any, *others: Any) -> None:
        save(store, state, *others)
        if moments is not None:
            shutil.copytree(directory, moments / str(int(state.round)), dirs_exist_ok=True)

    with patch.object(session, "CHUNK_SECONDS", 0.0), patch.object(Checkpoints, "save", kept):  # after every round
        session.run(config.loads(text, "faults"), directory)
    session.export(directory)
    return directory


def values(saved: Saved | None) -> Any:
    """All that a checkpoint holds, for comparison."""
    if saved is None:
        return None
    trees = (saved.run, saved.plugins, saved.streams, saved.records)
    leaves = jax.tree_util.tree_leaves_with_path(trees)
    return [(jax.tree_util.keystr(p), str(np.asarray(x).dtype), np.asarray(x).tobytes()) for p, x in leaves], saved.meta


def steps(directory: Path) -> list[int]:
    """The numbers of the checkpoints of a run, in order."""
    return sorted(int(path.name) for path in (directory / "checkpoints").iterdir() if path.name.isdecimal())


def files(directory: Path) -> list[str]:
    """The paths of all files of a run that anything reads, in order."""
    found = (str(path.relative_to(directory)) for path in directory.rglob("*") if path.is_file())
    return sorted(path for path in found if path != ".lock")


@contextmanager
def place() -> Iterator[Path]:
    """A folder for runs, which goes at the end."""
    with tempfile.TemporaryDirectory(prefix="ev3x-faults-") as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield Path(folder)


def setup_of(directory: Path) -> Setup:
    """The setup of a run, from its config."""
    return config.load(directory / "config.toml", host=_host())


@functools.cache
def _host() -> Host:
    return Host()


def replayed(directory: Path) -> tuple[str, ...]:
    """What replay says of a run that is not as it should be; empty when all follows."""
    try:
        return tuple(d.what for d in replay(setup_of(directory), directory).differences)
    except Exception as error:
        return (_ours(error),)


def _ours(error: Exception) -> str:
    """What the error says; raises it when it is none of ours, and would be a traceback."""
    if not type(error).__module__.startswith("ev3x."):
        raise error
    return str(error)


# One flipped bit.


def flips(tries: int, seed: int) -> Found:
    """A bit of a file, drawn uniformly from a kind of file that is drawn before."""
    draws = np.random.default_rng(seed)
    counts: Counter[str] = Counter()
    wrong = []
    by_kind: dict[str, Counter[str]] = {}
    with place() as folder:
        directory = make(folder / "run")
        kinds, whole = _kinds(directory), values(load(directory / "checkpoints"))
        for _ in range(tries):
            kind = str(draws.choice(list(kinds)))
            sizes = np.array([path.stat().st_size for path in kinds[kind]], float)
            path = kinds[kind][int(draws.choice(len(sizes), p=sizes / sizes.sum()))]
            before = path.read_bytes()
            bit = int(draws.integers(8 * len(before)))
            path.write_bytes(_flipped(before, bit))
            name = str(path.relative_to(directory))
            try:
                outcome = _used(kind, path, directory, whole, before)
                if not any(fault.file == name for fault in verify(directory).faults):
                    outcome = "SILENT"
            except Exception as error:
                outcome = f"{type(error).__name__}: {error}"
            if outcome not in ("named", "harmless", "on purpose"):
                wrong.append(f"{name}, bit {bit}: {outcome}")
                outcome = "SILENT"
            counts[outcome] += 1
            by_kind.setdefault(kind, Counter())[outcome] += 1
            path.write_bytes(before)
    return Found("one flipped bit", tries, counts, wrong, {kind: dict(by_kind[kind]) for kind in sorted(by_kind)})


def _flipped(whole: bytes, bit: int) -> bytes:
    made = bytearray(whole)
    made[bit // 8] ^= 1 << bit % 8
    return bytes(made)


def _kinds(directory: Path) -> dict[str, list[Path]]:
    """The files of a run by kind."""
    *older, last = (directory / "checkpoints" / str(n) for n in steps(directory))
    inside = [path for path in sorted(last.rglob("*")) if path.is_file()]
    kinds = {
        "last checkpoint": [path for path in inside if "meta" not in path.parts],
        "its metadata": [path for path in inside if "meta" in path.parts],
        "older checkpoint": [path for step in older for path in sorted(step.rglob("*")) if path.is_file()],
    }
    names = {"rows": "rounds.jsonl", "summary": "summary.json", "config": "config.toml", "weights": "weights.npz"}
    kinds |= {kind: [directory / name] for kind, name in names.items()}
    kinds |= {"pictures": sorted(directory.glob("*.png")), "manifest": [directory / "manifest.json"]}
    return {kind: [path for path in paths if path.stat().st_size] for kind, paths in kinds.items()}


def _used(kind: str, path: Path, directory: Path, whole: Any, before: bytes) -> str:
    """The outcome of using the file."""
    if kind in ("weights", "pictures", "manifest", "older checkpoint"):
        return "harmless"
    if "checkpoint" in kind or kind == "its metadata":
        try:
            return "harmless" if values(load(directory / "checkpoints")) == whole else "SILENT"
        except Exception as error:
            return "named" if _ours(error) else "SILENT"
    if replayed(directory):
        return "named"
    if kind == "config":
        return _config(before, path.read_bytes())
    return "harmless" if _parsed(before) == _parsed(path.read_bytes()) else "SILENT"


def _config(before: bytes, after: bytes) -> str:
    then, now = (tomllib.loads(text.decode()) for text in (before, after))
    changed = {name for name in {**then, **now} if then.get(name) != now.get(name)}
    return "harmless" if not changed else "on purpose" if changed <= FREE else "SILENT"


def _parsed(text: bytes) -> list[Any]:
    lines = text.decode().splitlines() if text.startswith(b'{"round"') else [text.decode()]
    return [json.loads(line) for line in lines]


# Whole files and checkpoints.


class _Runs:
    """A run with all of its checkpoints, moments of it, and two other runs."""

    def __init__(self, folder: Path, draws: np.random.Generator) -> None:
        self.draws, self.moments = draws, folder / "moments"
        self.whole, self.now = make(folder / "whole", moments=self.moments), folder / "now"
        for n in range(4):  # all that were saved, so that there is something to go back to
            shutil.copytree(self._moment(n), self.whole / "checkpoints" / str(n), dirs_exist_ok=True)
        manifest.seal(self.whole)
        self.others = [
            make(folder / "seed", f"seed = 1\n{CONFIG}"),
            make(folder / "block", CONFIG.replace("block = 64", "block = 32")),
        ]
        self.setup = setup_of(self.whole)
        self.values = {n: values(load(self._only(folder / f"only-{n}", n))) for n in steps(self.whole)}

    def _moment(self, n: int) -> Path:
        return self.moments / str(n) / "checkpoints" / str(n)

    def _only(self, folder: Path, n: int) -> Path:
        shutil.copytree(self._moment(n), folder / str(n))
        return folder

    def fresh(self) -> Path:
        """A copy of the run to damage."""
        shutil.rmtree(self.now, ignore_errors=True)
        return shutil.copytree(self.whole, self.now)

    def any(self, names: list[Any]) -> Any:
        return names[int(self.draws.integers(len(names)))]

    def file(self) -> Path:
        """A file of the run; half of the time, one of its last checkpoint."""
        names = [name for name in files(self.now) if name != "manifest.json"]
        last = [name for name in names if name.startswith(f"checkpoints/{steps(self.now)[-1]}/")]
        return self.now / str(self.any(last if self.draws.integers(2) else names))

    def step(self) -> Path:
        return self.now / "checkpoints" / str(self.any(steps(self.now)))


def _truncated(runs: _Runs) -> None:
    for _ in range(int(runs.draws.integers(1, 3))):
        path = runs.file()
        path.write_bytes(path.read_bytes()[: int(runs.draws.integers(path.stat().st_size + 1))])


def _deleted(runs: _Runs) -> None:
    if runs.draws.integers(3):
        runs.file().unlink()
    else:
        shutil.rmtree(runs.step())


def _swapped(runs: _Runs) -> None:
    one, other = (runs.file, runs.file) if runs.draws.integers(2) else (runs.step, runs.step)
    a, b, aside = one(), other(), runs.now.parent / "aside"
    if a != b:
        a.rename(aside)
        b.rename(a)
        aside.rename(b)


def _renumbered(runs: _Runs) -> None:
    a, to = runs.step(), runs.now / "checkpoints" / str(runs.any([0, 2, 4, 7, 12, 2**31, 10**30]))
    if a != to:
        shutil.rmtree(to, ignore_errors=True)
        shutil.copytree(a, to) if runs.draws.integers(2) else a.rename(to)


def _older(runs: _Runs) -> None:
    then = runs.moments / str(runs.any([0, 1, 2, 3]))
    shared = [name for name in files(then) if (runs.now / name).exists() and name.count("/") == 0]
    case = int(runs.draws.integers(3))
    if case == 0:
        shutil.copy(then / (name := runs.any(shared)), runs.now / name)
    elif case == 1:  # all that there was then, but the manifest
        shutil.rmtree(runs.now / "checkpoints")
        shutil.copytree(then, runs.now, dirs_exist_ok=True)
    else:
        shutil.rmtree(runs.now / "checkpoints")
        shutil.copytree(then / "checkpoints", runs.now / "checkpoints")


def _foreign(runs: _Runs) -> None:
    other, case = runs.any(runs.others), int(runs.draws.integers(4))
    if case == 0:
        name = runs.any([name for name in files(other) if name.count("/") == 0 and name != "manifest.json"])
        shutil.copy(other / name, runs.now / name)
    elif case == 1:
        shutil.rmtree(runs.now / "checkpoints")
        shutil.copytree(other / "checkpoints", runs.now / "checkpoints")
    else:  # its last one: in place of ours, or after an older one of ours
        for n in (4,) if case == 2 else (2, 3, 4):
            shutil.rmtree(runs.now / "checkpoints" / str(n))
        shutil.copytree(other / "checkpoints" / "4", runs.now / "checkpoints" / "4")


def _edited(runs: _Runs) -> None:
    path = runs.now / "config.toml"
    text = path.read_text(encoding="utf-8")
    old, new = runs.any([(a, b) for a, b in EDITS if a in text])
    path.write_text(text.replace(old, new), encoding="utf-8")


KINDS: dict[str, Callable[[_Runs], None]] = {
    "truncated": _truncated,
    "deleted": _deleted,
    "swapped": _swapped,
    "renumbered": _renumbered,
    "older": _older,
    "of another run": _foreign,
    "edited config": _edited,
}


def damages(tries: int, seed: int) -> Found:
    """Damages of whole files, each kind in turn; what is told to go back to is the newest sound checkpoint, and works.

    A checkpoint is sound when its files are those that were saved, or when all that it holds is the same.
    """
    counts: Counter[str] = Counter()
    wrong = []
    with place() as folder:
        runs = _Runs(folder, np.random.default_rng(seed))
        for i in range(tries):
            kind = list(KINDS)[i % len(KINDS)]
            changed: list[str] = []
            while not changed:
                runs.fresh()
                KINDS[kind](runs)
                changed = _changed(runs)
            try:
                found = _told(runs, changed, resumed=i % RESUMED == 0)
            except Exception as error:
                found = [f"{type(error).__name__}: {error}"]
            outcome = found[-1] if found[-1] in ("named", "harmless", "on purpose", "gone back") else "SILENT"
            counts[outcome] += 1
            if outcome == "SILENT":
                wrong.append(f"{i}, {kind}, {', '.join(changed)[:200]}: {'; '.join(found)}"[:600])
    return Found("damaged files and checkpoints", tries, counts, wrong)


def _changed(runs: _Runs) -> list[str]:
    """The files that are not as they were, are gone, or are new."""
    names = sorted({*files(runs.whole), *files(runs.now)})
    return [n for n in names if not all((r / n).exists() for r in (runs.whole, runs.now)) or not _same(runs, n)]


def _same(runs: _Runs, name: str) -> bool:
    return filecmp.cmp(runs.whole / name, runs.now / name, shallow=False)


def _told(runs: _Runs, changed: list[str], *, resumed: bool) -> list[str]:
    """The outcome, last of all; before it what is wrong, if anything."""
    told = {fault.file for fault in verify(runs.now).faults}
    found = [f"verify does not name {name}" for name in changed if name not in told]
    said = replayed(runs.now)
    last = _last(runs)
    alike = values(last) == runs.values[4] if last else False
    read = [name for name in ("rounds.jsonl", "summary.json") if name in changed]
    if not said and (read or not alike):
        found.append("replay says nothing")
    if "config.toml" in changed and not said and _config_of(runs) == "SILENT":
        found.append("replay says nothing of the config")
    error = _refused(runs)
    back = re.search(r"`(mkdir .*)`", error)
    other = {n for n in steps(runs.now) if any(name.startswith(f"checkpoints/{n}/") for name in changed)}
    sound = [n for n in steps(runs.now) if n not in other or (n in runs.values and _sound(runs, n))]
    if error and "config.toml" not in changed:
        offered = re.search(r"checkpoint (\d+) is sound", error)
        if (int(offered[1]) if offered else None) != (sound[-1] if sound else None):
            found.append(f"{error}: the newest sound one of {sound} is not offered")
    if not error and not alike and steps(runs.now) and values(last) not in runs.values.values():
        found.append("resume would use a checkpoint that was not saved")
    if not error and not alike and not _export_said(runs):
        found.append("export says nothing")
    if found:
        return [*found, "SILENT"]
    if back:
        subprocess.run(["sh", "-c", back[1]], check=True)
        if values(_last(runs)) != runs.values[sound[-1]] or _refused(runs):
            return ["what was offered does not work", "SILENT"]
    if (back or not error) and resumed:
        session.resume(runs.setup, runs.now)
        arrays = values(_last(runs))[0]  # beside them, seconds are kept
        if arrays != runs.values[4][0] or not _same(runs, "rounds.jsonl"):
            return ["the resumed run has other bits", "SILENT"]
    return ["gone back" if back else "named" if said or error else "harmless" if alike else "SILENT"]


def _config_of(runs: _Runs) -> str:
    texts = ((r / "config.toml").read_bytes() for r in (runs.whole, runs.now))
    return _config(*texts)


def _last(runs: _Runs) -> Saved | None:
    with contextlib.suppress(CheckpointError):
        return load(runs.now / "checkpoints")
    return None


def _sound(runs: _Runs, n: int) -> bool:
    """Whether this checkpoint holds what was saved as such."""
    alone = runs.now.parent / "alone"
    shutil.rmtree(alone, ignore_errors=True)
    shutil.copytree(runs.now / "checkpoints" / str(n), alone / str(n))
    with contextlib.suppress(CheckpointError):
        return bool(values(load(alone)) == runs.values[n])
    return False


def _refused(runs: _Runs) -> str:
    """What resume says before it begins; empty when it would begin."""
    try:
        setup = setup_of(runs.now)
        if saved := of_run(runs.now / "checkpoints"):
            belongs(saved.meta, setup, runs.now)
    except Exception as error:
        return _ours(error)
    return ""


def _export_said(runs: _Runs) -> str:
    """What export warns of, or is refused with."""
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        try:
            session.export(runs.now, runs.now.parent / "weights.npz")
        except Exception as error:
            return _ours(error)
    return " ".join(str(warning.message) for warning in told)
