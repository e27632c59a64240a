"""The tokens that Clip-Cov and KL-Cov treat (arXiv 2505.22617), chosen over a whole mini-batch.

    Cov_t = (A_t - mean A) (log p_t - mean log p), means over the response tokens of the mini-batch
    KL-Cov:   the `share` of all tokens with the highest Cov
    Clip-Cov: as many at random among those with low < Cov < high

verl, like the authors' code, chooses within each micro-batch while it computes the loss, so that the number
of ranks and the memory of a device change the loss. A choice over the mini-batch has to be made before its
first micro-batch. So:
  1. log p is that of the old policy, which is known for the whole batch. In the first update of a step it is
     the current one; later updates choose by where the policy stood at the beginning of the step.
  2. Tokens of equal Cov, such as certain ones (log p = 0) of one response, are chosen among at random.
Edge case: at least one token of a mini-batch is chosen, as in verl.
"""

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class CovarianceRule:
    """share: of the mini-batch's tokens. bounds: Clip-Cov's (low, high); None for KL-Cov."""

    share: float
    bounds: tuple[float, float] | None = None

    def choose(self, covariance_N: Tensor, generator: torch.Generator) -> Tensor:
        """Indices of the chosen tokens of one mini-batch."""
        number = max(1, int(self.share * len(covariance_N)))
        shuffled_N = torch.randperm(len(covariance_N), generator=generator)
        values_N = covariance_N[shuffled_N]
        if self.bounds is None:
            return shuffled_N[values_N.argsort(descending=True, stable=True)[:number]]
        low, high = self.bounds
        return shuffled_N[(values_N > low) & (values_N < high)][:number]


def choose_tokens(
    rule: CovarianceRule,
    advantages_BT: Tensor,
    logp_BT: Tensor,
    mask_BT: Tensor,
    mini_batches: list[list[int]],
    generator: torch.Generator,
) -> Tensor:
    """bool (B, T): the chosen tokens of a batch. mini_batches: the rows of each, in an order that does not
    depend on ranks and padding, as the generator's numbers are given out in it.
    """
    chosen_BT = torch.zeros_like(mask_BT)
    for rows in mini_batches:
        rows_R = torch.tensor(rows)
        places_N2 = mask_BT[rows_R].nonzero()
        rows_N, columns_N = rows_R[places_N2[:, 0]], places_N2[:, 1]
        advantages_N = advantages_BT[rows_N, columns_N].double()
        logp_N = logp_BT[rows_N, columns_N].double()
        covariance_N = (advantages_N - advantages_N.mean()) * (logp_N - logp_N.mean())
        chosen = rule.choose(covariance_N, generator)
        chosen_BT[rows_N[chosen], columns_N[chosen]] = True
    return chosen_BT
