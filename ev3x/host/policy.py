"""Which distributions may bring plugins into a run. Code decides; environment, options and configs only narrow it."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterable

from .discovery import is_name, normalized


@dataclasses.dataclass(frozen=True)
class PluginPolicy:
    """Distributions whose plugins may be imported: those in `allow` (None: all), without those in `disable`.

    Names are compared as installers compare them. `strict` makes every fault of a plugin an error, even where a run
    could go on without it. Messages name `origin` as the one who decided. The built-in plugin, and plugins that were
    registered by hand, are always allowed.
    """

    allow: frozenset[str] | None = None
    disable: frozenset[str] = frozenset()
    strict: bool = False
    origin: str = "the program's PluginPolicy"

    def __init__(
        self,
        allow: Iterable[str] | None = None,
        disable: Iterable[str] = (),
        strict: bool = False,
        origin: str = "the program's PluginPolicy",
    ) -> None:
        for name, value in (("allow", allow), ("disable", disable)):
            if isinstance(value, str):
                raise TypeError(f"{name} must be a list of distributions, got {value!r}")
        object.__setattr__(self, "allow", None if allow is None else frozenset(map(normalized, allow)))
        object.__setattr__(self, "disable", frozenset(map(normalized, disable)))
        object.__setattr__(self, "strict", strict)
        object.__setattr__(self, "origin", origin)

    def refusal(self, distribution: str) -> str | None:
        """Why a distribution may not be used, and who says so; None if it may."""
        name = normalized(distribution)
        if name in self.disable:
            return f"{distribution} is disabled by {self.origin}"
        if self.allow is not None and name not in self.allow:
            return f"{distribution} is not among the distributions that {self.origin} allows"
        return None


def from_environment() -> PluginPolicy:
    """The policy in EV3X_PLUGINS: distributions separated by commas; `-name` disables one, `none` disables all."""
    names = [name.strip() for name in os.environ.get("EV3X_PLUGINS", "").split(",") if name.strip()]
    allow = [name for name in names if not name.startswith("-")]
    disable = [name.removeprefix("-") for name in names if name.startswith("-")]
    if ("none" in allow and len(names) > 1) or not all(map(is_name, [*allow, *disable])):
        raise ValueError(f"EV3X_PLUGINS must be `none` or name distributions, got {os.environ['EV3X_PLUGINS']!r}")
    return PluginPolicy([] if allow == ["none"] else allow or None, disable, origin="EV3X_PLUGINS")
