"""What the attack of long lives calls growth."""

import attack_lives
import numpy as np


def test_a_line_through_noise_is_told_from_growth():
    noise = np.random.default_rng(0).normal(size=200)
    flat = {"megabytes": 400 + 10 * noise, "maps": np.full(200, 900.0), "threads": np.full(200, 21.0)}
    wrong, figures = attack_lives.judged(flat, 20)
    assert not wrong and abs(figures["megabytes"]["growth"]) < 5
    grown = {name: values + np.arange(200) for name, values in flat.items()}
    wrong, figures = attack_lives.judged(grown, 20)
    assert [text.split(":")[0] for text in wrong] == list(flat)
    assert figures["maps"]["growth"] == 179


def test_one_outlier_is_no_growth():
    values = np.full(50, 6.0)
    values[-1] = 600
    assert attack_lives.slope(values) == 0
