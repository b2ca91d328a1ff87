"""How each case is brought about: functions that run beside all the fakes, and return what happened, in words."""

from __future__ import annotations

import contextlib
import dataclasses
import importlib
import json
import logging
import os
import signal
import socket
import subprocess
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from unittest import mock

from .fakes import STRANGER, thousand
from .wheels import TESTS, Environment


class Waiting(Exception):
    """The case needs something that is not here; the text says what."""


CONFIG = """\
rounds = 6
observe = [{observe}]
{top}
[task]
use = "small:line"
[[propose]]
use = "small:shift"
{propose}
[select]
use = "mean_bounds"
block = 16
[confirm]
use = "published"
block = 16
blocks = 2
[[adapt]]
use = "promote"
{end}
"""


def config(**parts: str) -> str:
    return CONFIG.format(**{"observe": "", "top": "", "propose": "", "end": "", **parts})


def here() -> Environment:
    return Environment.here()


def overlay() -> Path:
    """Where the newer versions are."""
    return here().folder / "overlay"


def beside(folder: Path) -> str:
    """The search path on which what is in this folder comes first."""
    return f"{folder}{os.pathsep}{TESTS}"


def run_directory() -> Path:
    """The run of ev3x-small 1.5 that case 46 leaves for case 44."""
    return here().folder / "run"


def host(**options: Any) -> Any:
    import ev3x

    return ev3x.Host(**options)


def fault(call: Callable[..., object], *args: object, **options: object) -> str:
    """The text of the error that ev3x itself words, as a command line would show it."""
    from ev3x.cli.console import KNOWN

    try:
        result = call(*args, **options)
    except Exception as error:
        if type(error).__name__ not in KNOWN:
            raise
        return str(error)
    raise AssertionError(f"no fault, but {result!r}")


def found(plugin: str, made: Any = None, name: str = "mine") -> str:
    """The fault of a plugin, which must be the same when it is asked for again."""
    made = made or host()
    first = fault(made.find, "assessor", f"{plugin}:{name}")
    assert fault(made.find, "assessor", f"{plugin}:{name}") == first, "another cause the second time"
    return first


@contextlib.contextmanager
def logged() -> Iterator[list[str]]:
    """What plugins do and must not, as it is logged."""
    lines: list[str] = []
    handler = logging.Handler()
    handler.emit = lambda record: lines.append(record.getMessage())  # type: ignore[method-assign]
    logger = logging.getLogger("ev3x.plugins")
    level = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    try:
        yield lines
    finally:
        logger.removeHandler(handler)
        logger.setLevel(level)


def load(text: str, made: Any = None) -> Any:
    from ev3x import config as configs

    return configs.loads(text, "my.toml", host=made or host())


def run(text: str, directory: Path | None = None, **changed: Any) -> tuple[dict[str, Any], list[str]]:
    """The summary of a run, a chunk for each round, and the warnings."""
    from ev3x.run import session

    with warnings.catch_warnings(record=True) as seen, mock.patch.object(session, "CHUNK_SECONDS", 0.0):
        warnings.simplefilter("always", UserWarning)
        summary = session.run(dataclasses.replace(load(text), **changed), directory)
    return summary, [str(w.message) for w in seen if w.category is UserWarning]


def observer(name: str, **options: str | int) -> str:
    return ", ".join([f'{{use = "small:noting", name = "{name}"', *(f"{k} = {v!r}" for k, v in options.items())]) + "}"


@contextlib.contextmanager
def small() -> Iterator[Any]:
    """The module of ev3x-small, with nothing told and nothing broken."""
    module = importlib.import_module("ev3x_small")
    module.TOLD.clear()
    module.BROKEN.clear()
    try:
        yield module
    finally:
        module.TOLD.clear()
        module.BROKEN.clear()


def command(*args: str) -> tuple[int, str, str]:
    """Exit code, standard output and standard error of an ev3x command in this process."""
    from typer.testing import CliRunner

    from ev3x.cli import app

    result = CliRunner().invoke(app, list(args))
    return result.exit_code, result.stdout, result.stderr


def process(*args: str, **variables: str | None) -> subprocess.CompletedProcess[str]:
    return here().run(*args, **variables)


