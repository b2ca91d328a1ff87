"""The rankings by several metrics, lexicographic and Pareto, against plain Python."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from toys import judge, right

import ev3x
from ev3x.builtin.assessors.lexicographic import Lexicographic
from ev3x.builtin.assessors.mean_bounds import MeanBounds
from ev3x.builtin.assessors.pareto import Pareto
from ev3x.ops import pareto_ranks

quick = settings(deadline=None, max_examples=150)
UP, DOWN = (True, True, False), (False, True, True)
TOLERANCE = {"m0": 0.5, "m2": 0.25}


def measures(ways):
    """The metrics m0, m1, ..., the larger the better or not; m1 has a margin of its own."""
    return tuple(ev3x.Metric(f"m{i}", right, maximize=up, margin=0.25 * i) for i, up in enumerate(ways))


@st.composite
def fields(draw):
    """Scores [K, M] in eighths, so that means and their differences are exact; a few are not finite."""
    k, m = draw(st.sampled_from([1, 2, 3, 8])), draw(st.sampled_from([1, 2, 3]))
    eighths = st.integers(-4, 4).map(lambda x: x / 8)
    one = st.one_of(eighths, eighths, eighths, st.sampled_from([math.nan, math.inf, -math.inf]))
    few = st.one_of(eighths, eighths, eighths, st.just(math.nan))
    scores = [[draw(one) for _ in range(m)] for _ in range(k)]
    reference = [draw(few) for _ in range(m)]
    ways = UP if k in (1, 8) else DOWN  # one program for each shape
    return scores, reference, draw(st.lists(st.booleans(), min_size=k, max_size=k)), ways[:m]


def assessed(assessor, scores, reference, eligible, ways, aims=None):
    """The assessment when all examples of a candidate score the same."""
    shape = (1, *np.shape(scores), 4)
    return judge(
        assessor,
        np.broadcast_to(np.array(scores)[None, :, :, None], shape),
        np.broadcast_to(np.array(reference)[None, :, None], (1, len(reference), 4)),
        metrics=measures(ways),
        aims=aims or [1.0 if up else -1.0 for up in ways],
        eligible=eligible,
    )


def gains(scores, ways):
    return [[x if up else -x for x, up in zip(row, ways, strict=True)] for row in scores]


def lexicographic(gain, can, order, tolerance):
    """The keys (stage, gain there) of those that can win, by the definition."""
    keys, left = {}, list(can)
    for stage, m in enumerate(order):
        best = max((gain[i][m] for i in left), default=0)
        last = stage == len(order) - 1
        out = [i for i in left if last or gain[i][m] < best - tolerance[m]]
        keys |= {i: (stage, gain[i][m]) for i in out}
        left = [i for i in left if i not in out]
    return keys


def check(got, keys, k):
    """The value orders all as their keys do, and the winner is the first of the best."""
    value = np.asarray(got.value).tolist()
    assert [i for i in range(k) if value[i] > -math.inf] == sorted(keys)
    for i in keys:
        for j in keys:
            assert (value[i] > value[j]) == (keys[i] > keys[j])
    assert int(got.winner) == (max(sorted(keys), key=keys.__getitem__) if keys else -1)


@quick
@given(fields())
def test_lexicographic_is_the_definition(field):
    scores, reference, eligible, ways = field
    backwards = not ways[0]
    k, m = np.shape(scores)
    order = list(range(m))[:: -1 if backwards else 1]
    named = {name: x for name, x in TOLERANCE.items() if int(name[1:]) < m}
    assessor = Lexicographic(order=tuple(f"m{i}" for i in order) if backwards else (), tolerance=named)
    gain = gains(scores, ways)
    can = [i for i in range(k) if eligible[i] and all(map(math.isfinite, gain[i]))]
    keys = lexicographic(gain, can, order, [named.get(f"m{i}", 0.25 * i) for i in range(m)])
    check(assessed(assessor, scores, reference, eligible, ways), keys, k)


def dominates(a, b):
    return all(x >= y for x, y in zip(a, b, strict=True)) and a != b


def fronts(gain, can):
    """The number of each one's front, by the definition."""
    ranks, left = {}, list(can)
    while left:
        front = [i for i in left if not any(dominates(gain[j], gain[i]) for j in left)]
        ranks |= dict.fromkeys(front, len(set(ranks.values())))
        left = [i for i in left if i not in front]
    return ranks


