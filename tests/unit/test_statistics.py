"""pass@k against brute force, and the coverage of the bootstrap interval."""

import itertools
import math

import numpy as np
import pytest

from entrobench.statistics.bootstrap import cluster_bootstrap
from entrobench.statistics.metrics import mean_at_k, pass_at_k


@pytest.mark.parametrize("n", [1, 4, 6])
def test_pass_at_k_is_the_share_of_subsets_with_a_correct_sample(n):
    for c in range(n + 1):
        outcomes = [True] * c + [False] * (n - c)
        for k in range(1, n + 1):
            subsets = list(itertools.combinations(outcomes, k))
            assert pass_at_k([c], n, k) == pytest.approx(sum(any(s) for s in subsets) / len(subsets))


def test_pass_at_k_by_hand():
    # n = 8: c = 2 -> 1 - C(6,4)/C(8,4) = 1 - 15/70 = .7857; c = 0 -> 0; mean = .3929
    assert pass_at_k([2, 0], 8, 4) == pytest.approx((1 - 15 / 70) / 2)
    assert pass_at_k([2, 0], 8, 1) == mean_at_k([2, 0], 8) == 0.125
    assert pass_at_k([2, 0], 8, 8) == 0.5


@pytest.mark.parametrize(("n", "k"), [(4, 8), (4, 0)])
def test_pass_at_k_beyond_the_samples_is_refused(n, k):
    with pytest.raises(ValueError, match=f"pass@{k}"):
        pass_at_k([0], n, k)


def test_counts_that_cannot_be_are_refused():
    with pytest.raises(ValueError, match="found \\[9\\]"):
        mean_at_k([3, 9], 8)
    with pytest.raises(ValueError, match="no problems"):
        mean_at_k([], 8)


def test_interval_covers_the_true_mean_as_often_as_it_says():
    # 60 problems with difficulties ~ Beta(1, 2) (mean 1/3), 8 samples each; 200 repetitions.
    # 95 % coverage has a standard error of 1.5 points; 89..99 % is 4 of them below and the rest above.
    generator = np.random.default_rng(0)
    hits = 0
    for repetition in range(200):
        shares = generator.binomial(8, generator.beta(1, 2, size=60)) / 8
        low, high = cluster_bootstrap([shares], seed=repetition, draws=1000)
        hits += low <= 1 / 3 <= high
    assert 0.89 <= hits / 200 <= 0.99


def test_interval_width_is_that_of_the_standard_error_over_problems():
    shares = np.random.default_rng(1).random(400)
    low, high = cluster_bootstrap([shares], seed=0)
    assert (high - low) / 2 == pytest.approx(1.96 * shares.std() / math.sqrt(400), rel=0.05)


def test_macro_average_has_the_interval_of_an_average():
    # Var((X + Y) / 2) = (Var X + Var Y) / 4
    a, b = np.random.default_rng(2).random((2, 300))
    low, high = cluster_bootstrap([a, b], seed=0)
    expected = 1.96 * math.sqrt((a.var() / 300 + b.var() / 300) / 4)
    assert (high - low) / 2 == pytest.approx(expected, rel=0.05)


def test_a_sure_result_has_no_width_and_an_empty_group_is_refused():
    assert cluster_bootstrap([[1.0, 1.0]], seed=0) == (1.0, 1.0)
    with pytest.raises(ValueError, match="at least one problem"):
        cluster_bootstrap([[0.5], []], seed=0)
