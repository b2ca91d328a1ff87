"""Text for people: on one line, in whatever a screen can show; a standard stream that breaks ends nothing."""

import io
import json
import os
import pathlib
import shlex
import subprocess
import sys

import pytest

from ev3x import text
from ev3x.cli import console as console_
from ev3x.cli import tables
from ev3x.config import toml_text


@pytest.mark.parametrize(
    ("raw", "seen"),
    [
        ("größe [bold] $x_{$ :smile:", "größe [bold] $x_{$ :smile:"),
        ("two\nlines\r\n", "two\\nlines\\r\\n"),
        ("bell\x07, colour\x1b[31m, page\x85", "bell\\x07, colour\\x1b[31m, page\\x85"),
        ("no UTF-8 \udcff", "no UTF-8 \\udcff"),
        ("line\u2028paragraph\u2029", "line\\u2028paragraph\\u2029"),
        ("turned\u202egnp.\u2066", "turned\\u202egnp.\\u2066"),
        ("marked\u200f\u061c\u200e", "marked\\u200f\\u061c\\u200e"),
    ],
)
def test_what_is_shown_is_the_text_on_one_line(raw, seen):
    assert text.shown(raw) == seen and len(seen.splitlines()) == 1


@pytest.mark.parametrize("name", ["a b", "$HOME", "it's", "größe", "a;b", ""])
def test_a_command_can_be_pasted_into_a_shell(name):
    assert shlex.split(text.command("ev3x", "resume", name)) == ["ev3x", "resume", name]


def test_arguments_are_utf_8_whatever_the_locale_makes_of_them(monkeypatch):
    as_ascii = "größe".encode().decode("ascii", "surrogateescape")
    assert [text.utf8(t) for t in ("größe", as_ascii, "a\nb")] == ["größe", "größe", "a\nb"]
    with pytest.raises(ValueError, match=r"must be UTF-8 text, got 'x\\\\udcff'"):
        text.utf8("x\udcff")


def test_json_has_no_numbers_that_json_does_not_have():
    value = {"a": [1.5, float("inf"), (float("nan"), -float("inf"))], "b": "größe\udcff", "c": None}
    written = text.json_text(value)
    assert json.loads(written, parse_constant=pytest.fail) == {
        "a": [1.5, None, [None, None]],
        "b": "größe\udcff",
        "c": None,
    }
    assert written.isascii()


class Broken(io.StringIO):
    """A stream that nobody reads any more."""

    def write(self, text):
        raise BrokenPipeError(32, "Broken pipe")

    def flush(self):
        raise BrokenPipeError(32, "Broken pipe")


def test_a_stream_that_breaks_loses_its_text_and_says_so_once():
    stream = text.Stream(Broken())
    print("lost", file=stream, flush=True)
    stream.writelines(["one", "two"])
    text.console(stream).print("no", "SystemExit", "of", "rich")
    with pytest.raises(BrokenPipeError):
        stream.check()
    stream.check()


def test_a_closed_stream_is_no_error():
    inner = io.StringIO()
    inner.close()
    stream = text.Stream(inner)
    print("lost", file=stream)
    assert isinstance(stream.fault, OSError)


def test_signs_that_a_strict_stream_lacks_are_escaped():
    raw = io.BytesIO()
    stream = text.Stream(io.TextIOWrapper(raw, encoding="ascii"))
    print("größe", file=stream, flush=True)
    assert raw.getvalue() == b"gr\\xf6\\xdfe\n" and stream.fault is None


def test_a_stream_that_was_closed_before_the_start_takes_text(monkeypatch):
    monkeypatch.setattr(sys, "stderr", None)
    stream = text.standard("stderr")
    assert stream.write("nobody sees this") == 16 and not stream.isatty()
    with pytest.raises(OSError, match="it is closed"):
        stream.check()


def test_a_console_takes_no_markup_from_text(capsys):
    from rich.table import Table

    console = text.console(text.standard("stdout"), width=80)
    console.print("[bold]x[/bold] [/] :smile:")
    table = Table("[red]head", box=None)
    table.add_row("[/green] :x:")
    console.print(table)
    lines = [line.strip() for line in capsys.readouterr().out.splitlines()]
    assert lines == ["[bold]x[/bold] [/] :smile:", "[red]head", "[/green] :x:"]


