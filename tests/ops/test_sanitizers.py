"""Native code under sanitizers: every target from Python, the fuzz driver, and bugs that must be found."""

import re
import sys
from pathlib import Path

import pytest
from building import build, needs, passes, run

HERE = Path(__file__).parent / "native"
pytestmark = [needs("setarch"), pytest.mark.long]


def preloaded(*names: str) -> str:
    return " ".join(passes(["g++", f"-print-file-name={name}"]).strip() for name in names)


@pytest.mark.parametrize("sanitizers", ["address;undefined", "thread"])
def test_no_report_of_any_target_and_one_of_every_bug(sanitizers: str, tmp_path: Path):
    build(tmp_path, f"-DEV3X_SANITIZE={sanitizers}", "-DEV3X_FUZZ=ON")
    if sanitizers == "thread":
        # The libraries around are not instrumented; TSan's memory layout knows no randomised addresses.
        prefix = ["setarch", "-R"]
        options = {"TSAN_OPTIONS": "ignore_noninstrumented_modules=1 halt_on_error=1"}
        python = options | {"LD_PRELOAD": preloaded("libtsan.so")}
        bugs, inputs = {"race": "data race"}, "500"
    else:
        # Without libstdc++ beside it, ASan meets exceptions whose origin it does not know. Python leaks on purpose.
        # GCC 12 does not align AVX-512's vectors on the stack that finds uses after return (GCC bug 110027).
        prefix, options = [], {"ASAN_OPTIONS": "detect_stack_use_after_return=0"}
        python = {"ASAN_OPTIONS": "detect_leaks=0", "LD_PRELOAD": preloaded("libasan.so", "libstdc++.so")}
        beyond, overflow = "heap-buffer-overflow", "signed integer overflow"
        bugs, inputs = {"write beyond": beyond, "read beyond": beyond, "overflow": overflow}, "5000"
    child: list[str | Path] = [*prefix, sys.executable, HERE / "exercise.py", tmp_path]

    for bug, report in bugs.items():
        done = run([*child, bug], **python)
        assert done.returncode != 0 and report in done.stderr, (bug, done.returncode, done.stderr[-4000:])
    assert passes([*child, "none"], **python) == f"{list(range(1, 17))}\n"

    said = passes(child, **python)
    found = re.fullmatch(r"(\d+) calls of (\d+) targets in .*\n", said)
    assert found and int(found[1]) > 100 and int(found[2]) >= 6, said

    lines = passes([*prefix, tmp_path / "ev3x_fuzz", "--inputs", inputs], **options).splitlines()[1:]
    assert len(lines) >= 6 and all(line.split()[1] == inputs for line in lines), lines
