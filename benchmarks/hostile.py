"""Files of runs, and configs, as somebody might write them who means harm: drawn from the schemas of what ev3x reads.

The shapes of rows, summaries and checkpoints are those of `ev3x.run.shapes`, the options those of `ev3x config schema`.
What is drawn either fits its schema, with odd but valid values, or breaks it at one seeded place.
"""

from __future__ import annotations

import copy
import hashlib
import json
import os
import shutil
import socket
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import orbax.checkpoint as ocp

from ev3x.config import toml_text
from ev3x.run import shapes
from ev3x.run.digests import seal

T = TypeVar("T")
TEXTS = ["", " ", "a", "\x1b[31mred", "\x1b]0;title\x07", "\x9b2J", "a\rb", "a\nb", "\x08\x08", "\u2028", "\u202eevil"]
TEXTS += ["[bold]x[/]", "{0}", "%s%n", "$x_{$", "../../victim", "/etc/passwd", "größe", "💥", "\x00", "x" * 3000, "-"]
COUNTS = [0, 1, 2, 3, -1, 99, 2**31 - 1, 2**31, 2**53 + 1, 2**63 - 1, -(2**63) + 1]
NUMBERS = [0.0, -0.0, 0.5, -1.5, 1e-45, 5e-324, 3e38, 1e39, 1.7e308, float("nan"), float("inf"), -float("inf")]
OTHERS: list[Any] = [
    None,
    True,
    3,
    -1,
    0.5,
    10**400,
    -(2**63),
    "x",
    "\x1b[31m",
    [],
    {},
    [[]],
    {"\x1b[2J": 1},
    [None],
    {"": {}},
]
OTHERS += ["y" * 100_000, float("nan")]


class Draws:
    """Seeded choices."""

    def __init__(self, seed: Any) -> None:
        self._made = np.random.default_rng(seed)

    def of(self, things: list[T] | tuple[T, ...]) -> T:
        """One of these."""
        return things[self.below(len(things))]

    def below(self, n: int) -> int:
        """A number from 0 on, below n."""
        return int(self._made.integers(n))

    def name(self) -> str:
        """The name of a file: any bytes that one may have."""
        raw = [
            b"\x1b[31mred",
            b"\xff\xfe",
            b"a\nb",
            b"\x9b2J",
            "größe".encode(),
            b"x" * 255,
            b"-rf",
            b"\x07",
            b".x.new",
        ]
        return os.fsdecode(self.of([*raw, b".rounds.jsonl.0123456789abcdef.new", b"weights.npz", b"curve.png"]))


# Values of JSON, from the shapes.


def fitting(draws: Draws, shape: Any, like: Any = None) -> Any:
    """A value of this shape, with odd texts, numbers and names; its names and lengths are those of `like`, if any."""
    if isinstance(shape, shapes.Kind):
        kinds: list[Any] = [{str: TEXTS, int: COUNTS, float: NUMBERS, bool: [True, False]}.get(t) for t in shape.types]
        return (
            draws.of([*draws.of([k for k in kinds if k]), *[None] * (type(None) in shape.types)])
            if any(kinds)
            else like
        )
    if isinstance(shape, shapes.Each):
        if shape.listed:
            return [fitting(draws, shape.inner, one) for one in like or [None] * draws.below(3)]
        names = like if isinstance(like, Mapping) else [draws.of(TEXTS) for _ in range(draws.below(3))]
        return {name: fitting(draws, shape.inner, like[name] if like else None) for name in names}
    made = dict(like or {})
    for key, inner in shape.items():
        name = key.removesuffix("?")
        if name in made or not key.endswith("?") or draws.below(2):
            made[name] = fitting(draws, inner, made.get(name)) if draws.below(3) or name not in made else made[name]
    return made


def broken(draws: Draws, value: Any) -> Any:
    """The value with one thing in it that is of another kind, is gone, is there besides, or is nested deep."""
    made = copy.deepcopy(value)
    places = list(_places(made))
    if not places:
        return draws.of(OTHERS)
    inside, step = draws.of(places)
    case = draws.below(6)
    if case == 0:
        del inside[step]
    elif case == 1 and isinstance(inside, dict):
        inside[draws.of(TEXTS)] = draws.of(OTHERS)
    elif case == 2:
        inside[step] = json.loads("[" * 80 + "]" * 80)
    else:
        inside[step] = draws.of(OTHERS)
    return made


def _places(value: Any) -> Any:
    for step, inner in list(value.items() if isinstance(value, dict) else enumerate(value)):
        yield value, step
        if isinstance(inner, dict | list):
            yield from _places(inner)