def check(distribution: str, *options: str, **variables: str) -> str:
    """What `ev3x plugins check` says of a distribution; it must fail."""
    done = process("-m", "ev3x.cli", "plugins", "check", distribution, *options, **variables)
    assert done.returncode == 1, f"exit code {done.returncode}: {done.stdout}{done.stderr}"
    return " | ".join((done.stdout + done.stderr).splitlines())


@contextlib.contextmanager
def native_code() -> Iterator[Any]:
    """A registry without the bundled targets in place of this process's, and native code on."""
    from ev3x.ops import native

    with (
        mock.patch.dict(os.environ, EV3X_NATIVE="on"),
        mock.patch.object(native, "registry", native.Registry()) as made,
    ):
        yield made


def brought_up(*plugins: str) -> str:
    """What becomes of the native targets of these plugins, whose other components must work."""
    made = host()
    with native_code() as registry:
        for plugin in plugins:
            made.find("assessor", f"{plugin}:mine")
        records = registry.status()
        with warnings.catch_warnings(record=True) as seen:
            warnings.simplefilter("always")
            for record in records:
                registry.ensure(record.target, record.platform)
        lines = [f"{r.target} of {r.owner} on {r.platform}: {r.state}, {r.reason}" for r in records if not r.fault]
        return " | ".join([*lines, *(str(w.message) for w in seen), *registry.faults])


# --- 1 to 18: what is found and loaded


def exits() -> str:
    """The fault; and the command at its end is run, which removes the plugin."""
    text = found("exits")
    way = text.rpartition("to go on without it: ")[2].split()
    subprocess.run([*way, "--yes", "--quiet"], check=True, env=here().variables(), capture_output=True)
    assert "unknown plugin 'exits'" in found("exits")
    return text


def oserror() -> str:
    return f"{found('raises')} | {found('unlinked')}"


def members() -> str:
    return f"{found('unfinished')} | {found('noclass')}"


def of_strangers() -> str:
    """It spoils no index and no list; JAX itself does not start beside it, which is said of it and of no plugin."""
    path = beside(here().folder / "stranger")
    listed = process("-m", "ev3x.cli", "plugins", "list", PYTHONPATH=path)
    assert listed.returncode == 0 and "ev3x-small " in listed.stdout, listed.stdout
    ran = process("-m", "ev3x.cli", "run", "small:line", PYTHONPATH=path)
    assert ran.returncode == 2 and "Traceback" not in ran.stderr, ran.stderr
    points = here().folder / "stranger" / STRANGER.info / "entry_points.txt"
    points.write_bytes(b"[ev3x]\nm\xfcde = x\n")  # not UTF-8: pydantic meets it first, whose error is a ValueError
    odd = process("-m", "ev3x.cli", "run", "small:line", PYTHONPATH=path)
    assert odd.returncode == 2 and odd.stderr.count("\n") == 1 and "0xfc" in odd.stderr, odd.stderr
    code = "import ev3x\ntry: ev3x.Host().load('good')\nexcept ev3x.PluginError as error: print(error)"
    loaded = process("-c", code, PYTHONPATH=path)
    return f"{listed.stderr.strip()} | {ran.stderr.strip()} | {loaded.stdout.strip()}{loaded.stderr[-500:]}"


def half_removed() -> str:
    made = host()
    assert "half" not in made.index.plugins
    return next(f for f in made.index.faults if "~v3x_half" in f)


def metadata() -> str:
    _, listed, _ = command("plugins", "list")
    assert all(
        any(line.startswith(name) and "skipped" in line for line in listed.splitlines()) for name in ("empty", "bare")
    )
    return f"{found('empty')} | {found('bare')}"


def twice_installed() -> str:
    made = host()
    assert made.load("good").version == "2.0"
    return f"{made.index.plugins['good']} is loaded | {check('ev3x-good', PYTHONPATH=beside(overlay()))}"


def claimed() -> str:
    text = fault(load, config(end='[budget]\nuse = "twice:mine"'))
    assert not {"ev3x_one", "ev3x_two"} & set(sys.modules)
    with mock.patch.dict(os.environ, EV3X_PLUGINS="-ev3x-two"):
        assert host().resolve("twice").distribution == "ev3x-one"
    return text


