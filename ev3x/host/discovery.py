"""What is installed: the index of all plugins, from the metadata of distributions alone. Nothing is imported."""

from __future__ import annotations

import dataclasses
import importlib.metadata
import itertools
import os
import re
import sysconfig
import traceback
from collections.abc import Mapping
from importlib.metadata import Distribution
from pathlib import Path

GROUP, API_GROUP = "ev3x", "ev3x.api"
BUILTIN = "ev3"
# A plugin states the version of the plugin API that it was made for. This ev3x runs OLDEST_API to API_VERSION.
API_VERSION, OLDEST_API = 1, 1


@dataclasses.dataclass(frozen=True)
class PluginInfo:
    """A plugin as its metadata describe it, before anything of it is imported.

    `value` is its entry point, `module` or `module:object`. `distribution` is empty for a plugin that was registered by
    hand (a local file); its `value` then says where it comes from. `api` is the plugin API that it states, as written;
    None if it states none. `attribute` names the object in a local file that has the hooks; "" where the file has them.
    """

    name: str
    value: str
    distribution: str
    version: str
    api: str | None = f"v{API_VERSION}"
    location: Path | None = dataclasses.field(default=None, compare=False)
    attribute: str = dataclasses.field(default="", compare=False)

    def __str__(self) -> str:
        return f"plugin {self.name!r} of {self.distribution or self.value} {self.version}".rstrip()

    @property
    def incompatible(self) -> str | None:
        """Why this plugin does not suit this ev3x, and which of the two to upgrade; None if it suits."""
        if self.api is None:
            return (
                "it does not state the plugin API it was made for: its pyproject.toml needs "
                f'[project.entry-points."{API_GROUP}"] {self.name} = "v{API_VERSION}"'
            )
        if not (stated := re.fullmatch(r"v(\d+)", self.api)):
            return f'it states the plugin API {self.api!r}: must be a version such as "v{API_VERSION}"'
        if int(stated[1]) > API_VERSION:
            return f"it needs plugin API {self.api}, this ev3x has v{API_VERSION}: upgrade ev3x"
        if int(stated[1]) < OLDEST_API:
            return f"it was made for plugin API {self.api}, this ev3x runs v{OLDEST_API} or newer: upgrade the plugin"
        return None


@dataclasses.dataclass(frozen=True)
class Index:
    """All installed plugins by name, names that several distributions claim, and distributions that cannot be used.

    `broken` says by plugin name why its distribution cannot be read (where the name itself is readable); `faults` lists
    every fault found, in words; `copies` are further copies of a distribution on sys.path, which Python ignores.
    """

    plugins: Mapping[str, PluginInfo]
    conflicts: Mapping[str, tuple[PluginInfo, ...]] = dataclasses.field(default_factory=dict)
    broken: Mapping[str, str] = dataclasses.field(default_factory=dict)
    faults: tuple[str, ...] = ()
    copies: Mapping[str, tuple[Path, ...]] = dataclasses.field(default_factory=dict)

    @property
    def names(self) -> tuple[str, ...]:
        """The names of all plugins, usable or not; the built-in one first."""
        others = {*self.plugins, *self.conflicts, *self.broken} - {BUILTIN}
        return (BUILTIN, *sorted(others))

    @property
    def all(self) -> tuple[PluginInfo, ...]:
        """All plugins, including those whose name several distributions claim."""
        return (*self.plugins.values(), *(p for claims in self.conflicts.values() for p in claims))

    @property
    def distributions(self) -> frozenset[str]:
        """The normalized names of all distributions that bring plugins, except ev3x itself."""
        return frozenset(normalized(p.distribution) for p in self.all if p.name != BUILTIN)

    def of(self, distribution: str) -> list[PluginInfo]:
        """The plugins of a distribution, whether they may be used or not."""
        return [p for p in self.all if normalized(p.distribution) == normalized(distribution)]


def is_name(text: str) -> bool:
    """Whether a distribution can have this name."""
    return re.fullmatch(r"[A-Za-z0-9]([\w.-]*[A-Za-z0-9])?", text, re.ASCII) is not None


def normalized(distribution: str) -> str:
    """The name of a distribution as installers compare it: lower case, with hyphens."""
    return re.sub(r"[-_.]+", "-", distribution).lower()


def builtin() -> PluginInfo:
    """The built-in components, a plugin like any other; it exists even where ev3x has no metadata."""
    try:
        version = importlib.metadata.version("ev3x")
    except importlib.metadata.PackageNotFoundError:
        version = "source"
    return PluginInfo(BUILTIN, "ev3x.builtin.plugin", "ev3x", version)


