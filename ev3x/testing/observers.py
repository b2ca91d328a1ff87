"""What is demanded of observers."""

from __future__ import annotations

import contextlib
import copy
import io
import json
import os
import tempfile
from pathlib import Path

from ..core.observe import Limits, Observer, Progress, RunInfo
from . import common, rounds
from .bench import Bench
from .checks import check, demand

METRICS = ("accuracy", "likelihood")


class ObserverBench(Bench):
    """Watches short runs: with and without a directory, from the start and resumed."""

    role = "observer"
    component: Observer

    def watch(self, directory: Path | None, resumed: int = 0) -> tuple[str, bool]:
        """What it printed on standard output, and whether it left its arguments as they were."""
        made, summary = copy.deepcopy(rounds.run())
        told = list(made)
        plain = json.dumps([told, summary])
        names = [c["name"] for c in told[0]["candidates"]]
        run = RunInfo("kit:tiny", 0, METRICS, tuple(names), "", "made up", Limits(len(told)), directory, resumed)
        progress = Progress(len(told), summary["promotions"], {}, 36, 1024, 1.0, None)
        with contextlib.redirect_stdout(io.StringIO()) as printed:
            handle = self.component.start(run, told[:resumed])
            self.component.rounds(handle, [], progress)
            self.component.rounds(handle, told[resumed:], progress)
            self.component.end(handle, summary)
        return printed.getvalue(), json.dumps([told, summary]) == plain


@check("options")
def watches(bench: ObserverBench) -> None:
    """It watches a run to its end: with a directory and without, resumed, without new rounds, without any winner.

    An observer that raises is left out of the run after three faults in a row.
    """
    with tempfile.TemporaryDirectory() as folder:
        bench.watch(None)
        for resumed in (0, 3, len(rounds.run()[0])):
            bench.watch(Path(folder), resumed)


@check("options", "watches")
def quiet(bench: ObserverBench) -> None:
    """It prints nothing on standard output, which belongs to `--json`."""
    text, _ = bench.watch(None)
    demand(not text, "nothing on standard output", repr(text[:80]), "print to sys.stderr")


@check("options", "watches")
def arguments_untouched(bench: ObserverBench) -> None:
    """Rows and summary stay as they are: other observers, and files, get the same ones."""
    _, same = bench.watch(None)
    demand(same, "rows and summary as they were", "changed ones", "copy what is changed")


@check("options", "watches")
def own_directory(bench: ObserverBench) -> None:
    """It writes into the run's directory only, and nothing at all without one."""
    with tempfile.TemporaryDirectory() as elsewhere, contextlib.chdir(elsewhere):
        bench.watch(None)
        found = sorted(os.listdir(elsewhere))
    demand(not found, "no files outside the run's directory", found, "write to run.directory, if there is one")


@check("options", "watches")
def nothing_on_self(bench: ObserverBench) -> None:
    """It keeps nothing on itself: one observer may watch several runs, so its handle carries what it needs."""
    common.nothing_on_self.run(bench)


@check("options", "watches")
def no_config_change(bench: ObserverBench) -> None:
    """Its work changes neither JAX's configuration nor the variables JAX_* and XLA_*."""
    changes = common.changed(bench, lambda: bench.watch(None))
    demand(not changes, "no change", "; ".join(changes), "leave settings to the user")


CHECKS = (
    *common.ALWAYS,
    watches,
    quiet,
    arguments_untouched,
    own_directory,
    nothing_on_self,
    no_config_change,
)
