"""80/20 by hand and at its limits."""

import math

import pytest
import torch
from support import batch_of, random_batch

from entrobench.algorithms.high_entropy import HighEntropy, entropy_threshold


def test_two_by_four_by_hand():
    # 8 entropies, fraction 0.25 -> 2 tokens; the two largest are 0.9 and 0.8: tau = 0.8
    batch = batch_of(
        advantages=[[1.0] * 4, [-2.0] * 4],
        logp=[[-1.0] * 4] * 2,
        entropy=[[0.1, 0.8, 0.2, 0.3], [0.4, 0.5, 0.9, 0.6]],
    )
    shaped = HighEntropy(fraction=0.25).shape(batch)
    assert shaped.advantages_BT.tolist() == [[0, 1, 0, 0], [0, 0, -2, 0]]
    assert shaped.metrics["high_entropy/threshold"] == pytest.approx(0.8)
    assert shaped.metrics["high_entropy/fraction_kept"] == 0.25


@pytest.mark.parametrize(
    ("number", "fraction", "kept"), [(5, 0.2, 1), (10, 0.2, 2), (11, 0.2, 3), (1000, 0.2, 200), (3, 1.0, 3)]
)
def test_the_share_that_is_kept_is_exact(number, fraction, kept):
    entropy = torch.randperm(number).float()
    assert (entropy >= entropy_threshold(entropy, fraction)).sum() == kept


def test_fraction_one_is_dapo_and_fraction_zero_masks_everything():
    batch = random_batch()
    everything = HighEntropy(fraction=1.0).shape(batch).advantages_BT
    assert torch.equal(everything[batch.mask_BT], batch.advantages_BT[batch.mask_BT])
    assert (HighEntropy(fraction=0.0).shape(batch).advantages_BT == 0).all()
    assert entropy_threshold(torch.ones(3), 0.0) == math.inf


def test_padding_does_not_move_the_threshold():
    # the masked token's entropy of 9 would be the threshold of the highest half
    batch = batch_of([[1.0, 1.0, 1.0]], [[-1.0] * 3], [[0.2, 0.7, 9.0]], mask=[[1, 1, 0]])
    assert HighEntropy(fraction=0.5).shape(batch).advantages_BT.tolist() == [[0, 1, 0]]


def test_a_fraction_outside_its_range_is_refused():
    with pytest.raises(ValueError, match="fraction"):
        HighEntropy(fraction=20)
