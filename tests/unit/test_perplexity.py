"""PPL-based shaping by hand, against an oracle of the released code, and at its limits (Eq. 7, 9)."""

import math
import random

import pytest
import torch
from support import batch_of, random_batch

from entrobench.algorithms.perplexity import Perplexity, group_scores, log_perplexity


def two_by_four():
    # Row 0: -log p = (1, 3, 1, 3) -> ln PPL = 2. Row 1: (1, 1, masked, masked) -> ln PPL = 1
    # One group: mu = 1.5, sigma (population) = 0.5 -> w = (+1, -1)
    return batch_of(
        advantages=[[2.0] * 4, [-1.0] * 4],
        logp=[[-1.0, -3.0, -1.0, -3.0], [-1.0, -1.0, -9.0, -9.0]],
        entropy=[[1.0] * 4] * 2,
        mask=[[1, 1, 1, 1], [1, 1, 0, 0]],
    )


def test_two_by_four_by_hand():
    batch = two_by_four()
    assert log_perplexity(batch.stats.logp, batch.mask_BT).tolist() == [2.0, 1.0]
    # alpha = 0.1, low: factors 1 - 0.1 = 0.9 and 1 + 0.1 = 1.1 -> advantages 1.8 and -1.1
    low = Perplexity(alpha=0.1, prefer="low").shape(batch).advantages_BT
    assert low[:, 0].tolist() == pytest.approx([1.8, -1.1])
    high = Perplexity(alpha=0.1, prefer="high").shape(batch).advantages_BT
    assert high[:, 0].tolist() == pytest.approx([2.2, -0.9])


def test_scores_are_standardised_within_each_group():
    values = torch.tensor([1.0, 3.0, 10.0, 10.0, 7.0], dtype=torch.float64)
    groups = torch.tensor([0, 0, 1, 1, 2])
    scores = group_scores(values, groups, torch.ones(5).bool(), drop_outliers=False)
    assert scores.tolist() == [-1.0, 1.0, 0.0, 0.0, 0.0], "a tied group and a group of one have no score"


def test_alpha_zero_is_grpo():
    batch = random_batch()
    assert torch.equal(Perplexity(alpha=0.0).shape(batch).advantages_BT, batch.advantages_BT)


def released_score(values: list[float]) -> list[float]:
    """What the released code does with the log-perplexities of one group, in plain Python."""

    def quantile(share: float) -> float:
        ordered = sorted(values)
        place = share * (len(ordered) - 1)
        below = math.floor(place)
        above = min(below + 1, len(ordered) - 1)
        return ordered[below] + (place - below) * (ordered[above] - ordered[below])

    q1, q3 = quantile(0.25), quantile(0.75)
    usual = [v for v in values if q1 - 1.5 * (q3 - q1) <= v <= q3 + 1.5 * (q3 - q1)]
    mean = sum(usual) / len(usual)
    std = math.sqrt(sum((v - mean) ** 2 for v in usual) / len(usual))
    return [(v - mean) / (std if std > 1e-6 else 1.0) for v in values]


@pytest.mark.parametrize("seed", range(20))
def test_scores_without_outliers_are_those_of_the_released_code(seed):
    rng = random.Random(seed)
    groups = [[rng.gauss(1, 0.3) for _ in range(8)] for _ in range(3)]
    groups[0][2] = 9.0  # an outlier
    groups[1] = [0.5] * 8  # a tied group
    flat = torch.tensor([v for group in groups for v in group], dtype=torch.float64)
    index = torch.arange(24) // 8
    scores = group_scores(flat, index, torch.ones(24).bool(), drop_outliers=True)
    expected = [score for group in groups for score in released_score(group)]
    assert scores.tolist() == pytest.approx(expected, abs=1e-9)


def test_the_released_variant_computes_a_factor_and_does_not_use_it():
    shaper = Perplexity(alpha=0.5, outliers="iqr", clamp=0.2, applied=False)
    shaped = shaper.shape(two_by_four())
    assert torch.equal(shaped.advantages_BT, two_by_four().advantages_BT)
    # 1 - 0.5 * (+-1) = 0.5 and 1.5, clamped to 0.8 and 1.2
    assert shaped.metrics["perplexity/factor_min"] == pytest.approx(0.8)
    assert shaped.metrics["perplexity/factor_max"] == pytest.approx(1.2)


@pytest.mark.parametrize("wrong", [{"prefer": "mid"}, {"outliers": "drop"}])
def test_unknown_settings_are_refused(wrong):
    with pytest.raises(ValueError, match="expected prefer"):
        Perplexity(**wrong)
