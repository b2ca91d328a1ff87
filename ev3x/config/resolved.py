"""The text of a config with all defaults written out, and with explanations if wanted."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Sequence

from ..component import Component, Option
from . import toml_text


@dataclasses.dataclass(frozen=True)
class Part:
    """A section of a config: its header (`[[propose]]`), the full id of its component if it names one, its options."""

    header: str
    use: str | None = None
    component: Component | None = None


def render(parts: Sequence[Part], *, explain: bool = False) -> str:
    """The parts as TOML; with `explain`, each option has its help as a comment, and unset ones are named too."""
    return "\n".join("\n".join(_lines(part, explain)) + "\n" for part in parts)


def _lines(part: Part, explain: bool) -> list[str]:
    lines = [part.header] if part.header else []
    if part.use is not None:
        about = (inspect.getdoc(type(part.component)) or "").partition("\n")[0]
        lines += [f"# {about}"] if explain and about else []
        lines.append(f"use = {toml_text.value(part.use)}")
    if part.component is None:
        return lines
    values = part.component.to_config()
    for option in type(part.component).options():
        if explain:
            lines.append(f"# {_help(option)}")
        if option.name in values:
            lines.append(f"{toml_text.key(option.name)} = {toml_text.value(values[option.name])}")
        elif explain:
            lines.append(f"# {option.name} is not set")
    return lines


def _help(option: Option) -> str:
    text = " ".join(option.help.split())  # a comment is one line
    return f"{text} ({option.type})" if text else option.type
