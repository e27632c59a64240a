"""Sign-flip test, Holm's correction and GRIM, against what is known of them."""

import itertools
import tracemalloc
from decimal import Decimal

import numpy as np
import pytest
from scipy import stats

from entrobench.statistics.comparisons import holm, sign_flip
from entrobench.statistics.grim import nearest, reachable


def test_p_is_the_share_of_all_signs():
    differences = np.array([0.5, 0.25, -0.125, 0.375, 0.25, 0.0, 0.5])
    sums = [abs(np.dot(signs, differences)) for signs in itertools.product((1, -1), repeat=7)]
    exact = np.mean([found >= differences.sum() - 1e-9 for found in sums])
    # 10,000 draws know a share of 0.06 to 0.0024
    assert sign_flip(differences, seed=0) == pytest.approx(exact, abs=0.01)


def test_it_agrees_with_scipy():
    differences = np.random.default_rng(0).normal(0.02, 0.1, 60)
    theirs = stats.permutation_test(
        (differences,), np.mean, permutation_type="samples", n_resamples=10_000, rng=np.random.default_rng(1)
    )
    assert sign_flip(differences, seed=2) == pytest.approx(theirs.pvalue, abs=0.015)


def test_its_level_holds_and_it_finds_what_is_there():
    generator = np.random.default_rng(3)

    def found(gap):
        chances = generator.beta(1, 1, (300, 40)) * (1 - gap)
        pairs = zip(generator.binomial(8, chances), generator.binomial(8, chances + gap), strict=True)
        return np.mean([sign_flip((b - a) / 8, seed=0, flips=500) <= 0.05 for a, b in pairs])

    assert found(0.0) <= 0.08
    assert found(0.12) >= 0.8


def test_equal_cells_have_p_1_and_no_problem_is_refused():
    assert sign_flip(np.zeros(30), seed=0) == 1.0
    with pytest.raises(ValueError, match="no problems"):
        sign_flip(np.zeros(0), seed=0)


def test_weights_make_a_mean_over_benchmarks():
    # Ten problems that differ by 0.2 and 1,000 that do not: in the mean over both benchmarks they count half
    differences = np.concatenate([np.full(10, 0.2), np.random.default_rng(4).choice([-0.1, 0.1], 1000)])
    weights = np.concatenate([np.full(10, 1 / 20), np.full(1000, 1 / 2000)])
    assert sign_flip(differences, 0, weights) < 0.01 < sign_flip(differences, 0)


def test_holm_by_hand():
    # 4 x 0.01, 3 x 0.04 -> 0.12, then never smaller
    assert holm([0.04, 0.01, 0.05, 0.9]) == pytest.approx([0.12, 0.04, 0.12, 0.9])
    assert holm([0.6, 0.5]) == [1.0, 1.0]
    assert holm([]) == []


def test_a_table_of_comparisons_takes_little_memory():
    differences = np.random.default_rng(5).choice([-0.125, 0.0, 0.125], 12_032)
    tracemalloc.start()
    sign_flip(differences, seed=0)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 150e6


@pytest.mark.parametrize(
    ("printed", "n", "can_be"),
    [
        ("20.42", 240, True),  # 49 of 240
        ("20.00", 240, True),
        ("20.30", 240, False),
        ("12.5", 8, True),
        ("12.3", 8, False),
        ("0.00", 30, True),
        ("100.00", 30, True),
        ("62.5", 4000, True),
        ("33.33", 4000, True),  # 1,333 are 33.325, a half: printed up
        ("33.32", 4000, True),  # or to even
    ],
)
def test_what_a_share_of_n_items_can_be(printed, n, can_be):
    assert reachable(printed, n) is can_be


def test_the_nearest_shares():
    assert nearest("20.30", 240) == (Decimal("20.00"), Decimal("20.42"))
    assert nearest("100.00", 30) == (Decimal("100.00"), Decimal("100.00"))
