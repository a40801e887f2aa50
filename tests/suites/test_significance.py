"""Tests of significance against every possible outcome counted, and against what must hold of any such test."""

from itertools import product

import numpy as np
import pytest
from vivim.suites.significance import holm, randomisation

RNG = np.random.default_rng(0)


@pytest.mark.parametrize(("better", "worse"), [(0, 0), (1, 0), (3, 1), (2, 5), (8, 8), (12, 2)])
def test_of_hits_it_is_mcnemars_exact_test(better, worse):
    """All ways in which the users whom only one model serves could have fallen, counted."""
    first = np.array([1.0] * better + [0.0] * worse + [1.0, 0.0] * 3)
    second = np.array([0.0] * better + [1.0] * worse + [1.0, 0.0] * 3)
    found = randomisation(first, second, rounds=20_000)
    ways = [sum(way) for way in product((1, -1), repeat=better + worse)]
    want = np.mean([abs(total) >= abs(better - worse) for total in ways])
    assert found.p == pytest.approx(want, abs=4 * (want * (1 - want) / 20_000) ** 0.5 + 1e-4)
    assert (found.better, found.worse) == (better, worse)
    assert found.difference == pytest.approx((better - worse) / (better + worse + 6))


def test_randomisation_comes_to_the_share_of_all_signs():
    difference = RNG.normal(0.3, 1, 12)
    second = RNG.normal(size=20)
    first = second + np.concatenate([difference, np.zeros(8)])
    sums = np.array([np.dot(signs, difference) for signs in product((1, -1), repeat=12)])
    want = np.mean(np.abs(sums) >= abs(difference.sum()) - 1e-9)
    found = randomisation(first, second, rounds=20_000)
    assert found.p == pytest.approx(want, abs=4 * (want * (1 - want) / 20_000) ** 0.5 + 1e-4)
    assert found == randomisation(first, second, rounds=20_000)


def test_models_that_do_not_differ_are_rarely_called_different_and_models_that_do_always():
    low = 0
    for _ in range(300):
        hits = (RNG.random((2, 400)) < 0.1).astype(float)
        low += randomisation(*hits, rounds=500).p < 0.05
    assert low <= 25  # 15 are expected of a test without the caution of whole numbers
    gains = RNG.random(5000)
    assert randomisation(gains + 0.02 * RNG.random(5000), gains, rounds=2000).p == pytest.approx(1 / 2001)
    same = RNG.random(50)
    assert randomisation(same, same).p == 1.0


def test_holm_by_hand():
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.5, 0.9]) == [1.0, 1.0]
    assert holm([]) == []


def test_other_users_are_refused():
    with pytest.raises(ValueError, match="the same users"):
        randomisation(np.ones(1), np.ones(2))
    with pytest.raises(ValueError, match="the same users"):
        randomisation(np.zeros(0), np.zeros(0))
