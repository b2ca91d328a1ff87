"""How long the command line and the imports take: with many distributions installed, against a bare interpreter.

    python benchmarks/start.py [--repeats 15]

Each row is a process of its own; all are started in turn, and a difference is the median over pairs with a 95%
interval. The distributions are folders of metadata, as pip writes them, in front of what is installed: one in ten
brings an ev3x plugin, all bring console scripts. It is checked that neither jax nor any plugin was imported.
Prints a table and writes benchmarks/results/start.json.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import timing
from measure import write
from rich.console import Console
from rich.table import Table

ALONE = "import sys; from ev3x.cli import app; app(sys.argv[1:], standalone_mode=False)"
CHECKED = f"{ALONE}; sys.exit('jax' in sys.modules or any(name.startswith('module_of') for name in sys.modules))"
OTHERS = "import jax, flax, optax"


def main() -> None:
    """Times all rows, prints them and writes them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=15)
    repeats = parser.parse_args().repeats
    with tempfile.TemporaryDirectory() as folder:
        few, many = (_installed(Path(folder) / str(n), n) for n in (200, 1000))
        calls = {
            "bare interpreter": _process("pass"),
            "ev3x --version, 200 distributions": _process(ALONE, "--version", path=few),
            "ev3x plugins list, 200 distributions": _process(ALONE, "plugins", "list", path=few),
            "ev3x plugins list, 1000 distributions": _process(ALONE, "plugins", "list", path=many),
            OTHERS: _process(OTHERS),
            f"{OTHERS}, ev3x": _process(f"{OTHERS}, ev3x"),
        }
        for arguments in (("--version",), ("plugins", "list")):
            _process(CHECKED, *arguments, path=few)()
        seconds = timing.interleaved(calls, repeats)
    bare, others = seconds["bare interpreter"], seconds[OTHERS]
    table = Table("process", "ms", "ms more than bare", "times the other imports")
    rows: list[dict[str, Any]] = []
    for name, taken in seconds.items():
        more = timing.median(1e3 * (taken - bare))
        ratio = timing.median(taken / others) if name.startswith(OTHERS) else None
        rows.append({"process": name, "ms": timing.median(1e3 * taken), "more_ms": more, "ratio": ratio})
        spread = f"{more['median']:.0f} ({more['low']:.0f} to {more['high']:.0f})"
        times = f"{ratio['median']:.3f} ({ratio['low']:.3f} to {ratio['high']:.3f})" if ratio else ""
        table.add_row(name, f"{rows[-1]['ms']['median']:.0f}", spread, times)
    Console().print(table)
    write("start", {"repeats": repeats, "rows": rows})


def _installed(folder: Path, count: int) -> Path:
    """A folder with the metadata of so many distributions."""
    for i in range(count):
        info = folder / f"stranger_{i}-1.{i}.dist-info"
        info.mkdir(parents=True)
        (info / "METADATA").write_text(
            f"Metadata-Version: 2.1\nName: stranger-{i}\nVersion: 1.{i}\n" + "About it.\n" * 200, encoding="utf-8"
        )
        plugin = f"[ev3x]\np{i} = module_of_{i}\n[ev3x.api]\np{i} = v1\n" if i % 10 == 0 else ""
        (info / "entry_points.txt").write_text(
            f"[console_scripts]\ns{i} = stranger_{i}:main\n{plugin}", encoding="utf-8"
        )
    return folder


def _process(code: str, *arguments: str, path: Path | None = None) -> Callable[[], Any]:
    """A call that runs this code in a process of its own."""
    command = [sys.executable, "-c", code, *arguments]
    environment = {**os.environ, **({"PYTHONPATH": str(path)} if path else {})}
    return lambda: subprocess.run(command, env=environment, check=True, stdout=subprocess.DEVNULL)


if __name__ == "__main__":
    main()
