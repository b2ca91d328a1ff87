"""The cache: of one user, whole, private, and believed only as far as its digests go."""

import os

import pytest
from typer.testing import CliRunner

from ev3x import cache
from ev3x.cli import app


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("EV3X_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def test_what_is_kept_comes_back_and_is_private(folder):
    path = folder / "a.kept"
    assert cache.read(path) is None
    cache.write(path, b"content")
    assert cache.read(path) == b"content"
    assert path.stat().st_mode & 0o777 == 0o600 and folder.stat().st_mode & 0o777 == 0o700


def test_every_flipped_bit_is_seen(folder):
    path = folder / "a.kept"
    cache.write(path, b"content")
    whole = path.read_bytes()
    for i in range(8 * len(whole)):
        damaged = bytearray(whole)
        damaged[i // 8] ^= 1 << i % 8
        path.write_bytes(damaged)
        with pytest.raises(ValueError, match="its digest is not that of its content"):
            cache.read(path)


@pytest.mark.parametrize("kind", ["writable", "theirs", "link", "folder", "large"])
def test_what_another_may_have_written_is_not_believed(folder, kind, monkeypatch):
    path = folder / "a.kept"
    cache.write(path, b"content")
    if kind == "writable":
        path.chmod(0o666)
    elif kind == "theirs":
        facts = os.stat_result((0o100600, 1, 1, 1, os.geteuid() + 1, 1, 1, 0, 0, 0))
        monkeypatch.setattr(os, "fstat", lambda handle: facts)
    elif kind == "link":
        path.rename(folder / "b.kept")
        path.symlink_to(folder / "b.kept")
    elif kind == "folder":
        path.unlink()
        path.mkdir()
    else:
        monkeypatch.setattr(cache, "LARGEST", 50)
    said = {"writable": "other users may write", "theirs": "another user", "link": "symbolic", "large": "more than 50"}
    with pytest.raises((ValueError, OSError), match=said.get(kind, "it is no file|Is a directory")):
        cache.read(path)


def test_the_command_lists_and_clears_what_is_ours(folder):
    run = CliRunner()
    assert "nothing is kept there" in run.invoke(app, ["cache", "list"]).stdout
    cache.write(folder / "a.kept", b"content")
    (folder / "b.kept").write_bytes(b"poison")
    (folder / "theirs.txt").touch()
    (folder / "loading").mkdir()
    (folder / "loading" / "1.txt").touch()
    listed = run.invoke(app, ["cache", "list"]).stdout
    lines = {line.split()[0]: line for line in listed.splitlines() if line.strip()}
    assert lines["a.kept"].rstrip().endswith("good") and "not used: its digest" in lines["b.kept"]
    assert "loading/1.txt" in lines and "theirs.txt" not in lines
    cleared = run.invoke(app, ["cache", "clear"])
    assert cleared.exit_code == 0 and "3 files deleted from" in cleared.stdout
    assert sorted(p.name for p in folder.iterdir()) == ["loading", "theirs.txt"]
