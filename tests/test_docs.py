"""What the docs show as Python runs as it stands there; the files and tests that they name exist."""

import re
from pathlib import Path

import jax
import pytest

ROOT = Path(__file__).parents[1]
PAGES = sorted((ROOT / "docs").glob("*.md"))
BLOCKS = [
    pytest.param(page.name, block, id=f"{page.stem}-{i}")
    for page in PAGES
    for i, block in enumerate(re.findall(r"```python\n(.*?)```", page.read_text(), re.DOTALL))
]


@pytest.mark.loose_types("a user's JAX is not strict")
@pytest.mark.parametrize(("page", "block"), BLOCKS)
def test_a_block_runs(page, block):
    with jax.numpy_rank_promotion("allow"):
        exec(compile(block, page, "exec"), {"__name__": "docs"})


def test_the_page_on_the_paper_names_tests_that_are_there():
    text = (ROOT / "docs" / "ev3.md").read_text()
    sources = "".join(path.read_text() for path in (ROOT / "tests").rglob("test_*.py"))
    named = set(re.findall(r"`(test_\w+)`", text))
    assert len(named) > 20 and [name for name in sorted(named) if f"def {name}(" not in sources] == []
    files = set(re.findall(r"`((?:\w+/)*test_\w+\.py)`", text))
    assert len(files) > 5 and [name for name in sorted(files) if not (ROOT / "tests" / name).exists()] == []
