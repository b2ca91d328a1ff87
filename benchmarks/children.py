"""Processes of `ev3x` that attacks strike: forked from one that has imported everything, or begun as users begin them.

A forked process costs no imports, and tells its files' operations to whoever strikes: so a strike can hit any of them.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import os
import select
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

CONFIG = """
rounds = {rounds}
save_every = 1e-9
observe = []
adapt = {adapt}
[task]
use = "distill-digits"
hidden = [{hidden}]
[[propose]]
use = "trajectories"
length = 2
losses = ["labels"]
optimizers = [{{ name = "sgd", learning_rate = 0.1 }}]
[confirm]
use = "published"
block = 64
[select]
use = "mean_bounds"
block = 64
"""
PLAIN = CONFIG.format(rounds=6, adapt='["promote"]', hidden=8)
GROWING = CONFIG.format(
    rounds=4, adapt='["promote", { use = "grow", patience = 2, how = ["widen"], most = 1 }]', hidden=4
)
TOUCHES = {"open", "os.rename", "os.mkdir", "os.remove", "os.rmdir", "os.truncate", "fcntl.lockf"}
AT_A_TIME = 2
SHIM = Path(__file__).with_name("failing_files.c")


@dataclasses.dataclass(frozen=True)
class Strike:
    """What is done to a process, and when: at an operation on the run's files, or after so many processor seconds."""

    do: Callable[[int], None]  # gets the id of the process
    touch: int | None = None  # the operation, counted from 1; forked processes only
    after: float | None = None
    delay: float = 0.0  # seconds of wall time from then on


@dataclasses.dataclass(frozen=True)
class Ended:
    """How a process ended."""

    code: int  # of the process; negative: the signal
    struck: bool
    touches: int  # operations on the run's files; 0 unless it came to its end, or was not forked
    seconds: float  # of processor time
    said: str  # standard output and error

    @property
    def shell(self) -> int:
        """The exit code as a shell shows it."""
        return self.code if self.code >= 0 else 128 - self.code


class Children:
    """A process that forks others on demand; to be used by one thread."""

    def __init__(self, place: Path, *, failing: bool = False) -> None:
        self.place = place
        place.mkdir(parents=True, exist_ok=True)
        self._env = environment(place.parent)
        shim = built(place) if failing else None
        self.shim = shim
        env = {**self._env, **({"LD_PRELOAD": str(shim)} if shim else {})}
        self._server = subprocess.Popen(
            [sys.executable, __file__], env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE, encoding="utf-8"
        )
        self._n = 0

    def close(self) -> None:
        """End the process."""
        self._server.communicate()

    def fork(
        self, directory: Path, *words: str, strike: Strike | None = None, begun: bool = False, **bent: Any
    ) -> Ended:
        """How `ev3x` with these words on this run ended; `bent` is what `_bend` does to the process first.

        With `begun`, it begins as users begin it, imports included, and tells nothing of its operations.
        """
        self._n += 1
        output, pipe = self.place / f"{self._n}.txt", self.place / f"{self._n}.pipe"
        os.mkfifo(pipe)
        touch = strike.touch if strike else None
        order = {"words": words, "directory": str(directory), "output": str(output), "pipe": str(pipe), "touch": touch}
        order["begun"] = begun
        reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
        try:
            pid = int(self._ask({**order, "bent": bent, "shim": self.shim and str(self.shim)}))
            struck, text = _watch(pid, strike, reader)
            status, seconds = map(float, self._ask("wait").split())
            with contextlib.suppress(BlockingIOError):
                text += os.read(reader, 100)
        finally:
            os.close(reader)
            pipe.unlink()
        touches = int(text.strip(b"!") or 0)
        said = output.read_text(encoding="utf-8", errors="replace")
        return Ended(os.waitstatus_to_exitcode(int(status)), struck, touches, seconds, said)

    def _ask(self, order: Any) -> str:
        assert self._server.stdin and self._server.stdout
        self._server.stdin.write(json.dumps(order) + "\n")
        self._server.stdin.flush()
        return self._server.stdout.readline()


@contextlib.contextmanager
def children(place: Path, *, failing: bool = False) -> Iterator[Children]:
    """A process that forks others, until the body ends."""
    found = Children(place, failing=failing)
    try:
        yield found
    finally:
        found.close()


def environment(place: Path) -> dict[str, str]:
    """That of all processes: they share a cache of compiled programs, and have one thread for linear algebra."""
    cache = {
        "JAX_COMPILATION_CACHE_DIR": str(place / "compiled"),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
        "JAX_PLATFORMS": "cpu",
        "JAX_TRACEBACK_IN_LOCATIONS_LIMIT": "0",  # lowering takes a tenth less time
    }
    return {**os.environ, **cache, "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1"}


