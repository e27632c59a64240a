"""OPEFO: balance the entropy flow of a batch (arXiv 2605.11491, Eq. 6-9, Fig. 3, Table 2).

Against strictly on-policy GRPO: advantages are scaled by 1 + lambda where the update raises entropy, by 1 -
lambda where it lowers it.

    dH_t   = -A_t (1 - p_t)^2 (log p_t + H_t)                          (6), eta left out: it cancels in (9)
    lambda = (sum_{S-} |dH| - sum_{S+} dH) / (sum_{S-} |dH| + sum_{S+} dH)        (9)

S+ and S- are the tokens with dH > 0 and dH < 0.

Where the paper is silent:
  1. Sums run over all response tokens of the global batch, whatever the micro-batch.
  2. "One-side" (Table 2) scales one set by the lambda of Eq. 9 and leaves the other as it is.
  3. "Static scaling" is lambda = 0.001 on both sides.
Edge cases: no token with dH != 0, or a flow too small to divide by (1e-12, Fig. 3) -> lambda near 0; dH = 0
keeps its advantage.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from entrobench.algorithms.shaper import Checkpointed, Shaped, TokenBatch, masked_sum
from entrobench.kernels.token_stats import TokenStats

SMALLEST_FLOW = 1e-12


def entropy_flow(advantages_BT: Tensor, stats: TokenStats) -> Tensor:
    """dH_t of Eq. 6 without eta, (B, T)."""
    return flow_of(advantages_BT, stats.logp, stats.entropy)


def flow_of(advantages_BT: Tensor, logp_BT: Tensor, entropy_BT: Tensor) -> Tensor:
    """The same from log p of the sampled tokens and the entropy of their states."""
    return -advantages_BT * (1 - logp_BT.exp()) ** 2 * (logp_BT + entropy_BT)


def balance(rising: float, falling: float) -> float:
    """lambda of Eq. 9 from sum_{S+} dH and sum_{S-} |dH|."""
    return (falling - rising) / max(falling + rising, SMALLEST_FLOW)


@dataclass
class EntropyFlow(Checkpointed):
    """The Shaper of OPEFO and its ablations. Raises ValueError for another side or |static_lambda| >= 1."""

    side: str = "both"
    static_lambda: float | None = None

    def __post_init__(self) -> None:
        if self.side not in ("both", "rising", "falling"):
            raise ValueError(f"expected side: both, rising or falling, found {self.side!r}")
        if self.static_lambda is not None and not -1 < self.static_lambda < 1:
            raise ValueError(f"expected -1 < static_lambda < 1 (Eq. 7), found {self.static_lambda}")

    def shape(self, batch: TokenBatch) -> Shaped:
        """See Shaper.shape."""
        flow_BT = entropy_flow(batch.advantages_BT, batch.stats)
        rising = masked_sum(flow_BT.clamp(min=0), batch.mask_BT)
        falling = masked_sum((-flow_BT).clamp(min=0), batch.mask_BT)
        coefficient = balance(rising, falling) if self.static_lambda is None else self.static_lambda
        factor_BT = torch.ones_like(flow_BT)
        if self.side != "falling":
            factor_BT[flow_BT > 0] = 1 + coefficient
        if self.side != "rising":
            factor_BT[flow_BT < 0] = 1 - coefficient
        metrics = {
            "opefo/lambda": coefficient,
            "opefo/flow_rising": rising,
            "opefo/flow_falling": falling,
            "opefo/flow_net": rising - falling,
        }
        return Shaped(batch.advantages_BT * factor_BT, metrics)
