"""One more component for a distribution that is there: where its hook and its offer go in the sources.

Text is put in where the syntax tree says, and the rest of a file stays as its author wrote it.
"""

from __future__ import annotations

import ast
import re
import tomllib
from collections.abc import Iterator, Mapping

from packaging.requirements import Requirement

from .contents import more
from .kinds import STARTS, Kind
from .names import Names, ScaffoldError


def joined(names: Names, files: Mapping[str, bytes], kind: Kind) -> tuple[dict[str, bytes], list[str]]:
    """The files that one more component of this kind adds or changes, and what people must do by hand.

    `files` are those of the distribution, by place. Raises ScaffoldError where it would replace a file.
    """
    start, notes = STARTS[kind], []
    place = _home(names, files)
    source = files[place].decode()
    one = more(names, kind, override="\n    @override\n" in source)
    for name in one.files:
        if name in files:
            raise ScaffoldError(f"{name} exists: there is such a component already")
    changed = {name: text.encode() for name, text in one.files.items()}
    fetch = f"from {names.package}.{start.component} import {start.class_name}"
    offer = f'ev3x.Offer("{start.component}", {start.class_name})'
    offered = _with_hook(source, f"ev3x_{kind}s", one.hook, fetch, offer)
    if offered is None:
        notes.append(f"let `ev3x_{kind}s` of the plugin in {place} return {offer}, after `{fetch}`")
    else:
        changed[place] = offered.encode()
    test = f"tests/test_{names.package}.py"
    tested = (
        _with_offer(files[test].decode(), kind, start.component, start.class_name, fetch) if test in files else None
    )
    if tested is None:
        said = f'"{kind}": {{"{start.component}": {start.class_name}}}'
        notes.append(f"let `offers` of the DistributionTests hold {said}, after `{fetch}`")
    else:
        changed[test] = tested.encode()
    text = files["pyproject.toml"].decode()
    there = {Requirement(r).name for r in tomllib.loads(text)["project"].get("dependencies", [])}
    if lacking := [r for r in one.needed if Requirement(r).name not in there]:
        said = "".join(f', "{requirement}"' for requirement in lacking)
        text, found = re.subn(r"^(dependencies = \[.+)\]$", rf"\g<1>{said}]", text, count=1, flags=re.MULTILINE)
        changed["pyproject.toml"] = text.encode()
        notes += (
            [] if found else [f"add {requirement!r} to `dependencies` in pyproject.toml" for requirement in lacking]
        )
    return changed, notes


def _home(names: Names, files: Mapping[str, bytes]) -> str:
    """The file that the entry point of the plugin names."""
    if "pyproject.toml" not in files:
        raise ScaffoldError(f"{names.distribution} has no pyproject.toml: it is no distribution to add to")
    points = tomllib.loads(files["pyproject.toml"].decode()).get("project", {}).get("entry-points", {})
    value = str(points.get("ev3x", {}).get(names.name, ""))
    path = "src/" + value.partition(":")[0].replace(".", "/")
    found = [place for place in (f"{path}.py", f"{path}/__init__.py") if place in files]
    if not value or not found:
        got = f"the entry point {value!r}" if value else "no such entry point"
        raise ScaffoldError(
            f"{names.distribution} must have the plugin {names.name!r} in a module below src/, got {got}"
        )
    return found[0]


def _with_hook(source: str, hook: str, text: str, fetch: str, offer: str) -> str | None:
    """The source with this hook in its only class of hooks, or the offer in the hook that is there; None: neither."""
    tree = ast.parse(source)
    plain = any(isinstance(node, ast.Import) and any(a.name == "ev3x" for a in node.names) for node in tree.body)
    classes = [node for node in tree.body if isinstance(node, ast.ClassDef) and any(map(_is_hook, node.body))]
    if not plain or len(classes) != 1:
        return None
    (one,) = classes
    there = [node for node in one.body if isinstance(node, ast.FunctionDef) and node.name == hook]
    if not there:
        lines = source.splitlines(keepends=True)
        return "".join([*lines[: one.end_lineno], text, *lines[one.end_lineno or 0 :]])
    last = there[0].body[-1]
    if not isinstance(last, ast.Return) or not isinstance(last.value, ast.List):
        return None
    lines = _inserted(source, last.value, offer)
    return "".join([*lines[: last.lineno - 1], f"        {fetch}\n\n", *lines[last.lineno - 1 :]])


def _is_hook(node: ast.stmt) -> bool:
    return isinstance(node, ast.FunctionDef) and node.name.startswith("ev3x_")


def _with_offer(source: str, kind: str, component: str, class_name: str, fetch: str) -> str | None:
    """The tests with one more component in the dictionary that `offers` returns; None where that is not found."""
    dictionaries = list(_offers(ast.parse(source)))
    package = fetch.split()[1].partition(".")[0]
    imports = [i for i, line in enumerate(source.splitlines()) if re.match(rf"from {package}\b.* import ", line)]
    if len(dictionaries) != 1 or not imports:
        return None
    (table,) = dictionaries
    of_role = [
        v for k, v in zip(table.keys, table.values, strict=True) if isinstance(k, ast.Constant) and k.value == kind
    ]
    pair = f'"{component}": {class_name}'
    if not of_role:
        lines = _inserted(source, table, f'"{kind}": {{{pair}}}')
    elif isinstance(of_role[0], ast.Dict):
        lines = _inserted(source, of_role[0], pair)
    else:
        return None
    before = [i for i in imports if lines[i] < fetch]
    lines.insert(before[-1] + 1 if before else imports[0], f"{fetch}\n")
    return "".join(lines)


def _offers(tree: ast.Module) -> Iterator[ast.Dict]:
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef) and node.name == "offers":
            last = node.body[-1]
            if isinstance(last, ast.Return) and isinstance(last.value, ast.Dict):
                yield last.value


def _inserted(source: str, node: ast.expr, item: str) -> list[str]:
    """The lines of the source with one more item at the end of a list or dictionary."""
    lines = source.splitlines(keepends=True)
    row, column = (node.end_lineno or 1) - 1, (node.end_col_offset or 1) - 1
    head, tail = (part.decode() for part in (lines[row].encode()[:column], lines[row].encode()[column:]))
    if not head.strip():  # the bracket has a line of its own, after a comma
        lines.insert(row, f"{head}    {item},\n")
    else:
        bare = head.rstrip().endswith(("[", "{", ","))
        lines[row] = f"{head}{'' if bare else ', '}{item}{tail}"
    return lines
