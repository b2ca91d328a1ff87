"""The rooms of `ev3x/`: who may import whom, and how large a file may be (docs/design.md, "Layout")."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from pathlib import Path

PACKAGE = Path(__file__).parents[1] / "ev3x"
FILES = sorted(PACKAGE.rglob("*.py"))
TREES = {path: ast.parse(path.read_text(encoding="utf-8")) for path in FILES}
ENTRIES, MODULE_LINES, FUNCTION_LINES = 24, 300, 60

GROUND = {"component", "values", "ffi", "cache", "metrics", "devices", "text", "wrong_sums"}
HANDS_OUT = {"__init__"}  # imports public names when they are first used
# What each room imports of the others. The first four rules of docs/design.md follow from it.
MAY_IMPORT: Mapping[str, set[str]] = {
    **{name: set[str]() for name in GROUND - {"cache", "component", "metrics"}},
    "cache": {"text"},
    "component": {"values"},
    "metrics": {"values", "ops"},
    "ops": {"ffi", "component", "values"},
    "networks": {"component", "core"},
    "core": GROUND | {"ops"},
    "host": GROUND | {"ops"},
    "stats": GROUND | {"core", "ops"},
    "training": GROUND | {"core"},
    "evolver": GROUND | {"core", "ops"},
    "builtin": GROUND | {"core", "stats", "training", "networks", "ops", "host"},
    "run": GROUND | {"core", "host", "ops", "evolver"},
    "methods": {"component", "values", "builtin", "core", "training"},
    "config": GROUND | {"run", "core", "host", "ops", "training"},
    "testing": GROUND | {"core", "host", "ops", "stats", "training", "networks", "evolver", "builtin", "run", "config"},
    "scaffold": GROUND | {"core", "host"},
    "cli": GROUND | {"core", "host", "ops", "run", "config", "testing", "scaffold"},
}
# The author kit's fixture runs the command line, inside a function.
EXCEPTIONS = {("ev3x.testing.fixtures", "ev3x.cli")}


def module(path: Path) -> str:
    parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module(path): path for path in FILES}


def imported(name: str) -> Iterator[str]:
    """The modules of ev3x that a module imports, under TYPE_CHECKING and inside functions included."""
    path = MODULES[name]
    package = name if path.stem == "__init__" else name.rpartition(".")[0]
    for node in ast.walk(TREES[path]):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name.partition(".")[0] == "ev3x")
        elif isinstance(node, ast.ImportFrom):
            above = package.split(".")[: len(package.split(".")) + 1 - node.level] if node.level else []
            origin = ".".join([*above, *([node.module] if node.module else [])])
            if origin.partition(".")[0] == "ev3x":
                for alias in node.names:
                    inner = f"{origin}.{alias.name}"
                    yield inner if inner in MODULES else origin


def room(name: str) -> str:
    return [*name.split("."), "__init__"][1]


GRAPH = {name: {other for other in imported(name) if (name, other) not in EXCEPTIONS} for name in MODULES}


def test_each_room_imports_only_what_its_place_allows():
    assert {room(name) for name in MODULES} - HANDS_OUT == MAY_IMPORT.keys()
    wrong = [
        f"{name} imports {other}"
        for name, others in GRAPH.items()
        for other in sorted(others)
        if room(name) not in HANDS_OUT and room(other) not in {room(name), *MAY_IMPORT[room(name)]}
    ]
    assert not wrong


def test_of_the_host_components_know_the_hooks_and_nothing_else():
    wrong = [
        f"{name} imports {other}"
        for name, others in GRAPH.items()
        for other in sorted(others)
        if room(name) == "builtin" and room(other) == "host" and other != "ev3x.host.hookspecs"
    ]
    assert not wrong


def test_the_four_rules_follow_from_the_table():
    outside = {"run", "config", "cli"}
    assert not MAY_IMPORT["core"] & {*outside, "host", "builtin"}
    assert not MAY_IMPORT["builtin"] & outside
    assert "core" not in MAY_IMPORT["host"] and "host" not in MAY_IMPORT["core"]


def test_no_file_imports_one_that_imports_it():
    """Depth first, on the way back: a file that is met again while what it imports is still open closes a circle."""
    open_: list[str] = []
    done: set[str] = set()
    circles = []

    def visit(name: str) -> None:
        if name in open_:
            circles.append(" -> ".join([*open_[open_.index(name) :], name]))
        elif name not in done:
            open_.append(name)
            for other in sorted(GRAPH.get(name, ())):
                visit(other)
            open_.pop()
            done.add(name)

    for name in sorted(set(MODULES) - {"ev3x"}):
        visit(name)
    assert not circles


def test_the_root_is_small():
    entries = {p.name for p in PACKAGE.iterdir() if p.suffix in ("", ".py", ".typed") and not p.name.startswith("__py")}
    assert len(entries) <= ENTRIES, sorted(entries)


def code(path: Path) -> set[int]:
    """The numbers of the lines that hold code: no docstrings, comments and blank lines."""
    lines = {
        i
        for i, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1)
        if line.strip() and not line.lstrip().startswith("#")
    }
    for node in ast.walk(TREES[path]):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef) and ast.get_docstring(node) is not None:
            lines -= set(range(node.body[0].lineno, (node.body[0].end_lineno or 0) + 1))
    return lines


def test_no_two_files_of_tests_have_one_name():
    """pytest imports them by their name alone."""
    names = [path.name for path in Path(__file__).parent.rglob("test_*.py")]
    assert sorted(names) == sorted(set(names))


def test_files_and_functions_are_short():
    long = []
    for path in FILES:
        lines = code(path)
        if len(lines) > MODULE_LINES:
            long.append(f"{module(path)} has {len(lines)} lines of code")
        for node in ast.walk(TREES[path]):
            if isinstance(node, ast.FunctionDef):
                length = len(lines & set(range(node.lineno, (node.end_lineno or 0) + 1)))
                if length > FUNCTION_LINES:
                    long.append(f"{module(path)}.{node.name} has {length} lines of code")
    assert not long


def test_no_cache_of_a_module_grows_with_what_a_process_builds():
    """A jit with static arguments keeps every value that it was called with, and what was compiled for it.

    `core/programs.py` lets them go. Caches without a bound are for what has no arguments, or classes.
    """
    wrong = []
    for path, tree in TREES.items():
        for node in ast.walk(tree):
            for decorator in getattr(node, "decorator_list", []):
                text = ast.unparse(decorator)
                if "jax.jit" in text and "static_" in text:
                    wrong.append(f"{module(path)}.{node.name}: use ev3x.core.programs.compiled")
                arguments = [a.arg for a in node.args.args] if isinstance(node, ast.FunctionDef) else []
                if text == "functools.cache" and arguments[:1] not in ([], ["cls"]):
                    wrong.append(f"{module(path)}.{node.name}: use functools.lru_cache(maxsize=...)")
    assert not wrong


def test_no_alias_of_arrays_and_trees_is_defined_twice():
    aliases = ("Array", "PyTree", "Batch", "Variables", "Predictions", "Row")
    homes = {
        name: [module(path) for path in FILES if f"\n{name} = " in path.read_text(encoding="utf-8")] for name in aliases
    }
    assert homes == {n: ["ev3x.core.observe" if n == "Row" else "ev3x.core.types"] for n in aliases}


BESIDE = [p for room in ("plugins", "benchmarks", "examples") for p in (PACKAGE.parent / room).rglob("*.py")]
# What of the standard library takes the encoding of text from the locale, and how many arguments stand before the mode.
OPENS = {"open": 1, "fdopen": 1, "TemporaryFile": 0, "NamedTemporaryFile": 0, "SpooledTemporaryFile": 1}
CHILDREN = {"run", "Popen", "check_output"}
BINARY = {"archive.open", "os.open", "tarfile.open", "zipfile.open"}


def left_to_the_locale(tree: ast.AST) -> Iterator[int]:
    """The lines with text that is read or written without an encoding."""
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call) or any(k.arg == "encoding" for k in node.keywords):
            continue
        name, options = ast.unparse(node.func), {k.arg: k.value for k in node.keywords}
        last = name.rpartition(".")[2]
        if last in OPENS and name not in BINARY:
            place = OPENS[last] - (last == "open" and name != "open")  # a method: what it opens stands before it
            modes = [*node.args[place : place + 1], *filter(None, [options.get("mode")])]
            default = "w+b" if "Temporary" in last else "r"
            mode = ast.literal_eval(modes[0]) if modes and isinstance(modes[0], ast.Constant) else default
            yield from [node.lineno] if "b" not in str(mode) else []
        elif (
            (last == "read_text" and not node.args)
            or (last == "write_text" and len(node.args) == 1)
            or (last in CHILDREN and options.keys() & {"text", "universal_newlines"})
            or last in ("FileHandler", "TextIOWrapper")
        ):
            yield node.lineno


def test_text_is_in_utf_8_whatever_the_locale():
    trees = TREES | {p: ast.parse(p.read_bytes()) for p in BESIDE if "tests" not in p.parts}
    assert not [f"{path}:{line}" for path, tree in trees.items() for line in left_to_the_locale(tree)]


def test_text_that_is_left_to_the_locale_is_found():
    """The check above sees each way there is, and lets bytes be."""
    left = """
        open(p)
        open(p, "w")
        p.open("a")
        p.open(mode="r")
        os.fdopen(n, "w")
        p.read_text()
        p.write_text(t)
        tempfile.NamedTemporaryFile("w")
        subprocess.run(c, text=True)
    """
    right = """
        open(p, "rb")
        p.open("wb")
        os.open(p, flags)
        p.read_text("utf-8")
        p.read_text(encoding="utf-8")
        distribution.read_text("direct_url.json")
        tempfile.TemporaryFile(dir=d)
        tempfile.NamedTemporaryFile("wb")
        subprocess.run(c)
    """
    lines = [[ast.parse(line.strip()) for line in text.strip().splitlines()] for text in (left, right)]
    assert all(any(left_to_the_locale(tree)) for tree in lines[0])
    assert not any(any(left_to_the_locale(tree)) for tree in lines[1])
