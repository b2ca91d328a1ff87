"""Three hundred hostile inputs, the same in every run: each ends in words and a documented exit code; nothing is lost.

Names, paths, numbers, TOML, seeds, entry points, option types and consoles. What is drawn is small, so that hypothesis
can find the combination; the commands run in this process.
"""

from __future__ import annotations

import dataclasses
import io
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Literal

import jax
import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from toys import Toy, evolver
from typer.testing import CliRunner

import ev3x
from ev3x.cli import app, console
from ev3x.config import source

ODD = ["", " ", ".", "..", "-", "--", "a" * 300, "a/" * 2100, "$HOME", "$x_{$", "[red]", "[/]", "%s", "{0}", "a\nb"]
ODD += ["\x00", "\x1b[31m", "größe", "\udcff", "💥", "'", '"', "c.toml\n", "NUL", "~", "*", "a[1]", "://", ":", "ev3:"]


def hostile(count: int) -> settings:
    """The same `count` inputs in every run, whatever was found before."""
    return settings(
        max_examples=count,
        derandomize=True,
        deadline=None,
        database=None,
        suppress_health_check=[HealthCheck.function_scoped_fixture],
    )


names = st.sampled_from(ODD) | st.text(st.characters(exclude_categories=()), max_size=12)
NUMBERS = """nan inf -inf -1 0 -0.0 1e400 5e-324 3e38 1e39 2147483648 9223372036854775808 0x7fffffffffffffff 1979-05-27
1_000_000_000_000_000_000_000 true '1e-3' 'nan' [] {} [nan] '' 07:32:00 [[[[1]]]] {a={b=1}}""".split()
numbers = st.sampled_from(NUMBERS)


def ends_in_words(*args: str) -> str:
    """What a command says: it ends with a documented code, and without a traceback."""
    done = CliRunner().invoke(app, args)
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise AssertionError(f"{args!r} ended in a traceback") from done.exception
    said = done.stdout + done.stderr
    faults = {1} if args[:2] == ("plugins", "check") else set()  # it was asked for them
    assert done.exit_code in {0, 2} | faults, (args, done.exit_code, said)
    assert "Traceback" not in said
    assert done.exit_code == 0 or said.strip(), f"{args!r} failed without a word"
    return said


COMMANDS = [["explain"], ["replay"], ["resume"], ["export"], ["config", "check"], ["config", "explain"]]
COMMANDS += [["plugins", "show"], ["plugins", "check"], ["run", "--rounds", "0"], ["config", "check", "--plugin"]]


@hostile(70)
@given(command=st.sampled_from(COMMANDS), name=names)
def test_names_and_paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: list[str], name: str) -> None:
    monkeypatch.chdir(tmp_path)
    ends_in_words(*command, name)
    assert not list(tmp_path.iterdir()), "nothing is written for a name that is refused"


OPTIONS = ["target", "seed", "rounds", "seconds", "gradient_steps", "save_every", "weights", "select.z", "select.block"]
OPTIONS += ["confirm.level", "confirm.blocks", "confirm.guards", "propose.0.length", "propose.0.optimizers"]
OPTIONS += ["propose.0.optimizers.0.learning_rate", "propose.0.losses", "task.hidden", "task", "budget", "layout.chunk"]
OPTIONS += ["observe.0.every", "plugins.enable", "nonsense", "task.nonsense"]
# These accept what the other may not: no more is known of them than that the check ends in words.


@hostile(80)
@given(option=st.sampled_from(OPTIONS), number=numbers)
@example(option="target", number="nan")
@example(option="select.z", number="nan")
@example(option="propose.0.optimizers.0.learning_rate", number="'1e-3'")
def test_numbers(tmp_path: Path, option: str, number: str) -> None:
    config = tmp_path / "c.toml"
    config.write_text("rounds = 3\n", encoding="utf-8")
    said = ends_in_words("config", "check", str(config), "--set", f"{option}={number}")
    if "nan" in number:
        assert "good" not in said, f"{option} = {number} means nothing"


LINES = [
    *source.DEFAULT.read_text(encoding="utf-8").splitlines(),
    *["[task]", "[[task]]", "task = 3", "rounds = []", "[", "]]", '"', "'''", "a.b.c = 1", "[a.b]", "[[observe]]"],
    *["use = 'ev3:'", "use = ':'", "use = '../x'", "use = 'ev3:betting'", "\ufeff", 'x = "\\uD800"', "= 1", "\x00"],
    *["weights = { accuracy = nan }", "seed = -1", "rounds = 1e9", f"rounds = {10**30}", "größe = 'ü'"],
]