def discover() -> Index:
    """The index of the entry-point group `ev3x`, in an order that does not depend on sys.path.

    Each distribution is read by itself: broken metadata of one, with or without plugins, do not affect the others. Of
    several copies of a distribution on sys.path, the first counts, because Python imports that one, even if it is an
    old version without plugins.
    """
    seen: dict[str, list[str]] = {}
    brought: set[str] = set()
    folders: dict[Path, str] = {}  # the folders of sys.path, links resolved
    claims: dict[str, list[PluginInfo]] = {}
    broken: dict[str, str] = {}
    faults: list[str] = []
    for distribution in importlib.metadata.distributions():
        path = _path(distribution)
        if path.name.startswith("~"):
            faults.append(f"{path}: left over from an upgrade or removal that was cut off; skipped, delete it")
            continue
        if path.parent not in folders:
            folders[path.parent] = os.path.realpath(path.parent)
        stem, real = _stem(path), os.path.join(folders[path.parent], path.name)
        if real in seen.setdefault(stem, []):
            continue  # one folder under two names on sys.path
        seen[stem].append(real)
        names: tuple[str, ...] = ()
        try:
            points = distribution.entry_points
            names = tuple(point.name for point in points if point.group == GROUP)
            if not names:
                continue
            about = distribution.metadata
            if not (name := about["Name"]) or not (version := about["Version"]):
                raise ValueError("METADATA is empty or missing")
        except Exception as error:  # anyone may have written this file
            faults.append(f"{path}: unreadable metadata ({error or type(error).__name__}); skipped, reinstall it")
            broken |= dict.fromkeys(names, faults[-1])
            continue
        brought.add(stem)
        if len(seen[stem]) > 1 or name == "ev3x":
            continue
        apis = {point.name: point.value for point in points if point.group == API_GROUP}
        for point in points:
            if point.group == GROUP:
                made = PluginInfo(point.name, point.value, name, version, apis.get(point.name), path)
                if point.name == BUILTIN:
                    faults.append(f"{made} claims the name of the built-in plugin; ignored")
                else:
                    claims.setdefault(point.name, []).append(made)
    plugins = {BUILTIN: builtin()} | {n: c[0] for n, c in sorted(claims.items()) if len(c) == 1}
    conflicts = {n: tuple(sorted(c, key=str)) for n, c in sorted(claims.items()) if len(c) > 1}
    copies = {stem: tuple(map(Path, seen[stem])) for stem in sorted(brought) if len(seen[stem]) > 1}
    broken = {name: why for name, why in sorted(broken.items()) if name not in claims}
    return Index(plugins, conflicts, broken, tuple(sorted(faults)), copies)


def unreadable(error: BaseException, index: Index) -> str | None:
    """The sentence for an error that Python's own reader of entry points raised; None for any other error.

    Other packages read entry points without a guard: JAX for its backends, pydantic for its plugins.
    """
    places = [frame.f_code.co_filename for frame, _ in traceback.walk_tb(error.__traceback__)]
    inner = itertools.takewhile(_in_the_library, reversed(places))  # the reader, and the codecs that it calls
    if not any(Path(place).is_relative_to(Path(importlib.metadata.__file__).parent) for place in inner):
        return None
    found = [fault for fault in index.faults if "unreadable metadata" in fault]
    return f"{'; '.join(found)}: not even JAX starts beside it" if found else None


def _in_the_library(file: str) -> bool:
    """Whether a file is of Python's standard library."""
    path = Path(file)
    return file.startswith("<frozen ") or (
        path.is_relative_to(sysconfig.get_path("stdlib")) and not {"site-packages", "dist-packages"} & {*path.parts}
    )


def claimed(name: str, claims: tuple[PluginInfo, ...]) -> str:
    """The sentence for a plugin name that several distributions claim."""
    who = " and ".join(f"{p.distribution} {p.version}" for p in claims)
    return f"plugin name {name!r} is claimed by {who}; disable or uninstall all but one"


def _path(distribution: Distribution) -> Path:
    """The path of the metadata of a distribution."""
    return Path(str(getattr(distribution, "_path", "") or distribution.locate_file("")))  # within a zip file, too


def _stem(path: Path) -> str:
    """The normalized name of the distribution whose metadata are at this path."""
    return normalized(path.name.removesuffix(".dist-info").removesuffix(".egg-info").partition("-")[0])
