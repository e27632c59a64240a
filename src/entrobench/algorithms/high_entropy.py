"""80/20: policy gradient on the tokens of highest entropy (arXiv 2506.01939; baseline of 2605.11775, App.
B.3).

Against DAPO: tokens whose entropy is below the threshold of the batch contribute no gradient.

    tau = the value that a share `fraction` of the batch's entropies reaches or exceeds
    A_t <- A_t where H_t >= tau, else 0

Deviations:
  1. tau is that of the global batch; the original takes the batch that one device holds.
  2. The loss is averaged over all response tokens, masked ones included, as in the original's objective.
Edge cases: fraction = 1 is DAPO; fraction = 0 masks everything; tokens that tie with tau are all kept.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from entrobench.algorithms.shaper import Checkpointed, Shaped, TokenBatch


def entropy_threshold(entropy_N: Tensor, fraction: float) -> float:
    """Largest tau with at least ceil(fraction N) of the N entropies >= tau; inf for fraction 0."""
    # A sum of tenths is not exact: 0.2 of 5 tokens is 1 token
    count = math.ceil(fraction * entropy_N.numel() - 1e-9)
    if count == 0:
        return math.inf
    return torch.topk(entropy_N, count).values[-1].item()


@dataclass
class HighEntropy(Checkpointed):
    """The Shaper of 80/20. Raises ValueError unless 0 <= fraction <= 1."""

    fraction: float = 0.2

    def __post_init__(self) -> None:
        if not 0 <= self.fraction <= 1:
            raise ValueError(f"expected 0 <= fraction <= 1, found {self.fraction}")

    def shape(self, batch: TokenBatch) -> Shaped:
        """See Shaper.shape."""
        entropy_BT = batch.stats.entropy
        threshold = entropy_threshold(entropy_BT[batch.mask_BT], self.fraction)
        is_kept_BT = batch.mask_BT & (entropy_BT >= threshold)
        metrics = {
            "high_entropy/threshold": threshold,
            "high_entropy/fraction_kept": (is_kept_BT.sum() / batch.mask_BT.sum()).item(),
        }
        return Shaped(batch.advantages_BT * is_kept_BT, metrics)
