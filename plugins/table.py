"""The table of the bundled plugins in plugins/README.md, from their metadata: `python plugins/table.py` rewrites it."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
BEGIN, END = "<!-- begin: plugins/table.py -->\n", "<!-- end -->\n"


def table() -> str:
    """The rows of the table, one for every folder with a pyproject.toml, in the order of their names."""
    rows = ["| distribution | plugin | what it brings | plugin API | Python | needs |", "|---|---|---|---|---|---|"]
    for path in sorted(HERE.glob("*/pyproject.toml")):
        project: dict[str, Any] = tomllib.loads(path.read_text(encoding="utf-8"))["project"]
        points = project["entry-points"]
        needs = [need for need in project["dependencies"] if need.partition(">")[0] not in _BASE]
        for plugin in points["ev3x"]:
            cells = (
                f"[{project['name']}]({path.parent.name}) {project['version']}",
                f"`{plugin}`",
                project["description"],
                points["ev3x.api"][plugin],
                project["requires-python"],
                ", ".join(f"`{need}`" for need in needs) or "nothing more",
            )
            rows.append(f"| {' | '.join(cells)} |")
    return "\n".join(rows) + "\n"


# What ev3x itself needs, or is.
_BASE = {"annotated-types", "ev3x", "jax", "jaxlib", "numpy", "optax", "pydantic", "typing-extensions"}


def rewritten(text: str) -> str:
    """The text with the table as it is now between its marks."""
    before, _, rest = text.partition(BEGIN)
    return f"{before}{BEGIN}{table()}{END}{rest.partition(END)[2]}"


if __name__ == "__main__":
    readme = HERE / "README.md"
    readme.write_text(rewritten(readme.read_text(encoding="utf-8")), encoding="utf-8")