def built(place: Path) -> Path | None:
    """A library that makes operations on files fail on demand; None where there is no compiler, or another system."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None or not sys.platform.startswith("linux"):
        return None
    library = place / "failing_files.so"
    subprocess.run([compiler, "-O1", "-shared", "-fPIC", "-o", library, SHIM, "-ldl"], check=True)
    return library


def words(directory: Path, config: Path) -> list[str]:
    """The words with which `ev3x` begins the run in this directory, or goes on with it."""
    if (directory / "config.toml").exists():
        return ["resume", str(directory)]
    return ["run", str(config), "--out", str(directory), "--quiet"]


def steps(directory: Path) -> list[int]:
    """The rounds of the checkpoints of a run."""
    return sorted(int(path.name) for path in directory.glob("checkpoints/*") if path.name.isdecimal())


def lines(directory: Path) -> list[bytes]:
    """The rows of a run so far."""
    rows = directory / "rounds.jsonl"
    return rows.read_bytes().splitlines(keepends=True) if rows.exists() else []


def underway(directory: Path) -> str:
    """What a process that was struck was doing, as its files show it."""
    if any(directory.glob("checkpoints/*tmp*")):
        return "save"
    if len(steps(directory)) > 2:
        return "removal of an old checkpoint"
    rows = lines(directory)
    if any(directory.glob(".*.new")) or (rows and not rows[-1].endswith(b"\n")):
        return "rows, config, summary or manifest"
    if not (directory / "config.toml").exists():
        return "start"
    return "rounds" if steps(directory) else "before the first checkpoint"


def digest(directory: Path) -> str:
    """A hash of where a run ended: every leaf of its last checkpoint, with the records of all rounds, and its rows."""
    import jax
    import numpy as np

    from ev3x.run.checkpoint import load

    saved = load(directory / "checkpoints")
    assert saved is not None, f"{directory} has no checkpoint"
    found = hashlib.sha256((directory / "rounds.jsonl").read_bytes())
    trees = (saved.run, saved.plugins, saved.streams, saved.records)
    for path, leaf in jax.tree_util.tree_leaves_with_path(trees):
        array = np.asarray(leaf)
        found.update(f"{jax.tree_util.keystr(path)} {array.dtype} {array.shape}".encode() + array.tobytes())
    return found.hexdigest()


def ended_well(directory: Path, expected: str) -> str | None:
    """Why a finished run is not as it should be; None when it is."""
    from ev3x.run.manifest import verify

    try:
        if digest(directory) != expected:
            return "other bits"
        if json.loads((directory / "summary.json").read_text(encoding="utf-8"))["outcome"] != "finished":
            return "the summary tells of another end"
        if faults := verify(directory).faults:
            return f"verify: {faults}"
        left = [path.name for path in directory.iterdir() if path.name.endswith((".new", ".held"))]
        return f"left behind: {left}" if left else None
    except Exception as error:
        return f"{type(error).__name__}: {error}"


def used(pid: int) -> float:
    """The processor seconds that a process has used so far (Linux)."""
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _alive(pid: int) -> bool:
    """Whether the process runs; one that ended and was not waited for does not."""
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    return fields[0] not in "ZX"


def _watch(pid: int, strike: Strike | None, reader: int | None) -> tuple[bool, bytes]:
    """Strike at the moment; whether that was before the process ended, and what it had told."""
    told = b""
    if strike is None:
        return False, told
    if strike.after is not None:
        while _alive(pid) and used(pid) < strike.after:
            time.sleep(0.004)
    elif reader is not None:
        while not told and _alive(pid):
            if select.select([reader], [], [], 0.02)[0]:
                with contextlib.suppress(BlockingIOError):
                    told = os.read(reader, 100)
                if not told:
                    time.sleep(0.004)
        if not told.startswith(b"!"):
            return False, told
    if strike.delay:
        time.sleep(strike.delay)
    if not _alive(pid):
        return False, told
    strike.do(pid)
    return True, told


def _serve() -> None:
    """Fork a process for each order; a line with its id, and after the order to wait one with how it ended."""
    import gc

    import flax.linen
    import sklearn.datasets
    import sklearn.svm

    import ev3x.builtin.tasks.distill_digits
    import ev3x.cli
    import ev3x.config
    import ev3x.run.session

    assert flax.linen and sklearn.svm and sklearn.datasets and ev3x.builtin and ev3x.cli and ev3x.config
    if (threads := len(os.listdir("/proc/self/task"))) > 1:
        raise SystemExit(f"{threads} threads: a forked process could wait for one that it lacks")
    gc.freeze()
    signal.signal(signal.SIGINT, signal.default_int_handler)  # whoever began this one may ignore them
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)
    pid = 0
    for line in sys.stdin:
        order = json.loads(line)
        if order != "wait":
            if not (pid := os.fork()):
                _child(order)
            print(pid, flush=True)
            continue
        _, status, use = os.wait4(pid, 0)
        print(status, use.ru_utime + use.ru_stime, flush=True)


def _child(order: dict[str, Any]) -> None:
    """Be `ev3x` with these words, in a process that was just forked."""
    from ev3x import cli
    from ev3x.run import session

    for number, path in enumerate((os.devnull, order["output"], order["output"])):
        flags = os.O_RDONLY if number == 0 else os.O_WRONLY | os.O_CREAT | os.O_APPEND
        file = os.open(path, flags)
        os.dup2(file, number)
        os.close(file)
    if order["begun"]:
        os.execv(sys.executable, [sys.executable, "-m", "ev3x.cli", *order["words"]])
    session.CHUNK_SECONDS = 0.02
    teller = os.open(order["pipe"], os.O_WRONLY)
    directory, touch, seen = order["directory"], order["touch"], 0
    bent = order["bent"]
    hooked = order["shim"] is None and bent.get("errno")

    def noticed(event: str, args: tuple[Any, ...]) -> None:
        nonlocal seen
        if event in TOUCHES and (event == "fcntl.lockf" or str(args[0]).startswith(directory)):
            seen += 1
            if seen == touch:
                os.write(teller, b"!")
            if hooked and bent["first"] <= seen < bent["last"] and event in _KINDS[bent["on"]]:
                raise OSError(bent["errno"], os.strerror(bent["errno"]))

    if bent:
        _bend(bent, order)
    sys.addaudithook(noticed)
    sys.argv = ["ev3x", *order["words"]]
    try:
        cli.main()
    finally:
        if "errno" in bent and order["shim"]:
            import ctypes

            seen = ctypes.CDLL(order["shim"]).operations_seen()  # a C int is wide enough for them
        os.write(teller, f"{seen}".encode())


_KINDS = {"writes": {"open", "os.rename", "os.mkdir"}, "locks": {"fcntl.lockf"}, "all": TOUCHES}


def _bend(bent: dict[str, Any], order: dict[str, Any]) -> None:
    """Let operations of this process fail: files longer than `longest`; `first` to `last` under the directory."""
    if "longest" in bent:
        import resource

        resource.setrlimit(resource.RLIMIT_FSIZE, (bent["longest"], resource.RLIM_INFINITY))
    elif "errno" in bent and order["shim"]:
        import ctypes

        arm = ctypes.CDLL(order["shim"]).fail_from_now_on
        kinds = ("writes", "locks", "all").index(bent["on"])
        moments = ctypes.c_long(bent["first"]), ctypes.c_long(bent["last"])
        arm(order["directory"].encode(), bent["errno"], kinds, *moments)


def undisturbed(mine: Children, directory: Path, config: Path) -> tuple[str, int]:
    """The digest of a run that nothing disturbs, and how many operations on its files it makes."""
    ended = mine.fork(directory, *words(directory, config))
    assert ended.code == 0, ended.said
    return digest(directory), ended.touches


def pooled(one: Callable[[Children, int], None], tries: int, place: Path, *, failing: bool = False) -> None:
    """Makes the tries; each, by its number, with the forking process of whichever thread is free."""
    numbers, lock = iter(range(tries)), threading.Lock()

    def work(i: int) -> None:
        with children(place / f"worker-{i}", failing=failing) as mine:
            while True:
                with lock:
                    number = next(numbers, None)
                if number is None:
                    return
                one(mine, number)

    with ThreadPoolExecutor(AT_A_TIME) as pool:
        list(pool.map(work, range(min(AT_A_TIME, tries))))


def configs(place: Path) -> dict[str, Path]:
    """The files of the configs of all runs, by name."""
    found = {}
    for name, text in {"plain": PLAIN, "growing": GROWING}.items():
        found[name] = place / f"{name}.toml"
        found[name].write_text(text, encoding="utf-8")
    return found


def send(number: int) -> Callable[[int], None]:
    """Sends this signal."""
    return lambda pid: os.kill(pid, signal.Signals(number))


if __name__ == "__main__":
    _serve()
