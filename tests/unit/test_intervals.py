"""Intervals of means and differences: coverage by simulation, limits by hand."""

import math

import numpy as np
import pytest
from scipy import stats

from entrobench.statistics.intervals import Estimate, difference_of, mean_of, variance_of, weighted

# Spread of difficulties: a + b of their Beta distribution, from all or nothing to all alike
SPREADS = (0.1, 0.5, 2.0, 20.0)


def shares(generator, mean, spread, problems, samples, repetitions=400):
    chances = generator.beta(mean * spread, (1 - mean) * spread, size=(repetitions, problems))
    return generator.binomial(samples, chances) / samples


@pytest.mark.parametrize(("problems", "samples"), [(30, 8), (30, 1), (30, 32), (100, 8)])
@pytest.mark.parametrize("mean", [0.02, 0.05, 0.15, 0.5, 0.85])
def test_an_interval_covers_the_mean_of_all_problems(problems, samples, mean):
    # 95 % of 1,600 repetitions has a standard error of 0.5 points
    generator = np.random.default_rng(int(1000 * mean) + problems + samples)
    hits, repetitions = 0, 0
    for spread in SPREADS:
        for values in shares(generator, mean, spread, problems, samples):
            found = mean_of(values[None], samples)
            hits += found.low <= mean <= found.high
            repetitions += 1
    assert hits / repetitions >= 0.94


@pytest.mark.parametrize("spread", SPREADS)
def test_of_rare_successes_too_whatever_the_spread(spread):
    # At 2 and 5 % an interval that takes the correlation as it is estimated covers 82 to 90 %
    generator = np.random.default_rng(5)
    for mean in (0.02, 0.05):
        estimates = [mean_of(v[None], 32) for v in shares(generator, mean, spread, 30, 32, 1000)]
        assert np.mean([one.low <= mean <= one.high for one in estimates]) >= 0.93


def test_many_problems_have_the_interval_of_the_standard_error():
    values = np.random.default_rng(1).random(4000)
    found = mean_of(values[None], 8)
    half = 1.96 * values.std() / math.sqrt(4000)
    assert found.high - found.value == pytest.approx(half, rel=0.02)
    assert found.value - found.low == pytest.approx(half, rel=0.02)


def test_one_sample_a_problem_is_clopper_and_pearson():
    values = np.array([1.0] * 7 + [0.0] * 33)
    expected = stats.binomtest(7, 40).proportion_ci(method="exact")
    found = mean_of(values[None], 1)
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high))


@pytest.mark.parametrize("right", [0.0, 1.0])
def test_nothing_and_everything_correct_have_a_width(right):
    found = mean_of(np.full((1, 30), right), 8)
    # 30 problems and a little less: 1 - 0.025^(1/30) = 11.6 %
    assert found.value == right
    assert abs(found.high - found.low) == pytest.approx(1 - 0.025 ** (1 / 28), abs=0.01)


def test_what_cannot_be_is_refused():
    with pytest.raises(ValueError, match=r"found \(1, 0\)"):
        mean_of(np.ones((1, 0)), 8)
    with pytest.raises(ValueError, match=r"mean in \[0, 1\], found 2"):
        mean_of(np.full((1, 3), 2.0), 8)
    with pytest.raises(ValueError, match="same problems, found 3 and 4"):
        difference_of(np.ones((1, 3)), np.ones((1, 4)), 1, 1)


def test_one_problem_says_next_to_nothing():
    found = mean_of(np.array([[0.5]]), 8)
    assert found.low < 0.01
    assert found.high > 0.99


# -- training seeds ------------------------------------------------------------------------------------------


def test_the_variance_is_that_of_drawing_seeds_and_problems_anew():
    # Owen's pigeonhole bootstrap; it counts what seeds and problems leave once more for each of the two
    generator = np.random.default_rng(2)
    values = (
        generator.normal(0, 0.1, (5, 1))
        + generator.normal(0, 0.3, (1, 80))
        + generator.normal(0, 0.2, (5, 80))
    )
    drawn = [
        values[np.ix_(generator.integers(5, size=5), generator.integers(80, size=80))].mean()
        for _ in range(4000)
    ]
    left = values - values.mean(0) - values.mean(1)[:, None] + values.mean()
    by_problem, by_seed = values.mean(0).var() / 80, values.mean(1).var() / 5
    assert np.var(drawn) == pytest.approx(by_problem + by_seed + (left**2).mean() / 400, rel=0.08)
    # The same parts, unbiased, with the rest once
    rest = (left**2).sum() / (4 * 79) / 400
    expected = by_problem * 80 / 79 + by_seed * 5 / 4 - rest
    assert variance_of(values) == pytest.approx(expected)


@pytest.mark.parametrize("seeds", [2, 3, 5])
@pytest.mark.parametrize("spread", [0.0, 0.05])
def test_an_interval_over_seeds_covers_the_mean_of_all_seeds(seeds, spread):
    generator = np.random.default_rng(seeds)
    hits = 0
    for _ in range(500):
        chances = generator.beta(1, 1, size=60) + spread * generator.normal(size=(seeds, 1))
        values = generator.binomial(4, chances.clip(0, 1)) / 4
        found = mean_of(values, 4)
        hits += found.low <= 0.5 <= found.high
    assert hits / 500 >= 0.93


def test_two_seeds_far_apart_have_a_wide_interval():
    one = mean_of(np.array([[0.5, 0.25, 0.75, 0.5] * 20]), 4)
    two = mean_of(np.array([[0.25, 0.0, 0.5, 0.25] * 20, [0.75, 0.5, 1.0, 0.75] * 20]), 4)
    assert one.value == two.value == 0.5
    assert two.high - two.low > 4 * (one.high - one.low)


# -- differences and sums ------------------------------------------------------------------------------------


@pytest.mark.parametrize("shift", [0.0, 0.7])
@pytest.mark.parametrize("mean", [0.05, 0.3])
def test_a_difference_covers_the_difference_over_all_problems(shift, mean):
    generator = np.random.default_rng(7)

    def both(size):
        logits = np.log(generator.gamma(mean, size=size) + 1e-12) - np.log(
            generator.gamma(1 - mean, size=size) + 1e-12
        )
        moved = logits + shift + 0.5 * generator.normal(size=size)
        return 1 / (1 + np.exp(-logits)), 1 / (1 + np.exp(-moved))

    a, b = both(400_000)
    true = (b - a).mean()
    hits, widths, apart = 0, [], []
    for _ in range(500):
        before, after = (generator.binomial(8, chances)[None] / 8 for chances in both(60))
        found = difference_of(after, before, 8, 8)
        hits += found.low <= true <= found.high
        widths.append(found.high - found.low)
        first, second = mean_of(after, 8), mean_of(before, 8)
        apart.append(math.hypot(first.high - first.low, second.high - second.low))
    assert hits / 500 >= 0.93
    assert np.mean(widths) < 0.75 * np.mean(apart), "the problems are the same"


def test_a_difference_of_nothing_has_a_width():
    nothing = np.zeros((1, 30))
    found = difference_of(nothing, nothing, 8, 8)
    assert found.value == 0
    assert found.low < -0.05
    assert found.high > 0.05


def test_weights():
    a, b = Estimate(0.5, 0.4, 0.7), Estimate(0.2, 0.1, 0.25)
    found = weighted([a, b], [0.75, 0.25])
    assert found.value == pytest.approx(0.425)
    assert found.value - found.low == pytest.approx(math.hypot(0.075, 0.025))
    assert found.high - found.value == pytest.approx(math.hypot(0.15, 0.0125))