def _text(draws: Draws, value: Any) -> bytes:
    """The value as JSON, now and then not quite."""
    text = json.dumps(value, ensure_ascii=bool(draws.below(2))).encode("utf-8", "surrogatepass")
    case = draws.below(12)
    if case == 0:
        return text[: draws.below(len(text) + 1)]
    if case == 1:
        at = draws.below(len(text))
        return (
            text[:at] + draws.of([b"\xff", b"\x00", b"\x1b[31m", b"[" * 100_000, b"1" * 5000, b"\\ud800"]) + text[at:]
        )
    return text


# Files of a run, each changed in place; `was` is what the run holds.


class Was:
    """What a sound run holds, read once."""

    def __init__(self, run: Path, saved: Any) -> None:
        self.run = run
        self.rows = [json.loads(line) for line in (run / "rounds.jsonl").read_text(encoding="utf-8").splitlines()]
        self.summary = json.loads((run / "summary.json").read_text(encoding="utf-8"))
        self.manifest = json.loads((run / "manifest.json").read_text(encoding="utf-8"))
        self.config = (run / "config.toml").read_text(encoding="utf-8")
        self.tree = {"run": saved.run, "plugins": saved.plugins, "history": saved.records}
        self.meta = saved.meta
        self.step = int(saved.run["round"])


def rows(draws: Draws, run: Path, was: Was) -> None:
    """Rows that fit, with odd values and names of metrics, or one that does not."""
    made = [copy.deepcopy(row) for row in was.rows]
    if draws.below(2):
        made = [fitting(draws, shapes.ROW, row) for row in made]
        for i, row in enumerate(made):
            row["round"] = i
            row["confirm"]["leads"] = was.rows[i]["confirm"]["leads"]
            row["confirm"]["p_values"] = dict.fromkeys(was.rows[i]["confirm"]["p_values"], draws.of(NUMBERS[:8]))
    if draws.below(2):
        at = draws.below(len(made))
        made[at] = broken(draws, made[at])
    lines = [_text(draws, row) for row in made]
    if draws.below(3) == 0:
        metric = was.rows[0]["confirm"]["leads"]
        old, new = (json.dumps(name).encode() for name in (metric, draws.of(TEXTS)))
        lines = [line.replace(old, new) for line in lines]
    (run / "rounds.jsonl").write_bytes(draws.of([b"\n", b"\n", b"\n", b"\r\n", b"\n\n"]).join(lines) + b"\n")


def summary(draws: Draws, run: Path, was: Was) -> None:
    """A summary that fits, or does not."""
    made = fitting(draws, shapes.SUMMARY, was.summary) if draws.below(2) else was.summary
    (run / "summary.json").write_bytes(_text(draws, broken(draws, made) if draws.below(3) else made))


def manifest(draws: Draws, run: Path, was: Was) -> None:
    """A manifest with names that lead elsewhere, whose digest fits, or one that is none."""
    made = copy.deepcopy(was.manifest["files"])
    for _ in range(draws.of([1, 2, 3, 100_000])):
        made[draws.of([*TEXTS, f"f{draws.below(10**9)}", "..", "../outside/victim.txt"])] = draws.of(
            ["", "x", "a link", "0" * 64]
        )
    if draws.below(4) == 0:
        made = broken(draws, made)
    digest = hashlib.sha256(json.dumps(made, sort_keys=True).encode()).hexdigest()
    whole: Any = {"files": made, "digest": digest}
    (run / "manifest.json").write_bytes(_text(draws, broken(draws, whole) if draws.below(4) == 0 else whole))


def checkpoint(draws: Draws, run: Path, was: Was) -> None:
    """A checkpoint with digests that fit, as anyone can make it: other metadata, arrays, names and numbers."""
    tree = {branch: dict(inner) for branch, inner in was.tree.items()}
    tree["plugins"] = {home: dict(inner) for home, inner in was.tree["plugins"].items()}
    meta, step = copy.deepcopy(dict(was.meta)), was.step
    case = draws.below(3)
    if case == 0:
        meta = fitting(draws, shapes.META, meta) if draws.below(2) else broken(draws, meta)
    elif case == 1:
        meta["config"] = draws.of([*TEXTS, "a = [" * 2000, was.config + "\nx = 1", "[" * 2000, was.config])
    for _ in range(draws.of([0, 1, 3]) if case < 2 else draws.of([1, 1, 4])):
        _array(draws, tree)
    if draws.below(8) == 0:
        step = draws.of([0, 1, 7, 2**31, 10**18])
        tree["run"]["round"] = np.asarray(step % 2**31, np.int32)
    sealed: Any = seal(step, tree, meta)
    if draws.below(4) == 0:
        sealed = broken(draws, sealed)
    write_checkpoint(run, step, {name: branch for name, branch in tree.items() if branch}, sealed)


