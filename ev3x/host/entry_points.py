"""What the entry point of an installed plugin says, where it is written, and why it leads nowhere."""

from __future__ import annotations

import csv
import importlib.metadata
import importlib.util
import json
import pkgutil
import re
import sys
import urllib.parse
import urllib.request
from collections.abc import Iterable
from importlib.metadata import Distribution
from pathlib import Path

from ..component import unknown
from .discovery import GROUP, PluginInfo

FILE = "entry_points.txt"


def quoted(plugin: PluginInfo) -> str:
    """The entry point as it is installed, with file and line; empty for a plugin without one."""
    if not plugin.distribution:
        return ""
    text = f"the entry point is `{plugin.name} = {plugin.value}`"
    return text if plugin.location is None else f"{text} ({plugin.location / FILE}{_line(plugin)})"


def is_authors(plugin: PluginInfo) -> bool:
    """Whether whoever runs this plugin works on it: a local file, or installed from a folder (editable or not)."""
    return not plugin.distribution or _origin(plugin) is not None


def module(plugin: PluginInfo) -> str:
    """The module that the entry point names."""
    return plugin.value.partition(":")[0].strip()


def lost(plugin: PluginInfo, missing: str) -> tuple[bool, str]:
    """Whether the files of a module of a plugin's own package are gone, or there never were any; and this in words."""
    folder, parts = _origin(plugin), missing.split(".")
    if folder is not None and not folder.exists():
        return True, f"the folder that it was installed from is gone: {folder}"
    recorded = _modules(plugin)
    if missing in recorded:
        way = "install it again" if is_authors(plugin) else f"reinstall or uninstall {plugin.distribution}"
        return True, f"its files are gone; {way}"
    parent, leaf = ".".join(parts[:-1]), parts[-1]
    there = _submodules(parent) if parent else {name.partition(".")[0] for name in recorded}
    where = f"in {parent!r}" if parent else f"in {plugin.distribution or plugin.value}"
    return False, f"there is no module {leaf!r} {where}" + (f"; {_near(leaf, there)}" if there else "")


def mend(plugin: PluginInfo) -> str:
    """The entry point, and who corrects it."""
    if not plugin.distribution:
        return ""
    who = "correct it in its pyproject.toml, and install it again" if is_authors(plugin) else "its authors can mend it"
    return f"{quoted(plugin)}; {who}"


def _near(name: str, known: Iterable[str]) -> str:
    """The nearest name, or all of them."""
    return unknown("module", name, known).partition("; ")[2]


def _line(plugin: PluginInfo) -> str:
    """`:LINE` of the entry point in its file; empty where it cannot be found."""
    section = ""
    try:
        lines = (Path(plugin.location or "") / FILE).read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:  # in a zip file, say
        return ""
    for i, line in enumerate(lines, 1):
        if line.lstrip().startswith("["):
            section = line.strip().strip("[]").strip()
        elif section == GROUP and line.partition("=")[0].strip() == plugin.name:
            return f":{i}"
    return ""


def _distribution(plugin: PluginInfo) -> Distribution | None:
    if plugin.location is None:
        return None
    return importlib.metadata.PathDistribution(plugin.location)


def _origin(plugin: PluginInfo) -> Path | None:
    """The folder that a distribution was installed from; None if from a package index or an archive."""
    if (distribution := _distribution(plugin)) is None:
        return None
    try:
        origin = json.loads(distribution.read_text("direct_url.json") or "{}")
        if "dir_info" not in origin:
            return None
        return Path(urllib.request.url2pathname(urllib.parse.urlparse(origin["url"]).path))
    except (OSError, ValueError, KeyError, TypeError, AttributeError):  # anyone may have written it
        return None


def _modules(plugin: PluginInfo) -> set[str]:
    """The modules that the distribution says it installed."""
    if (distribution := _distribution(plugin)) is None:
        return set()
    try:
        # From Python 3.12 on, `files` leaves out those that are gone.
        record = distribution.read_text("RECORD")
        rows = csv.reader((record or "").splitlines())
        files = [row[0] for row in rows if row] if record else [str(file) for file in distribution.files or ()]
    except Exception:  # anyone may have written the record
        return set()
    named = (re.fullmatch(r"([^.]+?)(/__init__)?\.(py|[^/]*\.?so|pyd)", file) for file in files)
    found = {match[1].replace("/", ".") for match in named if match and "-" not in match[1]}
    return found | {name[:i] for name in found for i, letter in enumerate(name) if letter == "."}


def _submodules(package: str) -> set[str]:
    """The modules in a package, without importing them; empty if it is none or cannot be found."""
    try:
        spec = sys.modules[package].__spec__ if package in sys.modules else importlib.util.find_spec(package)
    except (ImportError, ValueError):
        return set()
    return {found.name for found in pkgutil.iter_modules((spec and spec.submodule_search_locations) or ())}
