"""The code of a distribution: every file that Python would import for it, listed or not; and its import from source."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Iterable, Iterator, Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, SourceFileLoader, all_suffixes
from importlib.metadata import Distribution
from pathlib import Path
from types import ModuleType

_CODE = (*all_suffixes(), ".so", ".dll", ".dylib", ".pyd")


def is_code(path: Path) -> bool:
    """Whether Python, or the loader of a native library, would take the file for code."""
    return path.name.endswith(_CODE) or ".so." in path.name


def is_cached(path: Path) -> bool:
    """Whether Python itself made the file from a source beside it: `from_source` leaves those unread."""
    return path.parent.name == "__pycache__" and path.suffix == ".pyc" and "." in path.stem


def tops(distribution: Distribution, values: Iterable[str]) -> list[str]:
    """The top-level modules that a distribution brings: by its entry points, and by what it lists."""
    found = {value.partition(":")[0].partition(".")[0].strip() for value in values}
    for file in distribution.files or ():
        name = file.parts[0] if len(file.parts) > 1 else Path(file.name).stem if is_code(Path(file.name)) else ""
        found |= {name} if name.isidentifier() and is_code(Path(file.name)) and name != "__pycache__" else set()
    return sorted(found)


def unlisted(distribution: Distribution, names: Iterable[str], *, everything: bool) -> Iterator[tuple[str, Path]]:
    """The code in the modules of these names, wherever Python would import them from, with names to sort by.

    With `everything`, all files of a package: of an editable install, which lists none of them.
    """
    for name in names:
        spec = importlib.util.find_spec(name)
        places = [*map(Path, (spec and spec.submodule_search_locations) or ())]
        if spec and spec.origin and not places:
            yield Path(spec.origin).name, Path(spec.origin)
        for folder in places:
            # A package without a file of its own is one that several distributions share: each has its own folders.
            shared = spec is not None and spec.origin is None and not everything
            for path in _shared(distribution, folder) if shared else folder.rglob("*"):
                if everything or is_code(path):
                    yield str(path.relative_to(folder.parent)), path


def _shared(distribution: Distribution, folder: Path) -> Iterator[Path]:
    listed = {Path(str(distribution.locate_file(file))).parent for file in distribution.files or ()}
    for inside in sorted(path for path in listed if path.is_relative_to(folder)):
        yield from inside.iterdir()


def from_source(names: Iterable[str]) -> None:
    """From here on, modules of these packages are compiled from their sources, whatever `__pycache__` holds."""
    finder = next((f for f in sys.meta_path if isinstance(f, _Finder)), None)
    if finder is None:
        sys.meta_path.insert(0, finder := _Finder())
    finder.names.update(names)


class _Source(SourceFileLoader):
    """Neither reads nor writes compiled files: without facts of the source, Python cannot tell whether one fits."""

    def path_stats(self, path: str) -> dict[str, int]:
        raise OSError


class _Finder(MetaPathFinder):
    def __init__(self) -> None:
        self.names: set[str] = set()

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """What the other finders say, but compiled from source."""
        if fullname.partition(".")[0] not in self.names:
            return None
        for finder in sys.meta_path:
            if finder is self or not hasattr(finder, "find_spec"):
                continue
            if spec := finder.find_spec(fullname, path, target):
                if type(spec.loader) is SourceFileLoader:
                    spec.loader = _Source(spec.loader.name, spec.loader.path)
                return spec
        return None
