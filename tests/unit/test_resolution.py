"""MDE80: by hand, its inverse, and whether the test that decides finds it in four of five."""

import math
from dataclasses import replace

import pytest

from entrobench.statistics.resolution import (
    FACTOR,
    Design,
    mde,
    mde_of_mean,
    needed,
    seeds_needed,
    simulated_power,
)

AIME = Design(problems=30, samples=8, seeds=1, mean=0.2, rho=0.7, agreement=0.9, seed_sd=0.0)


def test_by_hand():
    # 2 x 0.16 x (0.7 x 0.1 / 30 + 0.3 / 240)
    variance = 0.32 * (0.07 / 30 + 0.3 / 240)
    assert mde(AIME) == pytest.approx(2.8016 * math.sqrt(variance), rel=1e-4)
    with_seeds = replace(AIME, seeds=4, seed_sd=0.01)
    variance = 0.32 * (0.07 / 30 + 0.3 / 960) + 2 * 0.0001 / 4
    assert mde(with_seeds) == pytest.approx(FACTOR * math.sqrt(variance))


def test_what_more_of_each_can_and_cannot_do():
    gap = 0.05
    assert mde(replace(AIME, problems=needed(AIME, gap, "problems"))) <= gap
    assert mde(replace(AIME, problems=needed(AIME, gap, "problems") - 1)) > gap
    assert needed(AIME, gap, "samples") is None, "the problems differ more than that"
    assert needed(replace(AIME, agreement=1.0), gap, "samples") is not None
    noisy = replace(AIME, problems=5000, seed_sd=0.02)
    assert needed(noisy, 0.02, "problems") is None, "another seed may be better by more"
    # (0.02 / 2.8016)^2 = 5.096e-5 of which problems take 4.5e-6: (2 x 0.02^2 + 2.4e-6) / 4.65e-5 = 17.3
    assert needed(noisy, 0.02, "seeds") == 18
    with pytest.raises(ValueError, match="found 'money'"):
        needed(AIME, gap, "money")


def test_a_mean_over_benchmarks():
    # Two alike: V / 2; the seeds' part stays
    assert mde_of_mean([AIME, AIME], [0.5, 0.5]) == pytest.approx(mde(AIME) / math.sqrt(2))
    noisy = replace(AIME, seed_sd=0.02)
    expected = math.hypot(mde(AIME) / math.sqrt(2), FACTOR * math.sqrt(2) * 0.02)
    assert mde_of_mean([noisy, noisy], [0.5, 0.5]) == pytest.approx(expected)


@pytest.mark.parametrize("change", [{"problems": 0}, {"mean": 1.0}, {"rho": 1.2}])
def test_what_is_no_design_is_refused(change):
    with pytest.raises(ValueError, match="expected"):
        replace(AIME, **change)


@pytest.mark.parametrize(
    "design",
    [
        replace(AIME, problems=200, mean=0.4),
        replace(AIME, problems=500, samples=1, mean=0.6, rho=0.5),
        replace(AIME, problems=100, samples=32, mean=0.4, agreement=0.97),
    ],
)
def test_the_test_finds_an_mde_in_about_four_of_five(design):
    # 300 repetitions know a share of 0.8 to 0.023
    assert 0.7 < simulated_power(design, mde(design), 300, seed=1) < 0.92
    assert simulated_power(design, 0.0, 300, seed=2) < 0.09


def test_seeds_for_a_gap_of_a_mean_are_the_fewest_that_find_it():
    designs = [replace(AIME, seed_sd=0.02), replace(AIME, problems=500, mean=0.7, seed_sd=0.02)]
    weights = [0.5, 0.5]
    seeds = seeds_needed(designs, weights, 0.05)
    assert seeds is not None
    of = [mde_of_mean([replace(each, seeds=k) for each in designs], weights) for k in (seeds - 1, seeds)]
    assert of[1] <= 0.05 < of[0]
    assert seeds_needed([AIME], [1.0], 0.05) == needed(AIME, 0.05, "seeds")
    assert seeds_needed(designs, weights, 0.001) is None, "30 problems stay 30 problems"
