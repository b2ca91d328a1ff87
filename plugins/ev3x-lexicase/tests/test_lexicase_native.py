"""Native code where there is some that suits, the definition where not, and an error where native code is required."""

import os
import subprocess
import sys

import jax
import numpy as np
import pytest
from ev3x_lexicase import selection_shares
from ev3x_lexicase.shares import SELF_TEST, TARGET

from ev3x import ops

SCORES, WORDS = np.eye(3, dtype=np.float32), np.zeros(2, np.uint32)


def program():
    return jax.jit(lambda s, w: selection_shares(s, w, 5)).lower(SCORES, WORDS).as_text()


@pytest.mark.skipif(not ops.native.ensure(TARGET), reason="native code is not in use here")
def test_a_program_calls_the_native_target():
    assert f"custom_call @{TARGET}(" in program()


def test_a_program_is_the_definition_where_native_code_is_off():
    with ops.native.using("off"):
        assert TARGET not in program()


def test_the_self_test_compares_with_what_the_definition_gives():
    SELF_TEST.compare(SELF_TEST.results(SELF_TEST.definition), SELF_TEST.stored())
    wrong = SELF_TEST.stored()
    wrong["small"]["votes"][1][2] += 1
    with pytest.raises(RuntimeError, match=r"^self-test: `votes` differs from the definition in the case 'small': "):
        SELF_TEST.compare(SELF_TEST.results(SELF_TEST.definition), wrong)


# In a process of its own, for a process asks a plugin once what it offers. {how} spoils the native module.
PROGRAM = """
import importlib.util, sys, types, warnings
import jax, numpy as np
import ev3x
from ev3x.ops import native
{how}
ev3x.Host().load("lexicase")
from ev3x_lexicase import selection_shares
with warnings.catch_warnings(record=True) as said:
    warnings.simplefilter("always")
    run = jax.jit(lambda s: selection_shares(s, np.zeros(2, np.uint32), 3))
    assert "ev3x_lexicase_votes" not in run.lower(np.eye(3, dtype=np.float32)).as_text()
    assert np.allclose(run(np.eye(3, dtype=np.float32)), 1 / 3)
print(*(w.message for w in said), sep="\\n")
try:
    with native.using("require"):
        jax.jit(lambda s: selection_shares(s, np.zeros(2, np.uint32), 4)).lower(np.eye(3, dtype=np.float32))
except native.NativeError as error:
    print(error)
"""
ABSENT = """
found = importlib.util.find_spec
importlib.util.find_spec = lambda name, *a: None if name == "ev3x_lexicase._native" else found(name, *a)
"""
BROKEN = """
found = importlib.util.find_spec
importlib.util.find_spec = lambda name, *a: object() if name == "ev3x_lexicase._native" else found(name, *a)
sys.modules["ev3x_lexicase._native"] = None
"""
DIFFERENT = """
from ev3x.ops import StoredTest
if importlib.util.find_spec("ev3x_lexicase._native") is None:
    print("no native code"); sys.exit()
StoredTest.stored = lambda self: {"small": {"votes": [[0] * 7] * 2}}
"""


@pytest.mark.parametrize(
    ("how", "warning", "error"),
    [
        (ABSENT, "", f"for '{TARGET}': no plugin that has been loaded offers it"),
        (BROKEN, "cannot offer its native targets: ModuleNotFoundError", f"for '{TARGET}': no plugin that"),
        (
            DIFFERENT,
            "is not used, its jnp definition is: RuntimeError: self-test: `votes` differs",
            f"for '{TARGET}': RuntimeError: self-test: `votes` differs from the definition",
        ),
    ],
    ids=["absent", "broken", "different"],
)
def test_the_definition_is_used_and_the_reason_said(how, warning, error):
    environment = {name: value for name, value in os.environ.items() if name != "EV3X_NATIVE"}
    command = [sys.executable, "-c", PROGRAM.format(how=how)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, env=environment)
    assert done.returncode == 0, done.stderr
    if done.stdout.strip() == "no native code":
        pytest.skip("installed without native code")
    *said, required = done.stdout.splitlines()
    assert len(said) == 1 and (warning in said[0] if warning else not said[0])
    assert required.startswith('native = "require", but native code cannot be used ') and error in required
