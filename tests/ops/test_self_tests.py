"""Self-tests of the bundled targets: what is stored is what the definitions give, and nothing else is let through."""

import dataclasses
import functools
import json
import math
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ev3x import ops
from ev3x.ops import native, self_tests

SELF_TESTS = self_tests.bundled
needs_native = pytest.mark.skipif(
    not all(native.ensure(target) for target in SELF_TESTS), reason="native targets are not in use here"
)
each = pytest.mark.parametrize("target", SELF_TESTS)


@functools.cache
def by_definition(target):
    return SELF_TESTS[target].results(SELF_TESTS[target].definition)


def other(value, self_test):
    """One that must be told from it: a float that is off by three times what is allowed."""
    if isinstance(value, bool):
        return not value
    if isinstance(value, int):
        return value + 1
    if not math.isfinite(value):
        return 0.0
    return value + 3 * (self_test.rtol * abs(value) + self_test.atol) + 1e-30


@each
def test_what_is_stored_is_what_the_definition_gives(target):
    """To a tenth of what native code may be off by: it is held against what is stored."""
    self_test = SELF_TESTS[target]
    strict = dataclasses.replace(self_test, rtol=self_test.rtol / 10, atol=self_test.atol / 10)
    strict.compare(by_definition(target), strict.stored())
    assert jax.tree.map(np.shape, strict.stored(), is_leaf=lambda x: isinstance(x, list)) == jax.tree.map(
        np.shape, by_definition(target)
    )


def test_nothing_is_stored_that_is_not_compared():
    assert {path.stem for path in self_tests.FOLDER.iterdir()} == set(SELF_TESTS)


@each
def test_stored_anew_it_is_read_as_the_same_bits(target, tmp_path):
    """The text has as many digits as it takes for no float32 to be read as another one."""
    given = by_definition(target)
    moved = dataclasses.replace(SELF_TESTS[target], folder=tmp_path, cases=dict, definition=None)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(self_tests.StoredTest, "results", lambda *_: given)
        moved.store()
    dataclasses.replace(moved, rtol=0, atol=0).compare(given, moved.stored())


@each
def test_every_stored_value_is_looked_at(target):
    """Each is made wrong alone; also what stands for NaN and infinity."""
    self_test = SELF_TESTS[target]
    for case, fields in by_definition(target).items():
        for field, got in fields.items():
            text = f"^self-test: `{field}` differs from the definition in the case {case!r}: expected "
            value = np.array(SELF_TESTS[target].stored()[case][field], object)
            assert value.size
            for place in np.ndindex(value.shape):
                wrong = value.copy()
                wrong[place] = other(value[place], self_test)
                with pytest.raises(RuntimeError, match=text):
                    self_test.compare({case: {field: got}}, {case: {field: wrong.tolist()}})


@each
def test_another_shape_is_refused(target):
    case, fields = next(iter(by_definition(target).items()))
    field, got = next(iter(fields.items()))
    with pytest.raises(RuntimeError, match=f"`{field}` differs"):
        SELF_TESTS[target].compare({case: {field: got}}, {case: {field: got[:1, ..., :1].tolist()}})


def test_the_self_test_of_another_target_is_refused():
    one, other = list(SELF_TESTS)[:2]
    with pytest.raises(ValueError, match=f"^the self-test is of the target '{one}', got '{other}': give each its own$"):
        SELF_TESTS[one](other)


@pytest.mark.parametrize("wrong", ["plain", "doubled", "large"])
def test_agree_looks_at_every_result(wrong):
    """The self-test of a plugin whose definition is quickly compiled."""
    x, names = np.array([1, np.nan, 3], np.float32), ["plain", "doubled", "large"]

    def definition(x):
        return x, {"b": 2 * x, "c": x > 2}

    def call(x):
        return jax.tree.unflatten(
            jax.tree.structure(definition(x)),
            [
                leaf if name != wrong else ~leaf if leaf.dtype == bool else 1.01 * leaf
                for name, leaf in zip(names, jax.tree.leaves(definition(x)), strict=True)
            ],
        )

    ops.agree(definition, definition, [x], names)
    with pytest.raises(RuntimeError, match=f"^self-test: `{wrong}` differs from the definition$"):
        ops.agree(call, definition, [x], names, rtol=0.009)
    if wrong != "large":
        ops.agree(call, definition, [x], names, rtol=0.011)


@needs_native
@each
def test_native_code_passes(target):
    SELF_TESTS[target](target)


@needs_native
@each
def test_one_wrong_value_anywhere_is_a_failed_self_test(target, tmp_path):
    """The self-test as it is run: the last value of the last field of the last case."""
    self_test, wrong = dataclasses.replace(SELF_TESTS[target], folder=tmp_path), SELF_TESTS[target].stored()
    case = list(self_test.cases())[-1]
    field = list(wrong[case])[-1]
    values = np.array(wrong[case][field], object)
    values.flat[-1] = other(values.flat[-1], self_test)
    wrong[case][field] = values.tolist()
    self_test.path.write_text(json.dumps(wrong))
    with pytest.raises(RuntimeError, match=re.escape(f"`{field}` differs from the definition in the case {case!r}")):
        self_test(target)


@needs_native
@each
def test_a_wrong_kernel_is_refused(target):
    """One that gives candidates the results of their neighbours; axis 0 is a leading one."""
    self_test = SELF_TESTS[target]

    def wrong(first, *rest):
        return self_test.call(jnp.roll(first, 1, axis=1), *rest)

    with pytest.raises(RuntimeError, match="differs from the definition"):
        dataclasses.replace(self_test, call=wrong)(target)
