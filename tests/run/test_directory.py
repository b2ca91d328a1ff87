"""The files of a run: whole or as they were, in UTF-8, at any path that a checkpoint can have; faults in words."""

import errno
import json
import os
import resource
import shlex
import shutil
import socket
import subprocess
from pathlib import Path

import pytest
from sample_run import ROWS, SUMMARY, put, read, read_as_it_is

from ev3x.run import directory as module
from ev3x.run.directory import (
    RunError,
    alone,
    append_rows,
    check_run,
    claim,
    draft,
    resuming,
    write,
    write_rows,
)


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
    with draft(tmp_path / "config.toml") as new:
        left = new.name
    (tmp_path / "config.toml").rename(tmp_path / left)
    claim(tmp_path)
    (tmp_path / ".other.0123456789abcdef.new").touch()
    with pytest.raises(RunError, match="is not empty"):
        claim(tmp_path)


def test_rows_that_find_no_room_are_told_and_leave_no_part(tmp_path):
    write_rows(tmp_path, [{"round": 0}])
    before, limits = (tmp_path / "rounds.jsonl").read_bytes(), resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(before) + 5, limits[1]))
    try:
        with pytest.raises(RunError, match=r"cannot write .*rounds.jsonl: File too large"):
            append_rows(tmp_path, [{"round": 1}])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert (tmp_path / "rounds.jsonl").read_bytes() == before


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
    with pytest.raises(RunError, match=rf"{name}(:1)?: must be UTF-8 text"):
        read(tmp_path)
    (tmp_path / name).unlink()
    (tmp_path / name).mkdir()
    with pytest.raises(RunError, match=rf"{name} must be a file of the run itself, got a folder"):
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


@pytest.mark.parametrize("name", ["a[1]", "**", "what?/below"])
def test_a_path_that_checkpoints_take_for_a_pattern_is_refused_before_anything_is_made(tmp_path, name):
    with pytest.raises(RunError, match=r"must not hold [*?[], because checkpoints cannot .*; choose another path$"):
        claim(tmp_path / name)
    assert not list(tmp_path.iterdir())


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


NAMES = ["config.toml", "rounds.jsonl", "summary.json", ".lock", "checkpoints"]


@pytest.mark.parametrize("name", [*NAMES, "checkpoints/1", "checkpoints/0/tree"])
@pytest.mark.parametrize("kind", ["link", "dangling", "pipe"])
def test_what_leads_out_of_the_run_is_refused(tmp_path, name, kind):
    """A run that somebody else has made holds links and pipes: whoever works on it checks it first."""
    (tmp_path / "run").mkdir()
    place, victim = put(tmp_path / "run") / name, tmp_path / "victim"
    place.parent.mkdir(parents=True, exist_ok=True)
    place.unlink(missing_ok=True)
    if kind == "pipe":
        os.mkfifo(place)
    else:
        if kind == "link":
            victim.mkdir() if "checkpoints" in name else victim.write_text("theirs", encoding="utf-8")
        place.symlink_to(victim)
    got = "another kind of file" if kind == "pipe" else "a link"
    with pytest.raises(RunError, match=rf"{name} must be a (file|folder) of the run itself, got {got}"):
        check_run(tmp_path / "run")


@pytest.mark.parametrize("name", ["config.toml", "rounds.jsonl", "summary.json", "checkpoints/1/tree/manifest.ocdbt"])
def test_a_file_of_holes_is_refused_before_anything_is_read(tmp_path, name):
    path = put(tmp_path) / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()
    os.truncate(path, 2**42)
    with pytest.raises(RunError, match=rf"{name} must be a file that .*, got one of 4,398,046,511,104 bytes, of which"):
        check_run(tmp_path)


class Uncounted:
    """The facts of a file whose blocks are not counted yet, as those of a new one on ZFS."""

    st_blocks = 1

    def __init__(self, path):
        facts = os.lstat(path)
        self.st_mode, self.st_size = facts.st_mode, facts.st_size


def test_a_new_file_whose_blocks_are_not_counted_yet_is_no_file_of_holes(tmp_path):
    path = tmp_path / "weights"
    path.write_bytes(b"w" * (module.HOLLOW + 10**6))
    assert not module.hollow(path, Uncounted(path)) and module.on_disk(path, Uncounted(path)) == path.stat().st_size
    path.write_bytes(b"")
    os.truncate(path, 2**42)
    assert module.hollow(path, Uncounted(path)) and module.on_disk(path, Uncounted(path)) == 512


