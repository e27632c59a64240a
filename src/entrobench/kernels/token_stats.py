"""The four per-token statistics that every method of this project reads (PAPO, arXiv 2605.11775, Eq. 3 and
5).

    H      = -sum_v p_v log p_v                          entropy, nats
    t2     = sum_v p_v^2 (log p_v + H)                   = Cov_p(p, log p) >= 0
    sum_p2 = sum_v p_v^2
    logp   = log p of the sampled token

with p = softmax(logits / temperature), in fp32 whatever the dtype of the logits. No gradient: they are
statistics.
"""

from typing import NamedTuple

import torch
from torch import Tensor

ROWS_PER_CHUNK = 1024


class TokenStats(NamedTuple):
    """Statistics of one decoding state each; four fp32 tensors of one common shape, (N,) or (B, T)."""

    logp: Tensor
    entropy: Tensor
    sum_p2: Tensor
    t2: Tensor

    @property
    def t1(self) -> Tensor:
        """p_t (H + log p_t) of the sampled token (PAPO Eq. 5)."""
        return self.logp.exp() * (self.entropy + self.logp)

    @property
    def tendency(self) -> Tensor:
        """Intrinsic entropy tendency T = -t1 + t2 (PAPO Eq. 7): > 0 where reinforcing the token raises
        entropy.
        """
        return self.t2 - self.t1


@torch.no_grad()
def token_stats(logits: Tensor, tokens: Tensor, temperature: Tensor) -> TokenStats:
    """Compute TokenStats row by row.

    Args:
        logits: (N, V), any floating dtype.
        tokens: (N,), int64, ids of the sampled tokens.
        temperature: (N,), sampling temperature > 0.

    Returns:
        Four fp32 tensors of shape (N,). At most ROWS_PER_CHUNK rows are held in fp32 at a time.

    Raises:
        ValueError: shapes do not agree.
    """
    rows = logits.shape[0]
    if logits.ndim != 2 or tokens.shape != (rows,) or temperature.shape != (rows,):
        raise ValueError(
            f"token_stats: expected logits (N, V), tokens (N,), temperature (N,); "
            f"found {tuple(logits.shape)}, {tuple(tokens.shape)}, {tuple(temperature.shape)}"
        )
    out = TokenStats(*(torch.empty(rows, dtype=torch.float32, device=logits.device) for _ in range(4)))
    for start in range(0, rows, ROWS_PER_CHUNK):
        chunk = slice(start, start + ROWS_PER_CHUNK)
        logp_NV = torch.log_softmax(logits[chunk].float() / temperature[chunk, None].float(), dim=-1)
        p_NV = logp_NV.exp()
        # A token of probability 0 has log p = -inf; p log p -> 0
        finite_logp_NV = logp_NV.masked_fill(p_NV == 0, 0.0)
        entropy_N = -(p_NV * finite_logp_NV).sum(-1)
        p2_NV = p_NV * p_NV
        out.logp[chunk] = logp_NV.gather(1, tokens[chunk, None]).squeeze(1)
        out.entropy[chunk] = entropy_N
        out.sum_p2[chunk] = p2_NV.sum(-1)
        out.t2[chunk] = (p2_NV * (finite_logp_NV + entropy_N[:, None])).sum(-1)
    return out
