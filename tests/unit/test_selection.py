"""Choosing a checkpoint: by hand, at its limits, and where all are equally good."""

import numpy as np
import pytest

from entrobench.statistics.selection import best, held_out, means


def test_the_papers_rule_by_hand():
    # Benchmark 1: means .5, .75; benchmark 2: means 1, .5. Macro: (.5 + 1) / 2 = .75, (.75 + .5) / 2 = .625
    scores = [np.array([[1, 0, 1, 0], [1, 1, 1, 0.0]]), np.array([[1, 1], [0, 1.0]])]
    assert means(scores).tolist() == [0.75, 0.625]
    assert best(scores) == 0
    assert best([np.array([[0.2, 0.4], [0.4, 0.2]])]) == 0, "the earliest of equals"


def test_the_held_out_rule_by_hand():
    # Two checkpoints, two problems, each solves one. Chosen on problem 0: checkpoint 0, which has 0 on
    # problem 1; chosen on problem 1: checkpoint 1, which has 0 on problem 0. The paper's rule reports .5
    scores = [np.array([[1.0, 0.0], [0.0, 1.0]])]
    found = held_out(scores, seed=0, halves=10)
    assert (found.value, found.shares.tolist()) == (0.0, [0.5, 0.5])
    assert means(scores)[best(scores)] == 0.5


def test_the_held_out_rule_by_hand_with_an_odd_number_of_problems():
    # Three problems: halves of two and of one. Checkpoint 0 has (0, 0, 1), checkpoint 1 has (.6, .6, 0).
    # Problem 2 alone: on it 0 is chosen, measured (0, 0) on the others; on the others 1, measured 0 on it: 0
    # Problem 0 alone: on it 1 is chosen, measured (.6, 0); on the others 0, by .5 to .3, measured 0: .6 / 3
    # Problem 1 alone: the same. Mean: (0 + .2 + .2) / 3 = .1333. Of 300 halvings the share of "problem 2
    # alone" has a standard error of sqrt(1/3 2/3 / 300) = .027, times .2
    scores = [np.array([[0.0, 0.0, 1.0], [0.6, 0.6, 0.0]])]
    found = held_out(scores, seed=0, halves=300)
    assert found.value == pytest.approx(0.4 / 3, abs=3 * 0.2 * 0.027)


def test_one_checkpoint_and_checkpoints_that_are_the_same_have_no_optimism():
    generator = np.random.default_rng(0)
    one = [generator.random((1, 7)), generator.random((1, 4))]
    same = [np.repeat(scores, 5, axis=0) for scores in one]
    for scores in (one, same):
        found = held_out(scores, seed=1, halves=50)
        assert found.value == pytest.approx(means(scores)[best(scores)])
        for values, expected in zip(found.by_problem, one, strict=True):
            assert values == pytest.approx(expected[0])


def test_a_checkpoint_that_is_better_on_every_problem_is_chosen_and_costs_nothing():
    scores = [np.array([[0.2] * 6, [0.9] * 6, [0.5] * 6])]
    found = held_out(scores, seed=0, halves=20)
    assert found.value == pytest.approx(0.9)
    assert found.shares.tolist() == [0.0, 1.0, 0.0]


def test_the_value_is_the_mean_over_benchmarks_of_its_problems_and_the_seed_decides():
    generator = np.random.default_rng(3)
    scores = [generator.random((4, 9)), generator.random((4, 30))]
    found = held_out(scores, seed=5, halves=40)
    assert found.value == pytest.approx(np.mean([values.mean() for values in found.by_problem]))
    assert (
        found.value == held_out(scores, seed=5, halves=40).value != held_out(scores, seed=6, halves=40).value
    )


def test_a_benchmark_of_one_problem_has_no_halves():
    with pytest.raises(ValueError, match="at least two problems"):
        held_out([np.ones((3, 1))], seed=0)


def test_where_all_checkpoints_are_equally_good_only_the_papers_rule_is_biased():
    # 400 test sets of two benchmarks with 30 and 41 problems, difficulties ~ Beta(1, 2), 4 samples each, ten
    # checkpoints with the same chances. A checkpoint's mean has, around its chances, a variance of
    # E[p (1 - p)] / 4 = (1/3 - 1/6) / 4 = 1/24 a problem, over the two benchmarks (1/30 + 1/41) / 4 / 24 =
    # .00060, sd .0245. The largest of ten independent normals lies 1.54 sd above their mean: .038
    generator = np.random.default_rng(0)
    paper, other = [], []
    for repetition in range(400):
        chances = [generator.beta(1, 2, size=problems) for problems in (30, 41)]
        scores = [generator.binomial(4, chance, size=(10, len(chance))) / 4 for chance in chances]
        truth = np.mean([chance.mean() for chance in chances])
        paper.append(means(scores)[best(scores)] - truth)
        other.append(held_out(scores, seed=repetition, halves=20).value - truth)
    # An unbiased rule is outside of three standard errors once in 370 seeds
    standard_error = np.std(other) / np.sqrt(len(other))
    assert abs(np.mean(other)) < 3 * standard_error
    assert np.mean(paper) == pytest.approx(0.038, abs=0.003)
    assert np.mean(paper) > 10 * standard_error
