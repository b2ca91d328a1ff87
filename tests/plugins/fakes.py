"""The fake distributions: what is wrong with each, in the smallest plugin that has it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from .wheels import Fake

SMALL = Path(__file__).with_name("small.py").read_text(encoding="utf-8")

GOOD = """
import dataclasses
import ev3x

@dataclasses.dataclass(frozen=True)
class Mine(ev3x.Assessor):
    '''An assessor.'''
    def begin(self, k, metrics): ...
    def observe(self, evidence, block, question, metrics): ...
    def conclude(self, evidence, question, metrics): ...

@ev3x.hookimpl
def ev3x_assessors():
    return [ev3x.Offer("mine", Mine)]
"""

# A proposer that keeps to the rules, but for one of them.
RULE = """
import dataclasses
import jax, jax.numpy as jnp, numpy as np
import ev3x

@dataclasses.dataclass(frozen=True)
class Rule(ev3x.Proposer):
    "A proposer."
    def labels(self, site): return ("one",)
    def init(self, site, key, current): return {state}
    def learn(self, site, key, state, candidates, feedback): return state + jnp.float32(1)
    def propose(self, site, key, current, state, explore):
        by = {by}
        stack = jax.tree.map(lambda x: (x + jnp.asarray(by, x.dtype))[None], current)
        return ev3x.Candidates(stack, jnp.ones(1, bool), jnp.int32(0), ())

@ev3x.hookimpl
def ev3x_proposers():
    return [ev3x.Offer("rule", Rule)]
"""

# Its handlers answer when they are asked for their version (tests/handlers.py), and compute nothing.
NATIVE = """
import ev3x
from handlers import handler

def agrees(name): ...

@ev3x.hookimpl
def ev3x_ffi_targets(platform):
    return [{targets}]
"""

LOADS_CUDA = """\
if platform == "CUDA":
        raise OSError("libcudart.so.12: cannot open shared object file")
    return"""

# A real custom call, of which the plugin's own definition says something else.
DIFFERS = """
import ev3x
from ev3x.ops import native
import importlib
areas = importlib.import_module("ev3x.ops.rank_metrics")

def compare(name):
    import functools, numpy as np
    operands = [np.zeros((2, 4), np.float32), np.arange(4) < 2]
    wrong = lambda *x: type(r := areas.definition(*x))(*(y + 1 for y in r))
    call = functools.partial(areas._call, target=name)
    ev3x.ops.agree(call, wrong, operands, areas.RankMetrics._fields)

@ev3x.hookimpl
def ev3x_ffi_targets(platform):
    return [ev3x.FfiTarget("ev3x_differs_op", native.load_library().targets["ev3x_rank_metrics"], compare)]
