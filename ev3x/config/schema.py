"""The JSON schema of all configs that the plugins of a host allow, for editors that check and complete them."""

from __future__ import annotations

import json
from typing import Any

from ..component import json_schema
from ..core.layout import Layout
from ..host.discovery import BUILTIN
from ..host.faults import cause
from ..host.host import Host, PluginError
from .override import MANY, ONE
from .sections import Plugins, Run


def schema(host: Host) -> tuple[dict[str, Any], list[str]]:
    """The schema (JSON Schema 2020-12), and the faults of plugins that it leaves out."""
    faults: list[str] = []
    properties = json_schema(Run)["properties"]
    for section, role in ONE.items():
        properties[section] = {"anyOf": _components(host, role, faults)}
    for section, role in MANY.items():
        some = _components(host, role, faults)
        alone = [one for one in some if "enum" in one]  # a single component may be given by its name
        properties[section] = {"anyOf": [{"type": "array", "items": {"anyOf": some}}, *alone]}
    properties |= {"layout": json_schema(Layout), "plugins": json_schema(Plugins)}
    made = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "ev3x config",
        "type": "object",
        "properties": properties,
        "additionalProperties": False,
    }
    return made, list(dict.fromkeys(faults))


def _components(host: Host, role: str, faults: list[str]) -> list[dict[str, Any]]:
    """The schemas of a section for this role: a component's table, or its name if it has no required options."""
    tables, names = [], []
    for plugin in host.plugins:
        try:
            offers = host.offers(role, plugin)
        except PluginError as error:
            faults.append(str(error))
            continue
        for name, kind in offers.items():
            ids = [f"{plugin}:{name}", *([name] if plugin == BUILTIN else [])]
            try:
                table = json_schema(kind)
                json.dumps(table)
            except Exception as error:  # anyone may have written these types and defaults
                faults.append(f"{host.plugins[plugin]}: the options of {name!r} have no schema: {cause(error)}")
                continue
            table["properties"] = {"use": {"enum": ids}, **table["properties"]}
            names += [] if table["required"] else ids
            table["required"] = ["use", *table["required"]]
            table["description"] = (kind.__doc__ or "").strip().partition("\n")[0]
            tables.append(table)
    return [{"enum": names}, *tables] if names else tables