def shadowed() -> str:
    made = host()
    assert made.find("assessor", "paired")[1].__module__ == "ev3x.builtin.assessors.paired"
    full, kind = made.find("assessor", "shadow:paired")
    return f"{full} is {kind.__module__}.{kind.__name__} | {next(f for f in made.index.faults if 'evil' in f)}"


def incompatible() -> str:
    texts = [found(name) for name in ("old", "new", "unstated")]
    assert not {"ev3x_old", "ev3x_new", "ev3x_unstated"} & set(sys.modules), "it was imported"
    return " | ".join(texts)


def arguments() -> str:
    made = host()
    text = found("arguments", made)
    assert not made._manager.has_plugin("arguments"), "half of it is registered"
    return text


def asynchronous() -> str:
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # a coroutine that nobody awaits
        return f"{found('async')} | {found('coroutine')}"


# --- 5, 19 to 25: a run


def observer_exits() -> str:
    with small() as module:
        summary, told = run(config(observe=observer("leaver", at="end", how="exit") + ", " + observer("other")))
        assert summary["outcome"] == "finished" and module.TOLD.count("other end") == 1
    return f"{told[0]} ({summary['rounds']} rounds, {summary['observer_faults']})"


def observer_raises() -> str:
    with small() as module:
        summary, told = run(config(observe=observer("bad", at="rounds") + ", " + observer("other")))
        assert (module.TOLD.count("bad rounds"), module.TOLD.count("other rounds")) == (3, 6)
        assert summary["observer_faults"] == {"noting": 3} and summary["promotions"] == 1
    assert len(told) == 3
    return told[-1]


def decision_raises() -> str:
    directory = here().folder / "broken-run"
    from ev3x.run.checkpoint import load as read

    with small():
        text = fault(run, config(observe=observer("breaker", how="break the metric", after=3)), directory)
    saved = read(directory / "checkpoints")
    assert saved is not None and int(saved.run["round"]) == 3, "the checkpoint"
    at_once = fault(run, config(propose="fault = 'raises'"))
    return f"{at_once} | {text}"


def start_fails() -> str:
    with small() as module:
        both = observer("first") + ", " + observer("second", at="start")
        _, told = run(config(observe=both))
        assert module.TOLD[:2] == ["first start", "second start"] and module.TOLD[-1] == "first end"
        module.TOLD.clear()
        both = observer("one", at="end") + ", " + observer("two", at="end", how="exit")
        try:
            run(config(observe=both), strict=True)
        except Exception as error:
            group = error.__cause__
            assert isinstance(group, BaseExceptionGroup) and len(group.exceptions) == 2
            assert module.TOLD[-2:] == ["one end", "two end"]
            return f"{told[0]} | {type(error).__name__}: {error}"
    raise AssertionError("strict, and no error")


def wrong_shapes() -> str:
    parts = [{"propose": f"fault = '{what}'"} for what in ("shape", "structure", "type")]
    parts += [{"end": f"[[adapt]]\nuse = 'small:deciding'\nfault = '{what}'"} for what in ("shape", "pair")]
    return " | ".join(fault(run, config(**part)) for part in parts)


def nobody_wins() -> str:
    directory = here().folder / "poor-run"
    summary, _ = run(config(), directory)
    rows = [json.loads(line) for line in (directory / "rounds.jsonl").read_text().splitlines()]
    assert [row["promoted"] for row in rows][:3] == [False] * 3
    return f"{summary['outcome']}: {summary['rounds']} rounds, {summary['promotions']} promoted, test {summary['test']}"


def refused_by_kit(plugin: str) -> str:
    """What the kit says, which plugins call in their own tests, and `ev3x plugins check` for them."""
    from ev3x.testing import ConformanceError, check_proposer

    component = host().build("proposer", f"{plugin}:rule")
    return fault_of(ConformanceError, lambda: check_proposer(component))


# --- 26 to 30: what a plugin may not do when it is imported


def changes() -> str:
    import jax

    text = found("changes")
    assert not jax.config.values["jax_enable_x64"], "not changed back"
    return text


def flag() -> str:
    text = found("flag")
    assert "XLA_FLAGS" not in os.environ, "not changed back"
    return text


