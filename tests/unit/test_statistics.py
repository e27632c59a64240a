"""pass@k against brute force, votes by hand, and the coverage and memory of the bootstrap interval."""

import itertools
import math
import tracemalloc

import numpy as np
import pytest

from entrobench.statistics.bootstrap import cluster_bootstrap
from entrobench.statistics.metrics import maj_at_k, mean_at_k, pass_at_k, pass_first_at_k, value_of


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


def test_the_first_k_decide_and_their_mean_over_orders_is_pass_at_k():
    assert [pass_first_at_k([False, False, True, False], k) for k in (1, 2, 3, 4)] == [0, 0, 1, 1]
    # Over all orders of 2 right of 5, "one of the first 3 is right" has the share 1 - C(3,3)/C(5,3) = 0.9
    orders = list(itertools.permutations([True, True, False, False, False]))
    shares = [pass_first_at_k(order, 3) for order in orders]
    assert sum(shares) / len(orders) == pytest.approx(pass_at_k([2], 5, 3)) == pytest.approx(0.9)
    with pytest.raises(ValueError, match="pass_first@5 needs 1 <= k <= n"):
        pass_first_at_k([True] * 4, 5)


@pytest.mark.parametrize(
    ("votes", "right_votes", "value"),
    [
        ([0, 0, 1, 2], {0}, 1),  # the right answer has two of four votes
        ([0, 1, 1, 2], {0}, 0),  # a wrong one has
        ([0, 0, 1, 1], {0}, 1 / 2),  # a tie of a right and a wrong answer
        ([0, 1, 2, 3], {0}, 1 / 4),  # of four
        ([1, 1, 2, 2], {0}, 0),  # of two wrong ones
        ([None, None, None, 0], {0}, 1),  # no answer is no vote
        ([None] * 4, {0}, 0),  # no vote at all
        ([0, None, 1, None], {0}, 1 / 2),
    ],
)
def test_majority_votes_by_hand(votes, right_votes, value):
    is_correct = [vote in right_votes for vote in votes]
    assert maj_at_k(is_correct, votes, 4) == value_of("maj@4", is_correct, votes) == value


def test_a_vote_takes_the_first_k_and_needs_votes():
    is_correct, votes = [True, False, False, False], [0, 1, 1, 1]
    # 1 vote; 1 : 1; 1 : 2
    assert [maj_at_k(is_correct, votes, k) for k in (1, 2, 3)] == [1, 1 / 2, 0]
    with pytest.raises(ValueError, match="expected 4 votes, found 3"):
        maj_at_k(is_correct, votes[:3], 4)
    with pytest.raises(ValueError, match="there is no vote"):
        value_of("maj@4", is_correct)


def test_the_names_of_the_papers():
    is_correct = [True] + [False] * 3
    assert [value_of(name, is_correct) for name in ("mean@4", "acc@4", "avg@4", "avg@1")] == [1 / 4] * 4
    # REPO's columns @1 and @64 of one benchmark: (1/4 + 1) / 2
    assert value_of("combined@4", is_correct) == (1 / 4 + 1) / 2
    with pytest.raises(ValueError, match="found 'best@4'"):
        value_of("best@4", is_correct)


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


def test_the_interval_is_that_of_drawing_problems_one_by_one():
    # The bootstrap as it is defined, against counts of distinct values; both have 20,000 draws, whose
    # percentiles of a mean with standard error 0.029 are known to about 1 % of it
    values = np.random.default_rng(3).binomial(8, 0.3, size=60) / 8
    rows = np.random.default_rng(4).integers(60, size=(20_000, 60))
    expected = np.percentile(values[rows].mean(axis=1), [2.5, 97.5])
    assert cluster_bootstrap([values], seed=5, draws=20_000) == pytest.approx(expected, abs=0.002)


@pytest.mark.parametrize("distinct", [11, 2000])
def test_the_bootstrap_takes_little_memory(distinct):
    values = np.random.default_rng(6).integers(distinct, size=12_032) / distinct
    tracemalloc.start()
    cluster_bootstrap([values], seed=0, draws=2000)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    # One draw of each problem at a time would take 2,000 x 12,032 x 8 bytes = 193 MB
    assert peak < 50e6


def test_groups_count_by_their_weights():
    # Var(0.9 X + 0.1 Y) = 0.81 Var X + 0.01 Var Y
    a, b = np.random.default_rng(7).random((2, 300))
    low, high = cluster_bootstrap([a, b], seed=0, weights=[0.9, 0.1])
    expected = 1.96 * math.sqrt((0.81 * a.var() + 0.01 * b.var()) / 300)
    assert (high - low) / 2 == pytest.approx(expected, rel=0.05)
    assert low < 0.9 * a.mean() + 0.1 * b.mean() < high


def test_a_sure_result_has_no_width_and_an_empty_group_is_refused():
    assert cluster_bootstrap([[1.0, 1.0]], seed=0) == (1.0, 1.0)
    with pytest.raises(ValueError, match="at least one problem"):
        cluster_bootstrap([[0.5], []], seed=0)