LASTING = """
import sys
from ev3x import text
from ev3x.cli import console as console_
from ev3x.cli import tables
from ev3x.config import toml_text
text.make_lasting()
print(sys.argv[1], flush=True)
sys.exit(text.lost())
"""


def say(words, *before, **options):
    """A process that prints these words and then ends with what was lost."""
    command = [sys.executable, "-c", LASTING, words]
    return subprocess.run([*before, *command], stderr=subprocess.PIPE, timeout=60, **options)


@pytest.mark.parametrize(
    ("encoding", "seen"),
    [
        ("ascii", b"gr\\u00f6\\u00dfe \\u2192 \\U0001f600 \\udcff"),
        ("latin-1", b"gr\xf6\xdfe \\u2192 \\U0001f600 \\udcff"),
        ("cp1252", b"gr\xf6\xdfe \\u2192 \\U0001f600 \\udcff"),
        ("utf-8:strict", "größe → 😀 \\udcff".encode()),
    ],
)
def test_signs_that_an_encoding_lacks_are_escaped(encoding, seen):
    done = say("größe → 😀 \udcff", stdout=subprocess.PIPE, env={**os.environ, "PYTHONIOENCODING": encoding})
    assert (done.stdout.strip(), done.returncode, done.stderr) == (seen, 0, b"")


def test_a_program_outlives_its_output():
    """A pipe that nobody reads is what its reader wants; a full disk is told; a closed stream was meant so."""
    read, write = os.pipe()
    os.close(read)
    done = say("x" * 100_000, stdout=write)
    os.close(write)
    assert (done.returncode, done.stderr) == (0, b"")
    with open("/dev/full", "wb") as full:
        done = say("x", stdout=full)
    assert done.returncode == 1 and b"standard output is not complete: No space left on device" in done.stderr
    done = say("x", "sh", "-c", 'exec "$@" >&-', "-")
    assert (done.returncode, done.stderr) == (0, b"")


def test_a_lock_and_a_picture_are_whole_or_as_they_were(tmp_path, monkeypatch):
    """Whoever writes a file in one go does it through a draft."""
    from sample_rows import ROWS, info

    from ev3x.builtin.observers.curve import Curve
    from ev3x.host import lock
    from ev3x.host.host import Host

    def full(path, words, **options):
        path.touch()
        raise OSError(28, "No space left on device")

    def spoilt(figure, path, **options):
        full(path, "")

    (tmp_path / "curve.png").write_bytes(b"old")
    (tmp_path / "lock").write_text("old", encoding="utf-8")
    monkeypatch.setattr(pathlib.Path, "write_text", full)
    monkeypatch.setattr("matplotlib.figure.Figure.savefig", spoilt)
    with pytest.raises(lock.LockError, match="cannot be written: No space left on device"):
        lock.write(Host(), tmp_path / "lock")
    summary = {"rounds": 6, "promotions": 1, "test": {"m": None}, "baseline": {"m": None}}
    with pytest.raises(OSError, match="No space left on device"):
        Curve().end(Curve().start(info(tmp_path), ROWS), summary)
    assert {p.name: p.read_bytes() for p in tmp_path.iterdir()} == {"curve.png": b"old", "lock": b"old"}


@pytest.mark.parametrize("through", ["console", "table", "out", "say", "json", "toml", "traceback"])
def test_no_control_character_reaches_a_screen(capsys, through):
    """Every way from text of strangers to a screen, `shown` before it or not."""
    signs = [*range(10), *range(11, 32), *range(127, 160), 0x61C, 0x200E, 0x200F, *range(0x2028, 0x202F)]
    odd = "".join(map(chr, signs)) + "[31m"
    if through == "console":
        tables.console().print(odd)
    elif through == "table":
        odd = "\x1b[31m\x07\x85"  # the line of a table is as long as its screen
        tables.console().print(tables.table((odd,), [(odd,)]))
    elif through == "out":
        console_.out(odd)
    elif through == "say":
        console_.say(odd)
    elif through == "json":
        print(text.json_text({odd: odd}))
    elif through == "toml":
        print(toml_text.value({odd: odd}))
    else:
        console_.print_traceback(ValueError(odd))
    said = "".join(capsys.readouterr())
    assert "[31m" in said and said.replace("\n", "").isprintable()
