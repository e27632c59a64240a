"""Single-polarity ablation: learn from one branch of the polarity (arXiv 2605.11775, App. B.5, Fig. 2).

Against GRPO: policy-gradient terms of the other branch are masked out.

    P_t = A_t (-t1 + t2)                                                          (Eq. 8)
    A_t <- A_t where P_t > 0, else 0     keep = positive (entropy-raising updates)
    A_t <- A_t where P_t < 0, else 0     keep = negative (entropy-lowering updates)

Where the paper is silent:
  1. Masked terms leave the sum, not the count: the loss is averaged over all response tokens as before, so
     that both ablations and their baseline keep one scale of gradient.
Edge cases: a term with P = 0 belongs to neither branch and is masked; its gradient does not move the entropy.
"""

from dataclasses import dataclass

from torch import Tensor

from entrobench.algorithms.shaper import Checkpointed, Shaped, TokenBatch


def keep_branch(advantages_BT: Tensor, polarity_BT: Tensor, keep: str) -> Tensor:
    """Advantages (B, T) of one branch, 0 elsewhere."""
    is_kept_BT = polarity_BT > 0 if keep == "positive" else polarity_BT < 0
    return advantages_BT * is_kept_BT


@dataclass
class SinglePolarity(Checkpointed):
    """The Shaper of the ablation. Raises ValueError unless keep is positive or negative."""

    keep: str

    def __post_init__(self) -> None:
        if self.keep not in ("positive", "negative"):
            raise ValueError(f"expected keep: positive or negative, found {self.keep!r}")

    def shape(self, batch: TokenBatch) -> Shaped:
        """See Shaper.shape."""
        return Shaped(keep_branch(batch.advantages_BT, batch.polarity_BT(), self.keep), {})