@hostile(50)
@given(lines=st.lists(st.sampled_from(LINES), min_size=1, max_size=12), bom=st.booleans(), latin=st.booleans())
def test_toml(tmp_path: Path, lines: list[str], bom: bool, latin: bool) -> None:
    config = tmp_path / "c.toml"
    text = "\n".join(lines)
    config.write_bytes((b"\xef\xbb\xbf" if bom else b"") + text.encode("latin-1" if latin else "utf-8", "replace"))
    ends_in_words("config", "check", str(config))


@pytest.fixture(scope="module")
def toy() -> ev3x.Evolver:
    return evolver()


seeds: st.SearchStrategy[Any] = (
    st.integers(-(2**70), 2**70)
    | st.sampled_from([True, False, np.True_, None, "3", 3.0, np.float32(3), 2**32, 2**32 - 1, -1, [], b"1", 1j])
    | st.builds(lambda kind, value: kind(value), st.sampled_from([np.int8, np.int64, np.uint32]), st.integers(0, 99))
)


@hostile(30)
@given(seed=seeds)
def test_seeds(toy: ev3x.Evolver, seed: Any) -> None:
    sound = isinstance(seed, int | np.integer) and not isinstance(seed, bool) and 0 <= seed < 2**32
    if sound:
        assert jax.random.key_data(toy.init(seed).key).shape == (2,)
        return
    with pytest.raises((TypeError, ValueError), match=r"seed|key"):
        toy.init(seed)


ENTRIES = st.sampled_from(
    [b"[ev3x]", b"[ev3x.api]", b"bad = nowhere", b"bad = v1", b"bad = v9", b"bad = a.b:c.d", b"= x", b"bad =", b"[ev3x",
     b"\xff\xfe", "größe = größe".encode(), b"bad = os:system", b"bad = ../x", b"a:b = c", b"ev3 = mine", b"\x00"]
)  # fmt: skip


@hostile(25)
@given(lines=st.lists(ENTRIES, max_size=5))
def test_entry_points(tmp_path: Path, lines: list[bytes]) -> None:
    info = tmp_path / "ev3x_bad-1.0.dist-info"
    info.mkdir(exist_ok=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: ev3x-bad\nVersion: 1.0\n", encoding="utf-8")
    (info / "entry_points.txt").write_bytes(b"\n".join(lines))
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(tmp_path)
        ends_in_words("plugins", "list")


LEAVES = [int, float, str, bool, bytes, complex, object, type, Any, Callable[[int], int], jax.Array, np.ndarray, None]
LEAVES += [Literal["a", 3], Path, dict, list, set, "Missing", ev3x.Optimizer, Toy, range, np.float32]


def of(kind: Any, inside: Any) -> Any:
    """The generic type `kind[inside]`."""
    return kind[inside]


kinds = st.recursive(
    st.sampled_from(LEAVES),
    lambda inner: (
        inner.map(lambda t: of(tuple, (t, ...)))
        | inner.map(lambda t: of(list, t))
        | inner.map(lambda t: of(dict, (str, t)))
        | inner.map(lambda t: of(Annotated, (t, "help")))
        | inner.map(lambda t: t | None if not isinstance(t, str | None) else t)
    ),
    max_leaves=3,
)
VALUES = [1, 0.5, "a", True, None, b"x", (1, 2), [1], {"a": 1.0}, {1}, len, jax.numpy.tanh, np.zeros(2), float("nan")]


@hostile(30)
@given(kind=kinds, value=st.sampled_from(VALUES))
def test_option_types(kind: Any, value: Any) -> None:
    try:
        made = dataclasses.make_dataclass(
            "Odd", [("x", kind)], bases=(ev3x.Observer,), frozen=True, namespace={"__module__": __name__}
        )
        component = made(x=value)
        hash(component)
    except (ev3x.OptionError, TypeError) as error:
        assert "Odd" in str(error) and "x" in str(error), f"{error} names no component and option"


@hostile(15)
@given(
    name=st.sampled_from(["größe", "[bold]x", "💥", "$x", "\x1b[31m", "\udcff", "a\nb"]),
    encoding=st.sampled_from(["ascii", "latin-1", "cp1252", "utf-8"]),
)
def test_consoles(name: str, encoding: str) -> None:
    raw = io.BytesIO()
    streams = {name: io.TextIOWrapper(raw, encoding=encoding, write_through=True) for name in ("stdout", "stderr")}
    with pytest.MonkeyPatch.context() as patch:
        for name_of, stream in streams.items():
            patch.setattr(sys, name_of, stream)
        patch.setattr(sys, "argv", ["ev3x", "explain", name])
        with pytest.raises(SystemExit) as end:
            ev3x.cli.main()
    assert end.value.code == console.BAD_INPUT and raw.getvalue().strip()
