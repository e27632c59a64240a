"""PPL-based advantage shaping (arXiv 2508.02260, Eq. 7 and 9).

Against GRPO: a response's advantages are scaled by how its perplexity compares with its group's.

    w(o_i) = (ln PPL(o_i) - mu) / sigma                                           (7)
    A_t <- A_t (1 - alpha w(o_i))     prefer = low                                (9)
    A_t <- A_t (1 + alpha w(o_i))     prefer = high

ln PPL(o_i) is the mean of -log p over the response's tokens; mu and sigma run over the responses to the same
prompt.

Where the paper is silent, and what its released code does:
  1. sigma is the population's (released: the same). A group whose responses tie (sigma < 1e-6) gets w = 0.
  2. Released code excludes outliers (beyond 1.5 interquartile ranges) from mu and sigma, divides by 1 where
     sigma is below 1e-6, and clamps the factor to [0.8, 1.2]; `outliers: iqr` and `clamp: 0.2` do so too.
  3. Released code computes the factor of prefer = low and never multiplies with it; `applied: false` is that
     run.
Edge cases: a response without tokens keeps its advantages; alpha = 0 is GRPO.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from entrobench.algorithms.shaper import Checkpointed, Shaped, TokenBatch

SMALLEST_SIGMA = 1e-6


def log_perplexity(logp_BT: Tensor, mask_BT: Tensor) -> Tensor:
    """Mean of -log p over each response, fp64 (B,); 0 for a response without tokens."""
    lengths_B = mask_BT.sum(1).clamp(min=1)
    return -(logp_BT.double().masked_fill(~mask_BT, 0.0)).sum(1) / lengths_B


def group_scores(values_B: Tensor, groups_B: Tensor, keep_B: Tensor, drop_outliers: bool) -> Tensor:
    """Standardise `values_B` within each group (Eq. 7), (B,); 0 for rows that `keep_B` leaves out."""
    scores_B = torch.zeros_like(values_B)
    for group in groups_B[keep_B].unique():
        rows_B = keep_B & (groups_B == group)
        values = values_B[rows_B]
        typical = _without_outliers(values) if drop_outliers else values
        sigma = typical.std(correction=0)
        if sigma < SMALLEST_SIGMA:
            sigma = torch.ones_like(sigma) if drop_outliers else torch.full_like(sigma, torch.inf)
        scores_B[rows_B] = (values - typical.mean()) / sigma
    return scores_B


def _without_outliers(values: Tensor) -> Tensor:
    lower, upper = torch.quantile(values, torch.tensor([0.25, 0.75], dtype=values.dtype))
    margin = 1.5 * (upper - lower)
    return values[(values >= lower - margin) & (values <= upper + margin)]


@dataclass
class Perplexity(Checkpointed):
    """The Shaper of PPL-based shaping. Raises ValueError for unknown values of prefer and outliers."""

    alpha: float = 0.01
    prefer: str = "low"
    outliers: str = "keep"
    clamp: float | None = None
    applied: bool = True

    def __post_init__(self) -> None:
        if self.prefer not in ("low", "high") or self.outliers not in ("keep", "iqr"):
            raise ValueError(
                f"expected prefer: low or high and outliers: keep or iqr, found {self.prefer!r} and "
                f"{self.outliers!r}"
            )

    def shape(self, batch: TokenBatch) -> Shaped:
        """See Shaper.shape."""
        log_ppl_B = log_perplexity(batch.stats.logp, batch.mask_BT)
        is_response_B = batch.mask_BT.any(1)
        weight_B = group_scores(log_ppl_B, batch.groups_B, is_response_B, self.outliers == "iqr")
        factor_B = 1 + (self.alpha if self.prefer == "high" else -self.alpha) * weight_B
        if self.clamp is not None:
            factor_B = factor_B.clamp(1 - self.clamp, 1 + self.clamp)
        metrics = {
            "perplexity/log_ppl": log_ppl_B[is_response_B].mean().item(),
            "perplexity/factor_min": factor_B[is_response_B].min().item(),
            "perplexity/factor_max": factor_B[is_response_B].max().item(),
        }
        if not self.applied:
            return Shaped(batch.advantages_BT, metrics)
        return Shaped(batch.advantages_BT * factor_B[:, None].float(), metrics)