def test_nothing_is_written_through_a_link(tmp_path):
    """As far as a link appears after the check: what replaces a file replaces the link, the rest refuses it."""
    victim, run = tmp_path / "victim", tmp_path / "run"
    run.mkdir()
    for name in ("config.toml", "curve.png"):
        victim.write_text("theirs", encoding="utf-8")
        (run / name).symlink_to(victim)
        write(run / name, "ours")
        assert not (run / name).is_symlink() and (run / name).read_text(encoding="utf-8") == "ours"
    for name, work in (
        ("rounds.jsonl", lambda: append_rows(run, [{"round": 0}])),
        (".lock", lambda: alone(run).__enter__()),
    ):
        (run / name).symlink_to(victim)
        with pytest.raises(RunError, match=r"cannot write .*: Too many levels of symbolic links"):
            work()
    assert victim.read_text(encoding="utf-8") == "theirs"


def test_the_name_of_a_draft_cannot_be_foreseen(tmp_path):
    with draft(tmp_path / "a") as one, draft(tmp_path / "a") as other:
        assert one != other and one.parent == other.parent == tmp_path and one.is_file()
    long = tmp_path / ("ö" * 127)
    write(long, "as long as a name may be")
    assert [p.name for p in sorted(tmp_path.iterdir())] == ["a", long.name]


def changed(value, path, new):
    """The value with another one at this path; `...` takes it away."""
    made = inner = json.loads(json.dumps(value))
    for step in path[:-1]:
        inner = inner[step]
    if new is ...:
        del inner[path[-1]]
    else:
        inner[path[-1]] = new
    return made


def fields(value, path=()):
    """The path of every field of a row."""
    for step, inner in value.items() if isinstance(value, dict) else enumerate(value):
        yield (*path, step)
        if isinstance(inner, dict | list):
            yield from fields(inner, (*path, step))


@pytest.mark.parametrize(
    "new", [..., [], {"\x1b[31m": 1}, 10**400, [[[1]]]], ids=["none", "list", "table", "huge", "deep"]
)
def test_a_row_with_any_field_of_another_type_is_told(tmp_path, new):
    """Every field, one by one: the file, its line and the field are named, or what is shown does not depend on it."""
    from ev3x.run.explain import of_round, overview

    told = 0
    put(tmp_path)
    for path in list(fields(ROWS[1])):
        text = json.dumps(changed(ROWS[1], path, new))
        (tmp_path / "rounds.jsonl").write_text(f"{json.dumps(ROWS[0])}\n{text}\n", encoding="utf-8")
        try:
            rows, summary = read(tmp_path)
        except RunError as error:
            told += 1
            assert f"{tmp_path}/rounds.jsonl:2: must be the row of a round" in str(error)
            assert str(path[0]) in str(error) and len(str(error)) < 600
        else:
            overview(rows, summary)
            of_round(rows, 1)
    assert told > 60


@pytest.mark.parametrize(
    ("summary", "text"),
    [
        ("[1]", "must be a table, got a list"),
        ('{"task": 3}', "task: must be a text or null, got a number"),
        ('{"assumes": "all"}', "assumes: must be a list, got 'all'"),
        ("[" * 100_000 + "]" * 100_000, "nested more than 64 deep"),
        ("[" * 200 + "]" * 200, "nested more than 64 deep"),
        ("1" * 5000, "in JSON"),
        ("{", "in JSON"),
    ],
)
def test_a_summary_that_is_none_is_told(tmp_path, summary, text):
    put(tmp_path)
    (tmp_path / "summary.json").write_text(summary, encoding="utf-8")
    with pytest.raises(RunError, match=rf"summary.json: must be the summary of a run.*{text}"):
        read(tmp_path)
    read_as_it_is(tmp_path)  # a replay tells what differs


def test_rows_that_cannot_follow_each_other_are_told(tmp_path):
    put(tmp_path, [ROWS[0], ROWS[0]])
    with pytest.raises(RunError, match=r"rounds.jsonl:2: .* round: must be 1, after the row before, got 0"):
        read(tmp_path)


