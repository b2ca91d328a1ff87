"""What a run says and writes where the locale is ASCII, nobody reads it, and the disk is full; what libraries say."""

import json
import logging
import os
import subprocess
import sys
import tomllib
import warnings

from ev3x.cli.console import quietly

PLUGIN = '''
import dataclasses
import ev3x
from ev3x.testing import TinyTask

@dataclasses.dataclass(frozen=True)
class Noted(TinyTask):
    """A task with a note."""

    note: str = ""

    def load(self, seed):
        print("größe")
        return dataclasses.replace(super().load(seed), about=self.note)

@ev3x.hookimpl
def ev3x_tasks():
    return [ev3x.Offer("noted", Noted)]
'''
NOTE = "größe $x_{$ [/bold] → 日本"
CONFIG = f"""\ufeffrounds = 2
confirm = "published"
[task]
use = "noted:noted"
note = "{NOTE}"
[[propose]]
use = "trajectories"
length = 2
losses = [{{ name = "logistic" }}]
optimizers = [{{ name = "sgd", learning_rate = 0.1 }}]
"""
# Text of ev3x that is left to the locale is an error, and no other warning is.
MAIN = """
import sys, warnings
warnings.filterwarnings("error", category=EncodingWarning, module=r"ev3x\\.")
from ev3x.cli import main
main()
"""


def test_a_run_goes_on_where_the_locale_is_ascii_nobody_reads_and_the_disk_is_full(tmp_path):
    (tmp_path / "noted.py").write_text(PLUGIN, encoding="utf-8")
    (tmp_path / "c.toml").write_text(CONFIG, encoding="utf-8")
    out = tmp_path / "a run"
    options = ["-X", "warn_default_encoding", "-W", "ignore::DeprecationWarning"]
    command = ["run", "c.toml", "--plugin", "noted.py", "--out", str(out)]
    ascii_ = {**os.environ, "LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    read, write = os.pipe()
    os.close(read)
    with open("/dev/full", "wb") as full:
        done = subprocess.run(
            [sys.executable, *options, "-c", MAIN, *command],
            cwd=tmp_path, env=ascii_, stdout=full, stderr=write, timeout=300,
        )  # fmt: skip
    os.close(write)
    assert done.returncode == 0
    summary = json.loads((out / "summary.json").read_text(encoding="utf-8"))
    assert (summary["outcome"], summary["rounds"], summary["about"]) == ("finished", 2, NOTE)
    assert summary["observer_faults"]["progress"] >= 1
    assert tomllib.loads((out / "config.toml").read_text(encoding="utf-8"))["task"]["note"] == NOTE
    assert len((out / "rounds.jsonl").read_text(encoding="utf-8").splitlines()) == 2


def test_what_libraries_log_is_said_in_one_line(capsys):
    with quietly():
        logging.getLogger("absl").error("broken: %s\n  at a place\n  in a file", "[/red] file")
        logging.getLogger("strange").info("not worth a line")
        logging.getLogger("ev3x.x").warning("training again")
        (handler,) = (h for h in logging.getLogger().handlers if type(h).__module__ == "ev3x.cli.console")
        handler.emit(logging.LogRecord("strange", logging.WARNING, "", 0, "does not fit %d", ("its argument",), None))
        warnings.warn("two\nlines", stacklevel=1)
    logging.getLogger("strange").warning("not ours any more")
    assert capsys.readouterr().err.splitlines() == [
        "warning: absl: broken: [/red] file",
        "warning: training again",
        "warning: strange: does not fit %d",
        "warning: two lines",
    ]