def starts_backend() -> str:
    from ev3x.devices import backend_is_up

    assert not backend_is_up(), "too late to see it"
    with logged() as lines:
        host().find("assessor", "early:mine")
    assert backend_is_up()  # with the flag of case 28 it would not be
    return lines[0]


def killed() -> str:
    done = process("-c", "import ev3x; ev3x.Host().load('killed')")
    assert done.returncode == -signal.SIGKILL, done.stderr
    code, _, said = command("doctor")
    assert code == 1
    assert "died while" not in command("doctor")[2], "told twice"
    return said


def slow() -> str:
    from ev3x.host import side_effects

    with logged() as lines, mock.patch.object(side_effects, "SLOW_SECONDS", 0.1):
        host().find("assessor", "slow:mine")
    return lines[0]


# --- 31 to 38: native code


def waits_for_cuda() -> str:
    from ev3x.ops import native

    with native_code() as registry:
        host().load("gpu")
        registry.status()
        text = fault_of(native.NativeError, lambda: registry_require(registry, "ev3x_gpu_op"))
    return f"{brought_up('gpu')} | {text}"


def other_cuda() -> str:
    """On a CPU nobody asks it for what it cannot load; where CUDA is, its loader's error is worded like any other."""
    assert brought_up("cu12") == ""
    return fault(host().targets, "cu12", "CUDA")


def registry_require(registry: Any, target: str) -> None:
    from ev3x.ops import native

    with native.using("require"):
        registry.ensure(target)


def fault_of(kind: type[Exception], call: Callable[[], object]) -> str:
    try:
        call()
    except kind as error:
        return str(error)
    raise AssertionError(f"no {kind.__name__}")


def differs() -> str:
    from ev3x.ops import native

    try:
        native.load_library()
    except Exception as error:
        raise Waiting(f"needs the bundled native code, a real custom call: {error}") from error
    return brought_up("differs")


# --- 39 to 50: configs, processes, checkpoints, the machine


def unknown_component() -> str:
    texts = (config().replace("small:line", use) for use in ("small:lime", "smal:line"))
    return " | ".join(fault(load, text) for text in texts)


def several() -> str:
    text = config(propose="fault = 'no'\nlength = 3").replace("blocks = 2", "blocks = 0").replace("= 6", "= -6")
    return fault(load, text).replace("\n", " | ")


def not_allowed() -> str:
    with mock.patch.dict(os.environ, EV3X_PLUGINS="-ev3x-small"):
        first = fault(load, config())
    second = fault(load, config(end='[plugins]\ndisable = ["ev3x-small"]'))
    return f"{first} | {second}".replace("\n", " | ")


def widened() -> str:
    from ev3x.host.policy import PluginPolicy

    narrow = host(policy=PluginPolicy(allow=["ev3x-small"]))
    texts = [fault(load, config(end='[plugins]\nenable = ["ev3x-good", "ev3x-small"]'), narrow)]
    for use in ("./rule.py:line", "https://example.org/rule.py:line", "os:system", "ev3x_small.Line:line"):
        texts.append(fault(load, config().replace("small:line", use)))
    return " | ".join(texts)


AGREE = """
import sys, jax
jax.config.update("jax_cpu_collectives_implementation", "gloo")
jax.distributed.initialize(f"127.0.0.1:{sys.argv[1]}", 2, int(sys.argv[2]))
import ev3x
from ev3x.host import lock
host = ev3x.Host()
same = [host.load("leaving")]
lock.agree(same)
try:
    lock.agree([*same, host.load("small")])
except lock.LockError as error:
    first = error
try:
    lock.agree(same, "mine.toml:3: unknown plugin" if sys.argv[2] == "1" else "")
except lock.LockError as error:
    print(f"{first}; then {error}")
"""