def test_a_file_that_no_run_can_have_written_is_not_read(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "LONGEST", 20_000)
    put(tmp_path, summary=SUMMARY | {"about": " " * 20_000})
    with pytest.raises(RunError, match=r"summary.json: must have at most 20,000 bytes, got more"):
        read(tmp_path)
    put(tmp_path, [ROWS[0], ROWS[1] | {"why": " " * 20_000}])
    for work in (read, read_as_it_is):
        with pytest.raises(RunError, match=r"(rounds.jsonl:2|summary.json): must .* at most 20,000 bytes, got more"):
            work(tmp_path)


@pytest.fixture
def no_locks(monkeypatch):
    def refuse(*_):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(module.fcntl, "lockf", refuse)


@pytest.mark.usefixtures("no_locks")
def test_without_locks_a_file_holds_the_run(tmp_path):
    put(tmp_path)
    warned = pytest.warns(UserWarning, match=r"there are no locks \(No locks available\), .held holds the run")
    with warned, alone(tmp_path):
        assert json.loads((tmp_path / ".held").read_text(encoding="utf-8"))["process"] == os.getpid()
        with pytest.raises(RunError, match=rf"is in use by process {os.getpid()} on .*; if that has ended, delete"):
            alone(tmp_path).__enter__()
    assert not (tmp_path / ".held").exists()


@pytest.mark.usefixtures("no_locks")
@pytest.mark.parametrize(
    "said", ["", "[1]", '{"process": -1, "host": "\\u001b[31m"}', '{"process": 1, "host": "other"}']
)
def test_a_file_that_holds_the_run_is_believed_only_when_its_process_is_gone(tmp_path, said):
    put(tmp_path)
    (tmp_path / ".held").write_text(said, encoding="utf-8")
    with pytest.raises(RunError, match="if that has ended, delete") as caught:
        alone(tmp_path).__enter__()
    assert str(caught.value).isprintable()
    gone = subprocess.Popen(["true"])
    gone.wait()
    mine = {"process": gone.pid, "host": socket.gethostname()}
    (tmp_path / ".held").write_text(json.dumps(mine), encoding="utf-8")
    with pytest.warns(UserWarning, match="there are no locks"), alone(tmp_path):
        pass


@pytest.mark.parametrize("how", ["removed", "moved", "replaced"])
def test_a_directory_that_vanishes_is_not_made_anew(tmp_path, how):
    run = tmp_path / "run"
    run.mkdir()
    with alone(run):
        write_rows(run, ROWS[:1])
        shutil.move(run, tmp_path / "other")
        if how == "removed":
            shutil.rmtree(tmp_path / "other")
        if how == "replaced":
            (run).mkdir()
            (run / ".lock").touch()
        for work in (append_rows, write_rows):
            with pytest.raises(RunError, match=r"rounds.jsonl: the directory of the run was removed, moved"):
                work(run, ROWS[1:2])
    assert not (run / "rounds.jsonl").exists()


def test_what_is_no_file_stays_what_it_is(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link").symlink_to("pipe")  # as /dev/stdout is one: root would put a file in place of a device
    for name in ("pipe", "link"):
        said = f"^cannot write .*/{name}: it is a device or a pipe, not a file$"
        with pytest.raises(RunError, match=said), draft(tmp_path / name, follow=True):
            pass
    with pytest.raises(RunError, match=r"pipe: it is a device or a pipe, not a file$"):
        write(tmp_path / "pipe", "x")
    assert (tmp_path / "pipe").is_fifo() and (tmp_path / "link").is_symlink()


def test_a_link_that_a_user_names_stays_and_its_target_is_written(tmp_path):
    (tmp_path / "deep").mkdir()
    (tmp_path / "link").symlink_to("deep/file")
    for text in ("one", "two"):
        with draft(tmp_path / "link", follow=True) as new:
            new.write_text(text, encoding="utf-8")
        assert (tmp_path / "deep" / "file").read_text(encoding="utf-8") == text
    assert (tmp_path / "link").is_symlink() and [p.name for p in (tmp_path / "deep").iterdir()] == ["file"]
    (tmp_path / "round").symlink_to("round")
    with pytest.raises(RunError, match=r"^cannot write .*round: "), draft(tmp_path / "round", follow=True) as new:
        new.write_text("x", encoding="utf-8")
