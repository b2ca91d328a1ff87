"""Instructions of later x86-64 levels stay in the kernels for them, or older machines stop at an illegal one."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from building import ROOT, build, needs, passes, run

pytestmark = needs("objdump", "nm")

LINE = re.compile(r"\s+[0-9a-f]+:\t(?P<bytes>(?:[0-9a-f]{2} )+)\s*\t(?P<text>.*)")
PREFIXES = {"26", "2e", "36", "3e", "64", "65", "66", "67", "f0", "f2", "f3"}
PLAIN_CODE = re.compile(r"\b(popcnt|lzcnt|movbe)\b")  # of level 2 and 3, but encoded as of old


def level(code: list[str], text: str) -> int:
    """The x86-64 level of an instruction: EVEX and mask registers are AVX-512, VEX is AVX to AVX2, FMA and BMI."""
    first = next((byte for byte in code if byte not in PREFIXES), "")
    if first == "62" or re.search(r"%k[0-7]\b", text):
        return 4
    return 3 if first in ("c4", "c5") or PLAIN_CODE.search(text) else 1


def levels(binary: Path) -> dict[str, int]:
    """The highest level met in each function."""
    found: dict[str, int] = {}
    function = ""
    for line in disassembly(binary):
        if line.endswith(">:"):
            function = line[line.index("<") + 1 : -2]
            found.setdefault(function, 1)
        elif (match := LINE.match(line)) and function:
            found[function] = max(found[function], level(match["bytes"].split(), match["text"]))
    return found


def disassembly(binary: Path) -> Iterator[str]:
    # In full width: a byte on a continuation line would be taken for a prefix.
    yield from passes(["objdump", "-dC", "--insn-width=16", binary]).splitlines()


def strays(found: dict[str, int]) -> list[str]:
    allowed = {name: 4 if "::v4::" in name else 3 if "::v3::" in name else 1 for name in found}
    return [f"{name}: level {found[name]}" for name in found if found[name] > allowed[name]]


@pytest.mark.long
def test_linked_module(tmp_path: Path):
    # The compiler's options are Release's; only that strips.
    build(tmp_path, "-DCMAKE_BUILD_TYPE=RelWithDebInfo")
    (module,) = tmp_path.glob("_native*.so")
    found = levels(module)
    assert strays(found) == []
    for number in (3, 4):
        assert any(f"::v{number}::" in name and found[name] == number for name in found), f"no kernel of level {number}"
    assert any("::baseline::" in name for name in found)


def compiled(tmp_path: Path, code: str, march: str) -> Path:
    (tmp_path / "code.cc").write_text(code)
    passes(["g++", "-std=c++20", "-O2", f"-march={march}", "-c", tmp_path / "code.cc", "-o", tmp_path / "code.o"])
    return tmp_path / "code.o"


SUM = "float sum(const float* x) { float s = 0; for (int i = 0; i < 64; ++i) s += x[i] * x[i]; return s; }"


@pytest.mark.parametrize(("march", "number"), [("x86-64", 1), ("x86-64-v3", 3), ("x86-64-v4", 4)])
def test_levels_are_told_apart(march: str, number: int, tmp_path: Path):
    code = SUM if number < 4 else "void add(int* x) { for (int i = 0; i < 64; ++i) x[i] = x[i] > 3 ? x[i] + 1 : 7; }"
    extra = "" if number < 4 else '#pragma GCC optimize("O3", "prefer-vector-width=512")\n'
    found = levels(compiled(tmp_path, extra + code, march))
    assert max(found.values()) == number
    assert bool(strays(found)) == (number > 1)


@pytest.mark.parametrize(
    ("code", "weak"),
    [
        ("inline int twice(int x) { return 2 * x; } auto* used = &twice;", True),
        ("namespace a::v4 { inline int twice(int x) { return 2 * x; } auto* used = &twice; }", False),
        ("static int twice(int x) { return 2 * x; } auto* used = &twice;", False),
    ],
)
def test_weak_symbols_stop_the_build(code: str, weak: bool, tmp_path: Path):
    fine, other = (
        compiled(tmp_path, SUM, "x86-64-v4").rename(tmp_path / "fine.o"),
        compiled(tmp_path, code, "x86-64-v4"),
    )
    script = ROOT / "csrc/no_weak_symbols.cmake"
    done = run(["cmake", "-DNM=nm", f"-DOBJECTS={fine}|{other}", "-P", script])
    assert (done.returncode != 0) == weak, done.stderr
    assert ("weak symbols in kernels" in done.stderr and "twice(int)" in done.stderr) == weak
