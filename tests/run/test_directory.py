"""The files of a run: whole or as they were, in UTF-8, at any path that a checkpoint can have; faults in words."""

import os
import shlex
from pathlib import Path

import pytest
from sample_run import put

from ev3x.run.directory import RunError, append_rows, check_run, claim, draft, read, read_as_it_is, resuming, write


class Stop(BaseException):
    """Whatever may end a process in the middle."""


@pytest.mark.parametrize("error", [Stop(), ValueError("not text"), OSError(28, "No space left on device")])
def test_a_draft_goes_whatever_fails_and_the_file_stays(tmp_path, error):
    path = tmp_path / "config.toml"
    write(path, "old")
    expected = RunError if isinstance(error, OSError) else type(error)
    with pytest.raises(expected) as caught, draft(path) as new:
        new.write_text("half", encoding="utf-8")
        raise error
    assert [p.name for p in tmp_path.iterdir()] == ["config.toml"] and path.read_text(encoding="utf-8") == "old"
    if isinstance(error, OSError):
        assert str(caught.value) == f"cannot write {path}: No space left on device"


def test_text_that_cannot_be_written_leaves_nothing(tmp_path):
    with pytest.raises(UnicodeEncodeError):
        write(tmp_path / "config.toml", "no character: \udcff")
    assert not list(tmp_path.iterdir())


def test_the_draft_of_a_killed_process_leaves_the_directory_free(tmp_path):
    (tmp_path / "config.toml.new").write_text("half", encoding="utf-8")
    claim(tmp_path)
    (tmp_path / "other.new").touch()
    with pytest.raises(RunError, match="is not empty"):
        claim(tmp_path)


def test_rows_that_find_no_room_are_told(tmp_path):
    (tmp_path / "rounds.jsonl").symlink_to("/dev/full")
    with pytest.raises(RunError, match=r"cannot write .*rounds.jsonl: No space left on device"):
        append_rows(tmp_path, [{"round": 0}])


@pytest.mark.parametrize("mark", ["", "\ufeff"])
def test_files_are_read_with_and_without_a_byte_order_mark(tmp_path, mark):
    put(tmp_path)
    for name in ("rounds.jsonl", "summary.json"):
        path = tmp_path / name
        path.write_text(mark + path.read_text(encoding="utf-8"), encoding="utf-8")
    rows, summary = read(tmp_path)
    assert (len(rows), summary["task"]) == (6, "ev3:toy") and read_as_it_is(tmp_path) == (rows, summary)


@pytest.mark.parametrize("name", ["rounds.jsonl", "summary.json"])
def test_files_that_are_no_text_are_told(tmp_path, name):
    put(tmp_path)
    (tmp_path / name).write_bytes(b"\xff\xfe")
    with pytest.raises(RunError, match=rf"{name}: must be UTF-8 text"):
        read(tmp_path)
    (tmp_path / name).unlink()
    (tmp_path / name).mkdir()
    with pytest.raises(RunError, match=rf"cannot read .*{name}: Is a directory"):
        read(tmp_path)


def test_a_row_is_a_line_even_with_signs_that_look_like_the_end_of_one(tmp_path):
    put(tmp_path)
    path = tmp_path / "rounds.jsonl"
    path.write_text(path.read_text(encoding="utf-8").replace("why 0", "why\u2028\x85 0"), encoding="utf-8")
    assert [row["round"] for row in read(tmp_path)[0]] == list(range(6))


@pytest.mark.parametrize("check", [check_run, claim])
def test_a_path_that_checkpoints_cannot_have_is_refused(tmp_path, check):
    with pytest.raises(RunError, match=r"r\\udcff: the path of a run must be UTF-8 text$"):
        check(tmp_path / "r\udcff")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("check", [check_run, claim])
def test_a_name_that_the_system_cannot_take_is_refused(tmp_path, check):
    with pytest.raises(RunError):
        check(tmp_path / ("a" * 300))


@pytest.mark.parametrize("name", ["a b", "$HOME", "it's", "größe"])
def test_any_other_name_works_and_its_command_can_be_pasted(tmp_path, name, monkeypatch):
    monkeypatch.chdir(tmp_path)
    claim(Path(name))
    put(Path(name))
    check_run(Path(name))
    assert shlex.split(resuming(Path(name))) == ["ev3x", "resume", name]
    with pytest.raises(RunError) as caught:
        claim(Path(name))
    assert f"`{resuming(Path(name))}` if it is a run" in str(caught.value)
    assert len(read(Path(name))[0]) == 6


def test_a_folder_is_no_file_to_write(tmp_path):
    with pytest.raises(RunError, match=r"^cannot write \.: Is a directory$"):
        write(Path(), "x")


def test_what_is_no_file_stays_what_it_is(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link").symlink_to("pipe")  # as /dev/stdout is one: root would put a file in place of a device
    for name in ("pipe", "link"):
        with pytest.raises(RunError, match=f"^cannot write .*/{name}: it is a device or a pipe, not a file$"):
            write(tmp_path / name, "x")
    assert (tmp_path / "pipe").is_fifo() and (tmp_path / "link").is_symlink()


def test_a_link_stays_and_its_target_is_written(tmp_path):
    (tmp_path / "deep").mkdir()
    (tmp_path / "link").symlink_to("deep/file")
    for text in ("one", "two"):
        write(tmp_path / "link", text)
        assert (tmp_path / "deep" / "file").read_text(encoding="utf-8") == text
    assert (tmp_path / "link").is_symlink() and [p.name for p in (tmp_path / "deep").iterdir()] == ["file"]
    (tmp_path / "round").symlink_to("round")
    with pytest.raises(RunError, match=r"^cannot write .*round: "):
        write(tmp_path / "round", "x")