def processes() -> str:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    paths = (str(TESTS), beside(overlay()))
    started = [
        subprocess.Popen(
            [here().python, "-c", AGREE, str(port), str(rank)],
            env=here().variables(PYTHONPATH=path),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank, path in enumerate(paths)
    ]
    said = [process.communicate(timeout=200) for process in started]
    assert [process.returncode for process in started] == [0, 0], said
    lines = [text.strip().splitlines()[-1] for text, _ in said]  # Gloo has its say before
    assert lines[0] == lines[1], said
    return lines[0]


def resume(*options: str) -> tuple[int, str, str]:
    return command("resume", str(run_directory()), "--json", *options)


def checkpoint() -> str:
    """Resumed with a version that stores another state, with another API, anew, and without the plugin."""
    from ev3x import config as configs
    from ev3x.host import discovery
    from ev3x.run import session

    code, _, first = resume()
    assert code == 2
    with mock.patch.object(discovery, "API_VERSION", 2):
        made = host()
        newer = dataclasses.replace(made.index.plugins["small"], api="v2")
        made.index = dataclasses.replace(made.index, plugins={**made.index.plugins, "small": newer})
        setup = configs.load(run_directory() / "config.toml", host=made)
        second = fault(session.resume, setup, run_directory())
    code, out, third = resume("--drop-plugin-state")
    assert code == 0 and json.loads(out)["rounds"] == 6, third
    sys.path.remove(str(overlay()))
    subprocess.run(
        [here().python, "-m", "pip", "uninstall", "-yq", "ev3x-small"],
        check=True,
        env=here().variables(PYTHONPATH=None),
    )
    importlib.invalidate_caches()
    code, _, fourth = resume()
    assert code == 2
    return " | ".join(text.strip().replace("\n", " | ") for text in (first, second, third, fourth))


def registered() -> str:
    import ev3x

    made, module = host(), importlib.import_module("ev3x_good")
    assert made.register("mine", module) == made.register("mine", module)

    class Late(ev3x.Plugin):
        pass

    texts = [
        fault(made.register, "mine", Late()),
        fault(made.register, "good", module),
        fault(made.register, "x", Late),
    ]
    return " | ".join(texts)


def upgraded() -> str:
    summary, _ = run(config(), run_directory())
    written = json.loads((run_directory() / "summary.json").read_text())["versions"]
    assert written == summary["versions"]
    made = host()
    before = made.index
    pip = [here().python, "-m", "pip", "uninstall", "-yq", "ev3x-leaving"]
    with mock.patch.object(sys, "path", list(sys.path)):
        subprocess.run(pip, check=True, env=here().variables())
    assert made.index is before and "leaving" in made.index.plugins
    return f"ev3x-small {written['ev3x-small']} in the record | {found('leaving', made)}"


def homeless() -> str:
    code = "import ev3x; print(ev3x.Host().find('assessor', 'good:mine')[0])"
    lost = {"EV3X_CACHE": None, "XDG_CACHE_HOME": None}
    missing = process("-c", code, HOME="/proc/nobody", **lost)  # where not even root can write
    nameless = "import os; os.environ.pop('HOME', None); os.getuid = lambda: 987654; " + code
    unknown = process("-c", nameless, **lost)
    assert (missing.returncode, unknown.returncode) == (0, 0), missing.stderr + unknown.stderr
    return f"{missing.stdout.strip()} without a writable home, {unknown.stdout.strip()} without any"


def crowd() -> str:
    from ev3x.host.discovery import discover

    few = len(discover().plugins)
    folder = thousand(here().folder / "thousand")
    with mock.patch.object(sys, "path", [str(folder), *sys.path]):
        times = []
        for _ in range(3):
            start = time.perf_counter()
            index = discover()
            times.append(1000 * (time.perf_counter() - start))
    assert len(index.plugins) == few
    return (
        f"{few} plugins among 1,000 further distributions: {times[0]:.0f} ms the first time, then {min(times):.0f} ms"
    )


def prints() -> str:
    directory = here().folder / "loud-run"
    path = here().folder / "loud.toml"
    path.write_text(config(end='[plugins]\nrequire = ["ev3x-prints"]'))
    with logged() as lines:
        code, out, err = command("run", str(path), "--json", "--out", str(directory))
    assert code == 0, err
    assert json.loads(out)["rounds"] == 6
    return lines[0]


def warnings_as_errors() -> str:
    code = (
        "import ev3x\nfor name in ('warns', 'good'):\n  try: print(ev3x.Host().find('assessor', name + ':mine')[0])\n"
    )
    done = process("-W", "error", "-c", code + "  except ev3x.PluginError as error: print(error)")
    assert done.returncode == 0, done.stderr
    return done.stdout.strip().replace("\n", " | ")
