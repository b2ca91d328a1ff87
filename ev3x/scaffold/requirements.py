"""What a distribution must depend on to import what it does."""

from __future__ import annotations

import ast
import importlib.metadata
import sys
from collections.abc import Iterable

# With the oldest versions that ev3x itself runs with.
REQUIREMENTS = {
    "annotated_types": "annotated-types>=0.6",
    "ev3x": "ev3x>=0.1",
    "jax": "jax>=0.7",
    "numpy": "numpy>=1.26",
    "optax": "optax>=0.2.5",
    "typing_extensions": "typing-extensions>=4.9",
}


def requirements(modules: Iterable[str]) -> tuple[list[str], list[str]]:
    """What a distribution must depend on to import these modules, and those that no installed one brings."""
    roots = {"ev3x", *(module.partition(".")[0] for module in modules)} - sys.stdlib_module_names
    others = roots - REQUIREMENTS.keys()
    brought = importlib.metadata.packages_distributions() if others else {}
    found = {REQUIREMENTS[root] for root in roots - others} | {d for root in others for d in brought.get(root, ())}
    return sorted(found), sorted(others - brought.keys())


def imported(source: bytes) -> set[str]:
    """The modules that a source imports, wherever it does."""
    nodes = list(ast.walk(ast.parse(source)))
    plain = {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
    return plain | {node.module for node in nodes if isinstance(node, ast.ImportFrom) and node.module}
