"""pass@k against brute force, and votes by hand."""

import itertools

import pytest

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