"""


def targets(*made: str) -> str:
    return GOOD + NATIVE.format(targets=", ".join(made))


def write(name: str, content: bytes) -> Callable[[Path, Path], object]:
    """Writes over a file of the dist-info."""
    return lambda site, info: (info / name).write_bytes(content)


def cut_off(site: Path, info: Path) -> None:
    """What an interrupted upgrade leaves behind."""
    info.rename(info.with_name(f"~{info.name[1:]}"))


def changed(old: str, new: str) -> str:
    assert old in GOOD
    return GOOD.replace(old, new)


INSTALLED = (
    Fake("good", GOOD),
    Fake("small", SMALL),
    Fake("leaving", GOOD),
    Fake("lacks", "import not_there_at_all"),
    Fake("raises", "raise RuntimeError('no luck')"),
    Fake("unlinked", "raise OSError('libfoo.so.1: cannot open shared object file')"),
    Fake("syntax", "match = (\n"),
    Fake("exits", "import sys; sys.exit(3)"),
    Fake("stale", GOOD, spoil=lambda site, info: (site / "ev3x_stale.py").unlink()),
    Fake("attribute", GOOD, value="{module}:plugin"),
    Fake("unfinished", changed("def begin(self, k, metrics): ...", "")),
    Fake("noclass", changed('"mine", Mine', '"mine", len')),
    Fake("half", GOOD, spoil=cut_off),
    Fake("empty", GOOD, spoil=write("METADATA", b"")),
    Fake("bare", GOOD, spoil=lambda site, info: (info / "METADATA").unlink()),
    Fake("twice", "raise SystemExit('imported')", distribution="ev3x-one"),
    Fake("twice", "raise SystemExit('imported')", distribution="ev3x-two"),
    Fake("shadow", changed('"mine"', '"paired"')),
    Fake("ev3", GOOD, distribution="evil"),
    Fake("old", "raise SystemExit('imported')", api="v0"),
    Fake("new", "raise SystemExit('imported')", api="v2"),
    Fake("unstated", "raise SystemExit('imported')", api=None),
    Fake("misspelt", changed("ev3x_assessors", "ev3x_asessors")),
    Fake("arguments", changed("ev3x_assessors()", "ev3x_assessors(config)")),
    Fake("async", changed("def ev3x_assessors", "async def ev3x_assessors")),
    Fake(
        "coroutine", changed("return [", "return later([").replace("Mine)]", "Mine)])") + "\nasync def later(x): ...\n"
    ),
    Fake("dice", RULE.format(state="jnp.float32(0)", by="np.random.random()")),
    Fake("weak", RULE.format(state="jnp.asarray(0.0)", by="0.1")),
    Fake("changes", GOOD + "\nimport jax\njax.config.update('jax_enable_x64', True)\n"),
    Fake("flag", GOOD + "\nimport os\nos.environ['XLA_FLAGS'] = '--xla_no_such_flag=1'\n"),
    Fake("early", GOOD + "\nimport jax\njax.devices()\n"),
    Fake("killed", "import os, signal; os.kill(os.getpid(), signal.SIGKILL)"),
    Fake("segfault", "import ctypes; ctypes.string_at(0)"),
    Fake("abort", "import os; os.abort()"),
    Fake("slow", "import time; time.sleep(0.5)\n" + GOOD),
    Fake("hangs", "import time; time.sleep(3600)"),
    Fake("prints", "print('hello from the import')\n" + GOOD),
    Fake("warns", "import warnings; warnings.warn('old ways', DeprecationWarning)\n" + GOOD),
    Fake("twin", targets('ev3x.FfiTarget("ev3x_twin_b_op", handler(0, 1), agrees)')),
    Fake("twin-b", targets('ev3x.FfiTarget("ev3x_twin_b_op", handler(0, 1), agrees)')),
    Fake("thief", targets('ev3x.FfiTarget("ev3x_twin_op", handler(0, 1), agrees)')),
    Fake("newer", targets('ev3x.FfiTarget("ev3x_newer_op", handler(0, 99), agrees)')),
    Fake("older", targets('ev3x.FfiTarget("ev3x_older_op", handler(0, 0), agrees)')),
    Fake("nonsense", targets('ev3x.FfiTarget("ev3x_nonsense_op", handler(0, 1), agrees, platform="nonsense")')),
    Fake("nocapsule", targets('ev3x.FfiTarget("ev3x_nocapsule_op", print, agrees)')),
    Fake("gpu", targets('ev3x.FfiTarget("ev3x_gpu_op", handler(0, 1), agrees, platform="CUDA")')),
    Fake("cu12", GOOD + NATIVE.format(targets="").replace("return", LOADS_CUDA)),
    Fake("differs", GOOD + DIFFERS),
)

# Further up sys.path than the others: newer versions of what is installed already.
OVERLAY = (
    Fake("good", GOOD, version="2.0"),
    Fake("small", SMALL.replace("STATE = 1 ", "STATE = 2 "), version="2.0"),
)


# A stranger, apart from the others: JAX does not start beside it.
STRANGER = Fake("stranger", GOOD, distribution="stranger", spoil=write("entry_points.txt", b"[ev3x]\nno entry point\n"))


def thousand(folder: Path) -> Path:
    """A thousand installed distributions, as installers leave them; one of ten has commands."""
    folder.mkdir()
    for i in range(1000):
        info = folder / f"package_{i}-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(
            f"Metadata-Version: 2.1\nName: package-{i}\nVersion: 1.0\n" + "Keywords: x\n" * 40
        )
        if i % 10 == 0:
            (info / "entry_points.txt").write_text(f"[console_scripts]\ncommand{i} = package_{i}:main\n")
    return folder
