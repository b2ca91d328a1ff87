"""Gives hostile run directories, caches and configs to the commands that read them: each ends in words, and touches
nothing outside.

What is drawn is in `hostile.py`. Each try is one command on one input, in a process that has the command line loaded
and takes one try after another. A try is wrong when it ends in a traceback or another exit code than 0, 2 and 3, when
control characters reach its output, when a file outside of the run is touched (links, hard links and names lead there),
or when it takes more than 1 GiB or 10 s. Memory is the peak of the process, JAX included; seconds are the lesser of
wall and processor time, after the start. What was too much is tried again in a new process, to leave out what earlier
tries have left there.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import select
import shutil
import stat
import subprocess
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import hostile
import numpy as np
from attack import Found
from attack_files import make
from hostile import Change, Draws, Was

from ev3x.run.checkpoint import load
from ev3x.run.digests import seal

TRIES = 1000
MOST_BYTES, MOST_SECONDS, HANGS = 2**30, 10.0, 40.0
EACH = 150  # tries of one process
CODES = {0: "done", 2: "refused", 3: "differs"}
UNSEEN = re.compile("[\x00-\x09\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
RUN = "run"
EXPLAIN = [["explain", RUN], ["explain", RUN, "--json"], ["explain", RUN, "--round", "1"]]
REPLAY = [["replay", RUN], ["replay", RUN, "--json"]]
LOADING = [
    *REPLAY,
    ["export", RUN],
    ["resume", RUN],
    ["resume", RUN, "--rounds", "3"],
    ["resume", RUN, "--drop-plugin-state"],
]
VERIFY = [["verify", RUN], ["verify", RUN, "--json"]]
KINDS: dict[str, tuple[Change, list[list[str]]]] = {
    "rows": (hostile.rows, [*EXPLAIN, *EXPLAIN, *REPLAY]),
    "summary": (hostile.summary, [*EXPLAIN, *REPLAY]),
    "manifest": (hostile.manifest, [*VERIFY, ["explain", RUN], ["export", RUN], ["replay", RUN]]),
    "checkpoint": (hostile.checkpoint, LOADING),
    "stored": (hostile.stored, LOADING),
    "nodes": (hostile.nodes, [*EXPLAIN, *LOADING, *VERIFY]),
    "extra": (hostile.extra, [*EXPLAIN, *LOADING, *VERIFY]),
    "settings": (
        hostile.settings,
        [["replay", RUN], ["export", RUN], ["resume", RUN], ["resume", RUN, "--rounds", "3"]],
    ),
}
CONFIGS = [
    ["config", "check", "c.toml"],
    ["config", "explain", "c.toml"],
    ["run", "c.toml", "--rounds", "1", "--quiet", "--out", RUN],
]
CACHES = [["cache", "list"], ["cache", "list"], ["cache", "clear"]]


# What is much larger than it looks, or than anyone needs. Each is made once.


def _many_rows(folder: Path, was: Was) -> None:
    with (folder / "rounds.jsonl").open("w", encoding="utf-8") as file:
        for i in range(250_000_000 // len(json.dumps(was.rows[0]))):
            file.write(json.dumps(was.rows[i % len(was.rows)] | {"round": i}) + "\n")


def _long_rows(folder: Path, was: Was) -> None:
    with (folder / "rounds.jsonl").open("w", encoding="utf-8") as file:
        for i in range(30):
            file.write(json.dumps(was.rows[0] | {"round": i, "why": "w" * 15_000_000}) + "\n")


def _short_lines(folder: Path, was: Was) -> None:
    (folder / "rounds.jsonl").write_bytes(b"0\n" * 50_000_000)


def _long_summary(folder: Path, was: Was) -> None:
    (folder / "summary.json").write_text(json.dumps(was.summary | {"assumes": ["a"] * 3_000_000}), encoding="utf-8")


def _wide_summary(folder: Path, was: Was) -> None:
    (folder / "summary.json").write_text(json.dumps(was.summary | {"x": [[]] * 4_000_000}), encoding="utf-8")


def _zeros(*shape: int) -> Callable[[Path, Was], None]:
    def make_it(folder: Path, was: Was) -> None:
        tree = {**was.tree, "run": {**was.tree["run"], "model/incumbent/extra": np.zeros(shape, np.float32)}}
        hostile.write_checkpoint(folder, was.step, tree, seal(was.step, tree, was.meta))

    return make_it


def _long_history(folder: Path, was: Was) -> None:
    n = 200_000
    many = {path: np.broadcast_to(x[:1], (n, *x.shape[1:])).copy() for path, x in was.tree["history"].items()}
    tree = {**was.tree, "history": many | {"round": np.arange(n, dtype=np.int32)}}
    tree["run"] = {**was.tree["run"], "round": np.int32(n)}
    hostile.write_checkpoint(folder, n, tree, seal(n, tree, was.meta))


def _long_config(folder: Path, was: Was) -> None:
    meta = was.meta | {"config": was.config + "\n".join(f"k{i} = 1" for i in range(800_000))}
    hostile.write_checkpoint(folder, was.step, was.tree, seal(was.step, was.tree, meta))


BOMBS: dict[str, tuple[Callable[[Path, Was], None], list[list[str]]]] = {
    "many rows": (_many_rows, [*EXPLAIN, *REPLAY, ["verify", RUN]]),
    "long rows": (_long_rows, [*EXPLAIN, *REPLAY]),
    "short lines": (_short_lines, [["explain", RUN], *REPLAY]),
    "long summary": (_long_summary, [*EXPLAIN, *REPLAY]),
    "wide summary": (_wide_summary, [*EXPLAIN, *REPLAY]),
    "100 MB of zeros": (_zeros(25_000_000), LOADING),
    "500 MB of zeros": (_zeros(125_000_000), LOADING),
    "2 GB of zeros": (_zeros(500_000_000), LOADING),
    "long history": (_long_history, LOADING),
    "long config": (_long_config, LOADING),
}


# The tries.


class Worker:
    """A process that runs one command after another, watched."""

    def __init__(self, place: Path) -> None:
        self.noise = place / "noise"
        here = Path(__file__).resolve().parent
        path = os.pathsep.join([str(here), *(p or os.getcwd() for p in sys.path)])
        environment = os.environ | {"EV3X_CACHE": str(place / "cache"), "EV3X_PLUGINS": "none", "PYTHONPATH": path}
        replies, end = os.pipe()
        with self.noise.open("wb") as noise:
            self.process = subprocess.Popen(
                [sys.executable, __file__, "--work", str(end)],
                stdin=subprocess.PIPE,
                stdout=noise,
                stderr=noise,
                pass_fds=[end],
                cwd=place,
                env=environment,
            )
        os.close(end)
        self.replies, self.done = os.fdopen(replies, "rb"), 0
        for args in (
            ["explain", "outside/run"],
            ["replay", "outside/run"],
            ["config", "check", "outside/run/config.toml"],
        ):
            if (said := self.ask(args))["code"] != 0:
                raise RuntimeError(f"a sound run is refused: {said}")

    def ask(self, args: list[str]) -> dict[str, Any]:
        """What became of a command."""
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(args).encode() + b"\n")
        self.process.stdin.flush()
        self.done += 1
        until, used = time.monotonic() + 10 * HANGS, _processor(self.process.pid) + HANGS
        while not select.select([self.replies], [], [], 0.1)[0]:
            pid = self.process.pid
            if time.monotonic() > until or _processor(pid) > used or _resident(pid) > 4 * MOST_BYTES:
                self.end()
                return {
                    "code": None,
                    "said": "",
                    "fault": "it hangs, or takes all memory: killed",
                    "seconds": HANGS,
                    "peak": 0,
                }
        reply = self.replies.readline()
        if not reply:
            code = self.process.wait()
            return {"code": None, "said": "", "fault": f"it ended the process ({code})", "seconds": 0.0, "peak": 0}
        return dict(json.loads(reply))

    def end(self) -> None:
        """End the process."""
        self.process.kill()
        with contextlib.suppress(BrokenPipeError):  # what it has not read
            self.process.communicate()
        self.replies.close()


def _processor(pid: int) -> float:
    """The processor seconds that a process has used (Linux); on a machine with other work, wall time says little."""
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _resident(pid: int) -> int:
    try:
        fields = Path(f"/proc/{pid}/statm").read_text(encoding="utf-8").split()
    except OSError:
        return 0
    return int(fields[1]) * os.sysconf("SC_PAGE_SIZE")


def work(replies: int) -> None:
    """The process: a command for each line of standard input, a reply for each."""
    from typer.testing import CliRunner

    from ev3x.cli import app

    with os.fdopen(replies, "wb", buffering=0) as out:
        for line in sys.stdin:
            Path("/proc/self/clear_refs").write_text("5", encoding="utf-8")  # the peak begins anew (Linux)
            began = time.monotonic(), time.process_time()
            done = CliRunner().invoke(app, json.loads(line))
            seconds = min(time.monotonic() - began[0], time.process_time() - began[1])
            status = Path("/proc/self/status").read_text(encoding="utf-8")
            peak = int(re.findall(r"VmHWM:\s+(\d+)", status)[0]) * 1024
            ended = done.exception is None or isinstance(done.exception, SystemExit)
            fault = (
                None if ended or done.exc_info is None else "".join(traceback.format_exception(*done.exc_info))[-1500:]
            )
            said = (done.stdout_bytes + done.stderr_bytes).decode("utf-8", "surrogateescape")
            bad = UNSEEN.search(said)
            said = said if len(said) < 20_000 else said[:2000] + said[-2000:]
            reply = {
                "code": done.exit_code,
                "said": said,
                "fault": fault,
                "unseen": bad and ascii(bad.group()),
                "seconds": seconds,
                "peak": peak,
            }
            out.write(json.dumps(reply).encode() + b"\n")


class Attack:
    """The place of all tries: a sound run, what is around it, and what was found."""

    def __init__(self, place: Path, seed: int) -> None:
        self.place, self.seed, self.run = place, seed, place / RUN
        self.outside = place / "outside"
        sound = make(self.outside / "run", hostile_config())
        (self.outside / "victim.txt").write_text("theirs\n", encoding="utf-8")
        shutil.copytree(sound / "checkpoints", self.outside / "folder" / "checkpoints")
        os.mkfifo(self.outside / "pipe")
        saved = load(sound / "checkpoints")
        assert saved is not None
        self.was = Was(sound, saved)
        self.schema = _schema()
        self.bombs: dict[str, Path] = {}
        self.worker: Worker | None = None
        self.around = self.surroundings()
        self.counts: Counter[str] = Counter()
        self.wrong: list[str] = []
        self.kinds: dict[str, Counter[str]] = {}
        self.largest: dict[str, Any] = {"bytes": 0, "seconds": 0.0}

    def surroundings(self) -> str:
        """A digest of all that is outside of the run: kinds, sizes, times and contents."""
        found = hashlib.sha256()
        for path in [*sorted(self.place.iterdir()), *sorted(self.outside.rglob("*"))]:
            if path.name in (RUN, "cache", "c.toml", "noise", "bombs") and path.parent == self.place:
                continue
            facts = path.lstat()
            found.update(f"{path} {facts.st_mode}".encode(errors="surrogateescape"))
            if stat.S_ISREG(facts.st_mode):
                found.update(f"{facts.st_mtime_ns}".encode() + hashlib.sha256(path.read_bytes()).digest())
        return found.hexdigest()

    def go(self, i: int) -> None:
        """One try."""
        draws = Draws([self.seed, i])
        kind, args = self.lay(draws, i)
        said = self.ask(args)
        faults = self.faults(said)
        if faults and all("more than" in text for text in faults):
            self.lay(Draws([self.seed, i]), i)  # as it was
            self.end()
            said = self.ask(args)
            faults = self.faults(said)
        self.largest["bytes"] = max(self.largest["bytes"], said["peak"])
        self.largest["seconds"] = max(self.largest["seconds"], round(said["seconds"], 1))
        outcome = "wrong" if faults else CODES[said["code"]]
        self.counts[outcome] += 1
        self.kinds.setdefault(kind, Counter())[outcome] += 1
        if faults:
            self.wrong.append(f"{i}, {kind}, {' '.join(args)}: {'; '.join(faults)}")

    def lay(self, draws: Draws, i: int) -> tuple[str, list[str]]:
        """Put the input there: its kind, and the command for it."""
        for path in (self.run, self.place / "cache"):
            subprocess.run(["rm", "-rf", path], check=True)  # folders may be deeper than Python's calls
        if i % 25 == 7:
            kind = list(BOMBS)[i // 25 % len(BOMBS)]
            shutil.copytree(self.bomb(kind), self.run, copy_function=os.link)
            return kind, draws.of(BOMBS[kind][1])
        if i % 4 == 3:
            args = draws.of(CONFIGS)
            drawn = None if args[0] == "run" or draws.below(3) == 0 else self.schema  # what is sound would be trained
            (self.place / "c.toml").write_bytes(hostile.config(draws, self.was.config, drawn))
            return "config", args
        if i % 25 == 0:
            _cache(draws, self.place / "cache", self.outside)
            return "cache", draws.of(CACHES)
        kind = list(KINDS)[draws.below(len(KINDS))]
        change, commands = KINDS[kind]
        shutil.copytree(self.was.run, self.run)
        change(draws, self.run, self.was)
        return kind, draws.of(commands)

    def bomb(self, kind: str) -> Path:
        """The run with this bomb, made once."""
        if kind not in self.bombs:
            folder = self.bombs[kind] = self.place / "bombs" / f"{len(self.bombs)}"
            shutil.copytree(self.was.run, folder)
            BOMBS[kind][0](folder, self.was)
        return self.bombs[kind]

    def ask(self, args: list[str]) -> dict[str, Any]:
        """What became of the command."""
        if self.worker is None or self.worker.done > EACH or self.worker.process.poll() is not None:
            self.end()
            self.worker = Worker(self.place)
        said = self.worker.ask(args)
        noise = self.worker.noise.read_text(encoding="utf-8", errors="surrogateescape")
        self.worker.noise.write_bytes(b"")
        return said | {"noise": noise}

    def end(self) -> None:
        if self.worker is not None:
            self.worker.end()
            self.worker = None

    def faults(self, said: dict[str, Any]) -> list[str]:
        """What is wrong with the end of a command."""
        found = [said["fault"]] if said["fault"] else []
        if not found and said["code"] not in CODES:
            found.append(f"exit code {said['code']}: {said['said'][-300:]!r}")
        if "Traceback" in said["said"] + said["noise"]:
            found.append(f"a traceback: {(said['said'] + said['noise'])[-600:]}")
        if said.get("unseen") or UNSEEN.search(said["noise"]):
            found.append(f"on the terminal: {said.get('unseen')}, {said['noise'][:200]!r}")
        if said["code"] in (2, 3) and not said["said"].strip():
            found.append("it says nothing")
        if said["peak"] > MOST_BYTES:
            found.append(f"{said['peak'] >> 20} MiB, more than 1 GiB")
        if said["seconds"] > MOST_SECONDS:
            found.append(f"{said['seconds']:.1f} s, more than 10 s")
        if (now := self.surroundings()) != self.around:
            self.around = now
            found.append("a file outside of the run was touched")
        return found


def hostile_config() -> str:
    """The config of the sound run: small, and with a plugin state of each kind."""
    from attack_files import CONFIG

    return CONFIG.replace("rounds = 4", "rounds = 2")


def _schema() -> dict[str, Any]:
    from ev3x.config.schema import schema
    from ev3x.host.host import Host
    from ev3x.host.policy import PluginPolicy

    return schema(Host(policy=PluginPolicy([])))[0]


def _cache(draws: Draws, folder: Path, outside: Path) -> None:
    (folder / "loading").mkdir(parents=True)
    for _ in range(draws.of([1, 5])):
        place = draws.of([folder, folder / "loading"]) / (draws.name()[:60] + draws.of([".kept", ".txt", "", ".new"]))
        if os.path.lexists(place):
            continue
        case = draws.below(5)
        if case == 0:
            place.symlink_to(outside / draws.of(["victim.txt", "folder", "none"]))
        elif case == 1:
            os.mkfifo(place)
        elif case == 2:
            place.touch()
            os.truncate(place, 2**42)
        else:
            place.write_bytes(draws.of([b"", b"ev3x cache 1, sha256 " + b"0" * 64 + b"\n", b"\x1b[31m"]))


def attack(tries: int, seed: int) -> Found:
    """So many commands on hostile inputs."""
    with tempfile.TemporaryDirectory(prefix="ev3x-hostile-") as folder:
        made = Attack(Path(folder), seed)
        try:
            for i in range(tries):
                made.go(i)
        finally:
            made.end()
            subprocess.run(["rm", "-rf", made.run], check=True)
    figures = made.largest | {"kinds": {kind: dict(made.kinds[kind]) for kind in sorted(made.kinds)}}
    return Found("hostile runs, caches and configs", tries, made.counts, made.wrong, figures)


if __name__ == "__main__":
    work(int(sys.argv[2]))
