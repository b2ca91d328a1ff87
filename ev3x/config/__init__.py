"""Configs: TOML text and overrides become a `Setup`, or one error that lists everything that is wrong.

A config names components of installed plugins, and nothing else: no value of it is a path, a URL or a dotted name.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from pathlib import Path

import jax

from ..host import lock
from ..host.host import Host
from ..run.setup import Setup
from ..text import shown, why
from .build import Builder
from .override import ConfigError, Override
from .resolved import Part, render
from .sections import STOPS
from .source import DEFAULT, Document, parse, with_defaults

LARGEST = 2**24

__all__ = ["ConfigError", "Override", "explain", "load", "loads"]


def load(path: Path | None, overrides: Sequence[Override] = (), host: Host | None = None) -> Setup:
    """The run that a config file and overrides describe; without a file, the default one."""
    return _build(path, overrides, host)[0]


def loads(text: str, name: str = "config", overrides: Sequence[Override] = (), host: Host | None = None) -> Setup:
    """The run that this TOML text describes; `name` stands in error messages."""
    return _built(with_defaults(text, name), overrides, host)[0]


def explain(path: Path | None, overrides: Sequence[Override] = (), host: Host | None = None) -> str:
    """The whole config, all defaults written out, each option with its help."""
    return render(_build(path, overrides, host)[1], explain=True)


def _build(path: Path | None, overrides: Sequence[Override], host: Host | None) -> tuple[Setup, list[Part]]:
    if path is None:
        source = parse(DEFAULT.read_text(encoding="utf-8"), DEFAULT.name)
        source.defaulted.update(source.tree)
        if {o.path for o in overrides} & set(STOPS):  # a user who sets a stop need not also undo the default one
            source.tree.pop("rounds", None)
    else:
        try:
            with path.open(encoding="utf-8") as file:
                text = file.read(LARGEST + 1)
            if len(text) > LARGEST:
                raise ConfigError([f"{shown(path)}: a config must have at most {LARGEST:,} characters, got more"])
            source = with_defaults(text, shown(path))
        except OSError as error:
            raise ConfigError([f"{shown(path)}: cannot be read: {why(error)}"]) from error
        except UnicodeDecodeError as error:
            raise ConfigError([f"{shown(path)}: is not UTF-8 text: {error}"]) from error
    return _built(source, overrides, host)


def _built(source: Document, overrides: Sequence[Override], host: Host | None) -> tuple[Setup, list[Part]]:
    """The setup of this source, and its parts. Other processes that wait for this one learn of its problems."""
    try:
        return Builder(source, overrides, host or Host()).build()
    except ConfigError as error:
        if jax.distributed.is_initialized():
            with contextlib.suppress(lock.LockError):
                lock.agree((), problem=str(error))
        raise
