"""The table: what a plugin host must survive, case by case, and what must be seen of it."""

from __future__ import annotations

import dataclasses
import traceback
from collections.abc import Callable, Mapping, Sequence
from typing import Literal

from . import acts

Group = Literal["host", "fresh", "overlay"]


@dataclasses.dataclass(frozen=True)
class Case:
    """`act` returns what happened, of which all in `seen` must be a part. A group of cases shares a process."""

    number: int
    name: str
    act: Callable[[], str]
    seen: tuple[str, ...]
    group: Group = "host"

    @property
    def id(self) -> str:
        return f"{self.number}-{self.name.replace(' ', '-')}"


def broken(number: int, name: str, plugin: str, *seen: str) -> Case:
    """A plugin that cannot be used: named, with its distribution and version, its cause and the way to go on."""
    begins, way = f"plugin '{plugin}' of ev3x-{plugin} 1.5 cannot be loaded: ", f"-m pip uninstall ev3x-{plugin}"
    return Case(number, name, lambda: acts.found(plugin), (begins, *seen, "; to go on without it: ", way))


CASES: Sequence[Case] = (
    broken(1, "a dependency is missing", "lacks", "No module named 'not_there_at_all'; install that package"),
    Case(
        2,
        "an error at import",
        acts.oserror,
        (
            "ev3x-raises 1.5",
            "RuntimeError: no luck",
            "ev3x-unlinked 1.5",
            "OSError: libfoo.so.1: cannot open shared object file",
            "pip uninstall ev3x-unlinked",
        ),
    ),
    broken(3, "not Python", "syntax", "SyntaxError: '(' was never closed", "ev3x_syntax.py:1)"),
    Case(
        4,
        "sys.exit at import",
        acts.exits,
        ("ev3x-exits 1.5 cannot be loaded: it called sys.exit(3)", "-m pip uninstall ev3x-exits"),
    ),
    Case(
        5,
        "sys.exit in an observer",
        acts.observer_exits,
        (
            "observer 'noting' (plugin 'small' of ev3x-small 1.5) failed: it called sys.exit(3)",
            "6 rounds",
            "{'noting': 1}",
        ),
    ),
    broken(
        6,
        "its module is gone",
        "stale",
        "No module named 'ev3x_stale': its files are gone; reinstall or uninstall ev3x-stale",
    ),
    broken(
        7, "its attribute is gone", "attribute", "AttributeError: module 'ev3x_attribute' has no attribute 'plugin'"
    ),
    Case(
        8,
        "members are missing",
        acts.members,
        (
            "ev3x-unfinished 1.5 cannot offer its assessors: TypeError: 'mine': Mine lacks begin",
            "ev3x-noclass 1.5",
            "'mine' must offer a subclass of ev3x.Component, got <built-in function len>",
        ),
    ),
    Case(
        9,
        "a stranger's entry points",
        acts.of_strangers,
        (
            "stranger-1.5.dist-info: unreadable metadata",
            "skipped, reinstall it",
            "not even JAX starts beside it",
            "ev3x-good 1.5 cannot be loaded: ",
        ),
    ),
    Case(
        10,
        "a package half removed",
        acts.half_removed,
        ("~v3x_half-1.5.dist-info: left over from an upgrade or removal that was cut off; skipped, delete it",),
    ),
    Case(
        11,
        "METADATA empty or missing",
        acts.metadata,
        (
            "plugin 'empty' cannot be used: ",
            "plugin 'bare' cannot be used: ",
            "METADATA is empty or missing",
            "reinstall it",
        ),
    ),
    Case(
        12,
        "installed twice",
        acts.twice_installed,
        (
            "ev3x-good 2.0 is loaded",
            "installed more than once",
            "ev3x_good-2.0.dist-info is used",
            "ev3x_good-1.5.dist-info is not",
        ),
        "overlay",
    ),
    Case(
        13,
        "one name, two distributions",
        acts.claimed,
        (
            "my.toml:19: budget.use: plugin name 'twice' is claimed by ev3x-one 1.5 and ev3x-two 1.5",
            "; disable or uninstall all but one",
        ),
    ),
    Case(
        14,
        "the name of a built-in",
        acts.shadowed,
        (
            "shadow:paired is ev3x_shadow.Mine",
            "plugin 'ev3' of evil 1.5 claims the name of the built-in plugin; ignored",
        ),
    ),
    Case(
        15,
        "another plugin API",
        acts.incompatible,
        (
            "made for plugin API v0, this ev3x runs v1 or newer: upgrade the plugin",
            "needs plugin API v2, this ev3x has v1: upgrade ev3x",
            "does not state the plugin API it was made for",
        ),
    ),
    broken(16, "a hook misspelt", "misspelt", "unknown hook 'ev3x_asessors'; did you mean 'ev3x_assessors'?"),
    Case(17, "wrong hook arguments", acts.arguments, ("ev3x-arguments 1.5", "hook 'ev3x_assessors'", "config")),
    Case(
        18,
        "an async hook",
        acts.asynchronous,
        (
            "ev3x_assessors is async: hooks are called, not awaited",
            "ev3x-coroutine 1.5 cannot offer its assessors: TypeError: a hook returned a coroutine",
        ),
    ),
    Case(
        19,
        "an observer raises",
        acts.observer_raises,
        (
            "observer 'noting' (plugin 'small' of ev3x-small 1.5) failed: ZeroDivisionError: not at the rounds",
            "it is left out from now on",
        ),
    ),
    Case(
        20,
        "a decision raises",
        acts.decision_raises,
        (
            "plugin 'small' of ev3x-small 1.5: 'shift' failed in `propose`: ZeroDivisionError: no proposal today",
            "plugin 'small' of ev3x-small 1.5: metric 'right' of the task Line: a callback raised ZeroDivisionError: ",
            "no score today (",
            "3 rounds are kept, `ev3x resume",
        ),
    ),
    Case(
        21,
        "the start of a later one fails",
        acts.start_fails,
        (
            "observer 'noting#2' (plugin 'small' of ev3x-small 1.5) failed: ZeroDivisionError: not at the start",
            "ObserverError: --strict-plugins: ",
            "it called sys.exit(3)",
        ),
    ),
    Case(
        22,
        "wrong types and shapes",
        acts.wrong_shapes,
        (
            "plugin 'small' of ev3x-small 1.5: proposer 'shift': candidates['params']['b'] must be float32[2]",
            "got float32[3]",
            "the candidates must have the model's structure",
            "propose must return Candidates, got list",
            "adapter 'deciding': decision.aims must be floats of shape (1,), got float32 of shape (7,)",
            "adapter 'deciding': decide must return a Decision and the next state, got Decision",
        ),
    ),
    Case(
        23, "no finite score, no candidate", acts.nobody_wins, ("finished: 6 rounds, 1 promoted, test {'right': 1.0}",)
    ),
    Case(
        24,
        "not the same for the same key",
        lambda: acts.refused_by_kit("dice"),
        ("same_key_same_bits: expected the same bits when traced anew",),
    ),
    Case(
        25,
        "a new program every round",
        lambda: acts.refused_by_kit("weak"),
        ("one_trace: expected one trace; got 1 more",),
    ),
    broken(
        26,
        "JAX's settings changed",
        "changes",
        "SideEffectError: it changed jax_enable_x64 from False to True",
        "which is for the program alone to set: changed back",
    ),
    Case(
        27,
        "the backend started",
        acts.starts_backend,
        ("plugin 'early' of ev3x-early 1.5 starts JAX's backends when it is loaded",),
        "fresh",
    ),
    Case(
        28,
        "an unknown XLA flag",
        acts.flag,
        ("ev3x-flag 1.5", "it changed the variable XLA_FLAGS from None to '--xla_no_such_flag=1'", "changed back"),
        "fresh",
    ),
    Case(28, "an unknown XLA flag, checked", lambda: acts.check("ev3x-flag"), ("ev3x-flag", "XLA_FLAGS"), "fresh"),
    Case(
        29,
        "the process dies at import",
        acts.killed,
        ("a process died while it was loading plugin 'killed' of ev3x-killed 1.5",),
    ),
    Case(29, "a segfault, checked", lambda: acts.check("ev3x-segfault"), ("ev3x-segfault", "SIGSEGV"), "fresh"),
    Case(29, "an abort, checked", lambda: acts.check("ev3x-abort"), ("ev3x-abort", "SIGABRT"), "fresh"),
    Case(30, "a slow import", acts.slow, ("plugin 'slow' of ev3x-slow 1.5 has been loading for",)),
    Case(
        30,
        "an import that hangs, checked",
        lambda: acts.check("ev3x-hangs", "--timeout", "5"),
        ("ev3x-hangs", "5 s"),
        "fresh",
    ),
    Case(
        31,
        "one target name, two plugins",
        lambda: acts.brought_up("twin", "twin-b", "thief"),
        (
            "offered by plugin 'twin' of ev3x-twin 1.5 and by plugin 'twin-b' of ev3x-twin-b 1.5",
            "; uninstall one of them",
            "plugin 'thief' of ev3x-thief 1.5 cannot offer its native targets: ValueError: ",
            "the names of its targets must begin with 'ev3x_thief_'",
        ),
    ),
    Case(
        32,
        "newer FFI headers",
        lambda: acts.brought_up("newer"),
        (
            "ev3x_newer_op of ev3x-newer 1.5 is not used",
            "built with XLA FFI 0.99, but this jaxlib has 0.",
            "upgrade jaxlib, or get ev3x-newer 1.5 built with older headers",
        ),
    ),
    Case(
        33,
        "older FFI headers than run",
        lambda: acts.brought_up("older"),
        (
            "ev3x_older_op of ev3x-older 1.5 is not used",
            "built with XLA FFI 0.0: downgrade jaxlib, or get ev3x-older 1.5 built with newer headers",
        ),
    ),
    Case(
        34,
        "an unknown platform",
        lambda: acts.brought_up("nonsense"),
        (
            "plugin 'nonsense' of ev3x-nonsense 1.5 cannot offer its native targets: ValueError: ",
            "'ev3x_nonsense_op': platform must be one of",
            "got 'nonsense'",
        ),
    ),
    Case(
        35,
        "no capsule",
        lambda: acts.brought_up("nocapsule"),
        (
            "ev3x_nocapsule_op of ev3x-nocapsule 1.5 is not used",
            "a handler must be a PyCapsule, or a dict of them by stage, got <built-in function print>",
        ),
    ),
    Case(
        36,
        "for CUDA, on a CPU",
        acts.waits_for_cuda,
        ("ev3x_gpu_op of ev3x-gpu 1.5 on CUDA: jnp, no CUDA device is here", "ev3x-gpu 1.5 offers it for CUDA alone"),
    ),
    Case(
        37,
        "for another CUDA",
        acts.other_cuda,
        ("plugin 'cu12' of ev3x-cu12 1.5 cannot offer its native targets: OSError: libcudart.so.12: cannot open",),
    ),
    Case(
        38,
        "not what the definition says",
        acts.differs,
        (
            "native target ev3x_differs_op of ev3x-differs 1.5 is not used, its jnp definition is: ",
            "differs from the definition",
        ),
    ),
    Case(
        39,
        "an unknown component",
        acts.unknown_component,
        (
            "my.toml:5: task.use: unknown task 'small:lime'; did you mean 'small:line'?",
            "unknown plugin 'smal'; did you mean 'small'?; `ev3x plugins list` shows what is installed",
            "pip installs more",
        ),
    ),
    Case(
        40,
        "several wrong options",
        acts.several,
        (
            "my.toml:1: rounds: ",
            "my.toml:8: propose[0].fault: ",
            "my.toml:9: propose[0].length: unknown option 'length'",
            "confirm.blocks: ",
        ),
    ),
    Case(
        41,
        "a disabled plugin",
        acts.not_allowed,
        (
            "my.toml:5: task.use: plugin 'small' of ev3x-small 1.5 cannot be used: ",
            "ev3x-small is disabled by EV3X_PLUGINS",
            "ev3x-small is disabled by my.toml:19",
        ),
    ),
    Case(
        42,
        "a config that wants more",
        acts.widened,
        (
            "my.toml:19: plugins.enable[0]: cannot widen what is allowed: ev3x-good is not among",
            "the distributions that the program's PluginPolicy allows",
            "unknown plugin './rule.py'",
            "unknown plugin 'https://example.org/rule.py'",
            "unknown plugin 'os'",
            "unknown plugin 'ev3x_small.Line'",
        ),
    ),
    Case(
        43,
        "other plugins in another process",
        acts.processes,
        (
            "the processes of this run do not have the same plugins: ev3x-small is 1.5 (sha256 ",
            " process 0, 2.0 (sha256 ",
            "; then the processes of this run do not have the same plugins: process 1 cannot begin: mine.toml:3: ",
        ),
    ),
    Case(
        44,
        "a checkpoint of another version",
        acts.checkpoint,
        (
            "plugin 'small': proposers/shift must be float32[2], got float32[1]",
            "`ev3x resume RUN --drop-plugin-state`",
            "its states were saved by small@v1, it is small@v2 now",
            "starts anew: plugin 'small'",
            "unknown plugin 'small'",
            "config.toml:",
        ),
        "overlay",
    ),
    Case(
        45,
        "registered twice, or a class",
        acts.registered,
        (
            "cannot be registered: its name is that of plugin 'mine'",
            "its name is that of plugin 'good' of ev3x-good 1.5",
            "Late is a class, an instance is expected: have you forgotten the ()?",
        ),
    ),
    Case(
        46,
        "upgraded during the run",
        acts.upgraded,
        (
            "ev3x-small 1.5 in the record",
            "ev3x-leaving was removed or upgraded after this process had begun",
            "start it again",
        ),
    ),
    Case(47, "no home directory", acts.homeless, ("good:mine without a writable home, good:mine without any",)),
    Case(48, "1,000 distributions", acts.crowd, ("plugins among 1,000 further distributions: ",)),
    Case(49, "output at import", acts.prints, ("plugin 'prints' of ev3x-prints 1.5 printed: hello from the import",)),
    Case(
        50,
        "warnings as errors",
        acts.warnings_as_errors,
        (
            "plugin 'warns' of ev3x-warns 1.5 cannot be loaded: DeprecationWarning: old ways",
            "pip uninstall ev3x-warns",
            "good:mine",
        ),
    ),
)


def happened(group: str) -> Mapping[str, tuple[str, str]]:
    """What happened in every case of a group: a state (ok, FAILED, waits) and words. All must leave others unharmed."""
    results = {}
    for case in CASES:
        if case.group == group:
            results[case.id] = _tried(case)
    return results


def _tried(case: Case) -> tuple[str, str]:
    try:
        text = case.act()
        acts.host().find("assessor", "good:mine")  # all others work as before
    except acts.Waiting as reason:
        return "waits", str(reason)
    except BaseException:
        return "FAILED", traceback.format_exc()
    missing = [part for part in case.seen if part not in text]
    return ("FAILED", f"{text}\nlacks {missing}") if missing else ("ok", text)