def _array(draws: Draws, tree: dict[str, Any]) -> None:
    """Change one array: its values, its type, its shape, its name, or all of its branch."""
    homes = [tree["run"], tree["history"], tree["history"], *tree["plugins"].values()]
    home = draws.of([h for h in homes if h])
    path = draws.of(sorted(home))
    x, case = np.asarray(home[path]), draws.below(8)
    if case == 0:
        home[path] = x.astype(draws.of([np.float64, np.int64, np.int8, np.bool_, np.complex64, np.uint32]))
    elif case == 1:
        home[path] = draws.of([x[..., None], np.broadcast_to(x, (3, *x.shape)).copy(), np.zeros((), x.dtype)])
    elif case == 2:
        home[draws.of([*TEXTS[1:], "run", "round", "history/round"])] = home.pop(path)
    elif case == 3:
        del home[path]
    elif case == 4:
        home[draws.of(["extra", "model/incumbent/params/../../x", "model/incumbent/file", "\x1b[31m"])] = x
    else:
        by_kind: dict[str, list[Any]] = {"i": [-(2**31), 2**31 - 1, -1, 99, 0], "f": [-1e30, np.nan, np.inf, 0.5]}
        numbers = by_kind.get(x.dtype.kind, [0, 1])
        new = draws.of(numbers)
        made = x.copy().reshape(-1)
        made[draws.below(made.size)] = new
        home[path] = made.reshape(x.shape) if draws.below(2) else np.full_like(x, new)


def write_checkpoint(run: Path, step: int, tree: Mapping[str, Any], sealed: Any) -> None:
    """Put this checkpoint in place of all others."""
    shutil.rmtree(run / "checkpoints")
    with ocp.CheckpointManager((run / "checkpoints").absolute()) as manager:
        manager.save(step, args=ocp.args.Composite(tree=ocp.args.StandardSave(tree), meta=ocp.args.JsonSave(sealed)))


def stored(draws: Draws, run: Path, was: Was) -> None:
    """A file of the last checkpoint as Orbax keeps it, with other JSON or other bytes in it."""
    inside = sorted(path for path in (run / "checkpoints").rglob("*") if path.is_file())
    path = draws.of(inside)
    try:
        made = _text(draws, broken(draws, json.loads(path.read_bytes())))
    except ValueError:
        raw = bytearray(path.read_bytes())
        for _ in range(draws.of([1, 4, 64])):
            raw[(at := draws.below(len(raw) or 1)) : at + 1] = bytes([draws.below(256)])
        made = bytes(raw)
    path.write_bytes(made)


def nodes(draws: Draws, run: Path, was: Was) -> None:
    """Links, pipes, sockets and folders in place of files, and files in place of folders."""
    outside, names = (
        run.parent / "outside",
        ["config.toml", "rounds.jsonl", "summary.json", "manifest.json", "weights.npz"],
    )
    names += [
        ".lock",
        ".held",
        "curve.png",
        "checkpoints",
        "checkpoints/2",
        "checkpoints/2/tree",
        "checkpoints/2/meta/metadata",
    ]
    names += ["checkpoints/1", "checkpoints/9", "checkpoints/damaged", "extra", draws.name()]
    place = run / draws.of(names)
    place.parent.mkdir(parents=True, exist_ok=True)
    if place.is_dir() and not place.is_symlink():
        shutil.rmtree(place)
    else:
        place.unlink(missing_ok=True)
    case, victim = (
        draws.below(9),
        outside / draws.of(["victim.txt", "folder", "folder/checkpoints", "run/config.toml", "run"]),
    )
    if case < 3:
        place.symlink_to(
            draws.of([victim, Path(os.path.relpath(victim, place.parent)), place, outside / "none", Path("/dev/zero")])
        )
    elif case < 5:
        os.link(outside / draws.of(["victim.txt", "run/rounds.jsonl", "run/weights.npz"]), place)
    elif case == 5:
        os.mkfifo(place)
    elif case == 6:
        place.mkdir()
        (place / draws.name()).touch()
    elif case == 7:
        place.write_bytes(b"\x1b[31m" * draws.of([0, 1, 1000]))
    else:
        _socket(place)


def _socket(place: Path) -> None:
    here = os.open(place.parent, os.O_RDONLY)
    try:  # the path of a socket may have 108 bytes only
        with socket.socket(socket.AF_UNIX) as made:
            made.bind(f"/proc/self/fd/{here}/{place.name[:60]}")
    finally:
        os.close(here)