@quick
@given(fields(), st.booleans())
def test_pareto_is_the_definition(field, first_only):
    """Fronts in plain Python; distances are those of the operation, whose own tests go through all pairs."""
    scores, reference, eligible, ways = field
    k = len(scores)
    weights = [1.0, 0.0, 0.0] if first_only else [1.0, 0.5, 2.0]
    aims = [w if up else -w for w, up in zip(weights, ways, strict=False)]
    gain = gains(scores, ways)
    can = [i for i in range(k) if eligible[i] and all(map(math.isfinite, gain[i]))]
    origin = [x if math.isfinite(x) else 0.0 for x in reference]
    ranks, crowding = fronts(gain, can), {}
    for front in set(ranks.values()):
        members = [i for i in can if ranks[i] == front]
        apart = pareto_ranks(np.array([gain[i] for i in members], "f"))
        crowding |= zip(members, np.asarray(apart.crowding).tolist(), strict=True)
    keys = {
        i: (
            -ranks[i],
            crowding[i],
            sum(a * (x - o) for a, x, o in zip(aims, scores[i], origin, strict=True)),
        )
        for i in can
    }
    check(assessed(Pareto(), scores, reference, eligible, ways, aims), keys, k)


def test_pareto_prefers_the_lone_and_the_ends_of_a_front():
    """Six candidates on a line that nobody dominates, then two that somebody does."""
    line = [[0.0, 7.0], [1.0, 6.0], [2.0, 5.0], [5.0, 2.0], [6.0, 1.0], [7.0, 0.0]]
    scores = [*line, [1.0, 1.0], [0.0, 0.0]]
    for aims, winner in (([1.0, 0.5], 5), ([0.5, 1.0], 0)):
        got = assessed(Pareto(), scores, [0.0, 0.0], [True] * 8, (True, True), aims)
        value = np.asarray(got.value).tolist()
        assert int(got.winner) == winner and max(value) == value[winner] == 7
        assert value[5 - winner] == 6  # the other end
        assert min(value[2], value[3]) > max(value[1], value[4])  # beside the gap
        assert value[6:] == [1, 0]


@pytest.mark.parametrize("assessor", [Lexicographic(order=("m1",)), Pareto(metrics=("m1",))])
def test_metrics_that_are_not_named_do_not_count(assessor):
    scores = [[9.0, 1.0], [math.nan, 2.0], [0.0, 3.0]]
    got = assessed(assessor, scores, [0.0, 0.0], [True] * 3, (True, True), aims=[0.0, 1.0])
    assert np.asarray(got.value).tolist() == [0.0, 1.0, 2.0] and int(got.winner) == 2


def test_large_scores_are_compared_by_their_difference_to_the_reference():
    """Means of 1e4 and gains of 1e-4: float32 means cannot tell them apart."""
    rng = np.random.default_rng(0)
    reference = rng.normal(1e4, 0.01, (1, 2, 512)).astype(np.float32)
    steps = np.float32(2**-10) * np.array([0, 1, 2])  # the distance of neighbours there
    scores = reference[:, None] + (steps[:, None] * (rng.random(512) < 0.1)).astype(np.float32)[None, :, None]
    for assessor in (Lexicographic(), Pareto(), MeanBounds()):
        assert int(judge(assessor, scores, reference).winner) == 2


def test_set_level_metrics_are_ranked_as_others_are():
    metrics = (ev3x.Metric("a", right, kind="set"), ev3x.Metric("b", right, kind="set", maximize=False))
    once = np.zeros((2, 2, 4), np.float32)
    once[:, :, 0] = 1
    scores = np.broadcast_to(np.array([[0.0, 0.0], [1.0, 1.0], [1.0, 0.5]])[None, :, :, None], (2, 3, 2, 4))
    for assessor in (Lexicographic(), Pareto()):
        assessor.accept(metrics)
        assert int(judge(assessor, scores, np.zeros((2, 2, 4)), once, metrics=metrics).winner) == 2
