"""Single-polarity ablation by hand (PAPO, App. B.5)."""

import pytest
import torch
from support import random_batch

from entrobench.algorithms.single_polarity import SinglePolarity, keep_branch


def test_two_by_four_by_hand():
    # P = A T of the row: (+, -, 0, +); positive keeps columns 0 and 3, negative column 1
    advantages = torch.tensor([[2.0, 2.0, 2.0, 2.0], [-1.0, -1.0, -1.0, -1.0]])
    tendency = torch.tensor([[0.3, -0.1, 0.0, 0.2], [0.3, -0.1, 0.0, 0.2]])
    polarity = advantages * tendency  # the second row's signs are the opposite
    positive = keep_branch(advantages, polarity, "positive")
    negative = keep_branch(advantages, polarity, "negative")
    assert positive.tolist() == [[2, 0, 0, 2], [0, -1, 0, 0]]
    assert negative.tolist() == [[0, 2, 0, 0], [-1, 0, 0, -1]]


def test_the_branches_and_the_neutral_tokens_make_up_grpo():
    batch = random_batch()
    kept = [SinglePolarity(keep=branch).shape(batch).advantages_BT for branch in ("positive", "negative")]
    neutral = batch.advantages_BT * (batch.polarity_BT() == 0)
    assert torch.equal(kept[0] + kept[1] + neutral, batch.advantages_BT)
    assert (kept[0] * kept[1] == 0).all()


def test_another_branch_is_refused():
    with pytest.raises(ValueError, match="positive or negative"):
        SinglePolarity(keep="both")