def extra(draws: Draws, run: Path, was: Was) -> None:
    """More files: with odd names, in deep folders, in great number, or with more bytes than are on disk."""
    case = draws.below(5)
    folder = run / draws.of(["checkpoints", "checkpoints/2", "inner", "."])
    folder.mkdir(exist_ok=True)
    if case == 0:
        for _ in range(5):
            (folder / draws.name()).touch()
    elif case == 1:
        here = os.open(folder, os.O_RDONLY)
        for _ in range(draws.of([20, 300])):  # deeper than a path may be long
            os.mkdir("d" * 50, dir_fd=here)
            inner = os.open("d" * 50, os.O_RDONLY, dir_fd=here)
            os.close(here)
            here = inner
        os.close(os.open("file", os.O_CREAT | os.O_WRONLY, dir_fd=here))
        os.close(here)
    elif case == 2:
        for i in range(5000):
            (folder / f"{i}").touch()
    elif case == 3:
        name = draws.of(
            ["weights.npz", "extra", "rounds.jsonl", "summary.json", "config.toml", "manifest.json", ".lock"]
        )
        (run / name).touch()
        os.truncate(run / name, draws.of([2**25, 2**33, 2**42]))
    else:
        path = draws.of(sorted(path for path in run.rglob("*") if path.is_file()))
        os.truncate(path, draws.of([2**25, 2**33, 2**42]))


def settings(draws: Draws, run: Path, was: Was) -> None:
    """Another config of the run."""
    (run / "config.toml").write_bytes(config(draws, was.config))


# Configs.


def config(draws: Draws, base: str, schema: Mapping[str, Any] | None = None) -> bytes:
    """A config: drawn from the schema, or this text with one line that is odd."""
    if schema is not None:
        tree = {name: like(draws, schema["properties"][name]) for name in schema["properties"] if draws.below(3)}
        if draws.below(2):
            tree = broken(draws, tree)
        text = "".join(f"{toml_text.key(str(k))} = {_toml(v)}\n" for k, v in tree.items() if v is not None)
    else:
        lines = base.splitlines()
        at = draws.below(len(lines))
        name = lines[at].partition(" = ")[0]
        name = name if "=" in lines[at] else "rounds"
        lines[at] = draws.of(
            [f"{name} = {_toml(draws.of(OTHERS[1:]))}", f"{toml_text.key(draws.of(TEXTS))} = 1", lines[at] * 2, "["]
        )
        text = "\n".join(lines)
    raw = text.encode("utf-8", "replace")
    case = draws.below(14)
    if case == 0:
        at = draws.below(len(raw) + 1)
        raw = (
            raw[:at]
            + draws.of([b"\xff", b"\x00", b"\x1b", b"[" * 3000, b"9" * 5000, b"a." * 20_000, b"'''"])
            + raw[at:]
        )
    elif case == 1:
        many = draws.of(
            ["k{} = 1\n", "[t{}]\n", "[[propose]]\nuse = 'x{}'\n", "'\x1b[31m{}' = 1\n".replace("\x1b", "\\u001b")]
        )
        raw = "".join(many.format(i) for i in range(20_000)).encode()
    return raw


def _toml(value: Any) -> str:
    try:
        return toml_text.value(value)
    except TypeError:
        return "[]"


def like(draws: Draws, schema: Mapping[str, Any]) -> Any:
    """A value of a JSON schema, at its limits more often than not."""
    if "anyOf" in schema:
        return like(draws, draws.of(schema["anyOf"]))
    if "enum" in schema:
        return draws.of(schema["enum"])
    kind = schema.get("type")
    if kind in ("integer", "number"):
        low, high = (
            schema.get("minimum", schema.get("exclusiveMinimum", -9)),
            schema.get("maximum", schema.get("exclusiveMaximum", 9)),
        )
        within = [low, low + 1, high, high - 1, (low + high) / 2, schema.get("default", low)]
        found = draws.of([x for x in within if x is not None])
        return int(found) if kind == "integer" else float(found)
    if kind == "string":
        return draws.of([*TEXTS, "kl", "labels", "accuracy"])
    if kind == "boolean":
        return bool(draws.below(2))
    if kind == "array":
        n = max(schema.get("minItems", 0), draws.of([0, 1, 1, 2, 1200 if draws.below(40) == 0 else 1]))
        return [like(draws, schema.get("items", {"enum": [1]})) for _ in range(n)]
    if kind == "object":
        known = schema.get("properties", {})
        chosen = {
            name: like(draws, inner)
            for name, inner in known.items()
            if name in schema.get("required", ()) or draws.below(3) == 0
        }
        extra = schema.get("additionalProperties", False)
        return chosen | ({draws.of(TEXTS): like(draws, extra)} if isinstance(extra, dict) else {})
    return draws.of([None, 1]) if kind != "null" else None


Change = Callable[[Draws, Path, Was], None]
