"""The tables are those of the released DEHB 0.1.2, which its `_get_next_iteration` printed."""

import pytest
from ev3x_populations import DEHB, Bracket, Space, brackets
from ev3x_populations.brackets import whole_steps

from ev3x import Range

ONE = Space([Range("x", 0, 1)])
RELEASED = {
    (1, 27, 3): [
        ((27, 9, 3, 1), (1, 3, 9, 27)),
        ((9, 3, 1), (3, 9, 27)),
        ((6, 2), (9, 27)),
        ((4,), (27,)),
    ],
    (3, 100, 3): [
        ((27, 9, 3, 1), (3.7037037037037033, 11.11111111111111, 33.33333333333333, 100)),
        ((9, 3, 1), (11.11111111111111, 33.33333333333333, 100)),
        ((6, 2), (33.33333333333333, 100)),
        ((4,), (100,)),
    ],
    (1, 81, 3): [
        ((81, 27, 9, 3, 1), (1, 3, 9, 27, 81)),
        ((27, 9, 3, 1), (3, 9, 27, 81)),
        ((9, 3, 1), (9, 27, 81)),
        ((6, 2), (27, 81)),
        ((5,), (81,)),
    ],
    (1, 1000, 10): [((100, 10, 1), (10, 100, 1000)), ((10, 1), (100, 1000)), ((3,), (1000,))],
}


@pytest.mark.parametrize("ends", RELEASED, ids=str)
def test_the_tables_are_the_released_ones(ends):
    found = brackets(*ends)
    assert [(b.counts, b.fidelities) for b in found] == [
        (counts, pytest.approx(fidelities, rel=1e-12)) for counts, fidelities in RELEASED[ends]
    ]


def test_equal_ends_are_plain_de():
    assert brackets(5, 5, population=7) == (Bracket((7,), (5.0,)),)
    dehb = DEHB(ONE, 5, 5, population=4)
    assert [(rung.level, rung.n, rung.check) for rung in dehb.rungs(9)] == [(0, 4, False)] * 2
    with pytest.raises(ValueError, match="population must be an integer of at least 4, got 3"):
        DEHB(ONE, 5, 5, population=3)


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"eta": 1.9}, r"eta must be at least 2, as each rung .* got 1.9"),
        ({"min_fidelity": 28}, r"min_fidelity must be at most max_fidelity, got 28 > 27"),
        ({"min_fidelity": 0}, r"min_fidelity must be above 0, got 0"),
        ({"min_fidelity": 10}, r"min_fidelity = 10, max_fidelity = 27 and eta = 3.* no second fidelity"),
        ({"max_fidelity": float("nan")}, r"max_fidelity must be a finite number, got nan"),
        ({"min_fidelity": True}, r"min_fidelity must be a finite number, got True"),
        ({"min_fidelity": 0.1, "max_fidelity": 1, "whole": True}, r"min_fidelity: .* round to \(0, 0, 1\)"),
        ({"strategy": "rand1_bim"}, r"strategy: unknown strategy 'rand1_bim'; did you mean 'rand1_bin'"),
        ({"boundary": "mirror"}, r"boundary: unknown boundary handling 'mirror'; known: clip, random"),
        ({"mutation_factor": 0.0}, r"mutation_factor must lie in \(0, 2\], got 0.0"),
        ({"crossover_probability": 1.5}, r"crossover_probability must lie in \[0, 1\], got 1.5"),
    ],
)  # fmt: skip
def test_bad_settings_name_the_option(options, text):
    with pytest.raises(ValueError, match=text):
        DEHB(ONE, **{"min_fidelity": 1, "max_fidelity": 27, "eta": 3, **options})


def test_whole_fidelities_are_rounded_and_different():
    assert DEHB(ONE, 3, 100, whole=True).fidelities == (4, 11, 33, 100)
    with pytest.raises(ValueError, match=r"\(2, 2\) steps; raise min_fidelity or eta"):
        whole_steps((1.9, 2.1))


def test_a_cycle_is_all_brackets_each_with_a_check_at_full_fidelity():
    dehb = DEHB(ONE, 1, 9)
    assert dehb.sizes == (9, 3, 3)
    assert [(r.level, r.n, "check" if r.check else "") for r in dehb.cycle] == [
        (0, 9, ""), (1, 3, ""), (2, 1, ""), (2, 1, "check"), (1, 3, ""), (2, 1, ""), (2, 1, "check"), (2, 3, ""),
    ]  # fmt: skip
    assert sum(rung.n for rung in dehb.rungs(50)) == 22 * 2 and dehb.rung(8) == dehb.rung(0)
