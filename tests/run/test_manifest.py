"""The manifest: every file of a run that has ended is covered, and whatever is altered is named."""

import json
import os

import pytest
from sample_run import put

from ev3x.run.directory import RunError
from ev3x.run.manifest import Fault, Verified, altered_in, reseal, seal, sealed, unseal, verify
from ev3x.testing.fixtures import command

FILES = ["checkpoints/4/tree/d/x", "config.toml", "curve.png", "rounds.jsonl", "summary.json", "weights.npz"]


@pytest.fixture
def ended(tmp_path):
    """A directory with a file of each kind, and its manifest."""
    put(tmp_path)
    (tmp_path / "checkpoints/4/tree/d").mkdir(parents=True)
    for name in FILES:
        (tmp_path / name).write_bytes(b"0123456789" + name.encode())
    (tmp_path / ".lock").touch()
    seal(tmp_path)
    return tmp_path


def test_an_untouched_run_is_sound_and_reading_writes_nothing(ended):
    before = sorted(ended.rglob("*"))
    found = verify(ended)
    assert (found.sound, found.faults) == (len(FILES), ()) and len(found.digest or "") == 64
    assert sorted(ended.rglob("*")) == before


@pytest.mark.parametrize("name", FILES)
def test_a_flipped_bit_a_missing_and_a_swapped_file_are_named(ended, name):
    path = ended / name
    whole = path.read_bytes()
    path.write_bytes(bytes([whole[0] ^ 1]) + whole[1:])
    assert verify(ended).faults == (Fault(name, "is not what it was when the run ended"),)
    path.unlink()
    assert verify(ended).faults == (Fault(name, "is missing"),)
    path.write_bytes((ended / next(other for other in FILES if other != name)).read_bytes())
    assert verify(ended) == Verified(
        len(FILES) - 1, (Fault(name, "is not what it was when the run ended"),), verify(ended).digest
    )


def test_files_that_came_later_and_links_are_named_and_no_link_is_followed(ended, tmp_path_factory):
    outside = tmp_path_factory.mktemp("outside")
    (outside / "file").write_bytes((ended / "curve.png").read_bytes())
    (ended / "checkpoints/99").mkdir()
    (ended / "checkpoints/99/new").touch()
    (ended / "folder").symlink_to(outside)
    (ended / "curve.png").unlink()
    (ended / "curve.png").symlink_to(outside / "file")
    later = "is not of this run: the manifest does not have it"
    expected = [
        ("checkpoints/99/new", later),
        ("curve.png", "is not what it was when the run ended"),
        ("folder", later),
    ]
    assert [(f.file, f.what) for f in verify(ended).faults] == expected


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"files": {}, "digest": 1}', "[" * 100_000, "\xff", None])
def test_a_manifest_that_was_altered_is_named_and_nothing_is_taken_from_it(ended, text):
    path = ended / "manifest.json"
    edited = path.read_text().replace("curve.png", "curve.pnf")
    path.write_bytes((edited if text is None else text).encode("latin-1"))
    fault = Fault("manifest.json", "is not what was written, so nothing can be compared with it")
    assert verify(ended) == Verified(0, (fault,), None)


def test_weights_that_are_exported_later_are_entered_and_others_are_not(ended, tmp_path_factory):
    (ended / "weights.npz").write_bytes(b"new")
    (ended / "curve.png").write_bytes(b"new")
    reseal(ended, ended / "weights.npz")
    outside = tmp_path_factory.mktemp("outside") / "weights.npz"
    outside.touch()
    reseal(ended, outside)
    assert [fault.file for fault in verify(ended).faults] == ["curve.png"]
    assert sorted(json.loads((ended / "manifest.json").read_text())["files"]) == FILES


def test_a_run_that_goes_on_has_none(ended):
    assert sealed(ended)
    unseal(ended)
    unseal(ended)
    reseal(ended, ended / "weights.npz")
    assert not sealed(ended) and verify(ended) == Verified(0, (), None)


def test_a_folder_that_is_no_run_is_refused(tmp_path):
    with pytest.raises(RunError, match=r"is no run directory: it has no config\.toml"):
        verify(tmp_path)


def test_a_manifest_that_is_a_link_is_not_followed(ended, tmp_path):
    (ended / "manifest.json").rename(tmp_path / "other")
    (ended / "manifest.json").symlink_to(tmp_path / "other")
    with pytest.raises(RunError, match=r"cannot read .*manifest\.json: "):
        verify(ended)


def test_what_is_no_file_is_not_opened(ended):
    os.mkfifo(ended / "pipe")
    assert [fault.file for fault in verify(ended).faults] == ["pipe"]


def test_a_file_of_holes_is_told_and_not_read(ended):
    os.truncate(ended / "weights.npz", 2**42)
    assert verify(ended).faults == (Fault("weights.npz", "is not what it was when the run ended"),)


def test_what_is_altered_in_a_folder_is_named(ended):
    assert altered_in(ended, "checkpoints") == []
    (ended / "checkpoints/5").mkdir()
    (ended / "checkpoints/5/new").touch()
    (ended / FILES[0]).unlink()
    (ended / "curve.png").unlink()
    assert altered_in(ended, "checkpoints") == [FILES[0], "checkpoints/5/new"]
    (ended / "manifest.json").write_text("{}", encoding="utf-8")
    assert altered_in(ended, "checkpoints") == ["manifest.json"]
    unseal(ended)
    assert altered_in(ended, "checkpoints") == []


def test_of_very_many_faults_the_first_are_shown(ended):
    for i in range(130):
        (ended / f"extra {i:03}").touch()
    done = command("verify", ended)
    assert done.exit_code == 3 and "extra 099" in done.stderr and "extra 100" not in done.stderr
    assert "and 30 more (--json has all)" in done.stderr
    assert len(json.loads(command("verify", ended, "--json").stdout)["faults"]) == 130
