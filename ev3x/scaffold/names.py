"""What a plugin is called, and where."""

from __future__ import annotations

import dataclasses
import re

from ..host.discovery import API_VERSION, BUILTIN, discover, normalized

_NAME = re.compile(r"(?=.{1,40}\Z)[a-z][a-z0-9]*(-[a-z0-9]+)*")


class ScaffoldError(ValueError):
    """A plugin that cannot be written; the text says why, and what to do."""


@dataclasses.dataclass(frozen=True)
class Names:
    """The names that follow from that of a plugin. Raises ScaffoldError for one that no new plugin can have here."""

    name: str

    def __post_init__(self) -> None:
        if not _NAME.fullmatch(self.name):
            raise ScaffoldError(
                "the name of a plugin must be words of lower-case letters and digits, joined by hyphens, of 40 "
                f"characters at most, such as 'random-steps', got {self.name!r}"
            )
        if self.name == BUILTIN:
            raise ScaffoldError(f"{BUILTIN!r} is the name of the built-in plugin: choose another")
        index = discover()
        for plugin in (*index.conflicts.get(self.name, ()), *filter(None, [index.plugins.get(self.name)])):
            if normalized(plugin.distribution) != self.distribution:
                raise ScaffoldError(f"{plugin} is installed, and has that name: choose another")

    @property
    def distribution(self) -> str:
        """What pip calls it."""
        return f"ev3x-{self.name}"

    @property
    def package(self) -> str:
        """What Python imports."""
        return self.distribution.replace("-", "_")

    def values(self) -> dict[str, str]:
        """What all templates may use."""
        return {
            "name": self.name,
            "distribution": self.distribution,
            "package": self.package,
            "variable": f"{self.package}_NATIVE".upper(),
            "api": f"v{API_VERSION}",
        }
