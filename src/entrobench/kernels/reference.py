"""The token statistics as they are written down, for reading and for checking the fast versions against."""

import torch
from torch import Tensor


@torch.no_grad()
def reference_stats(
    logits_NV: Tensor, tokens_N: Tensor, temperature: Tensor | float
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """logp, entropy, sum_p2, t2 as defined in `token_stats`, each (N,), in the dtype of the logits.

    logits_NV: (N, V); tokens_N: (N,), ids; temperature: (N,) or one number. Holds several (N, V) tensors. In
    float64 it is the truth that the tests compare with.
    """
    temperature_N1 = torch.as_tensor(temperature, dtype=logits_NV.dtype, device=logits_NV.device).reshape(
        -1, 1
    )
    logp_NV = torch.log_softmax(logits_NV / temperature_N1, -1)
    p_NV = logp_NV.exp()
    finite_logp_NV = logp_NV.masked_fill(p_NV == 0, 0.0)  # p log p -> 0 where p -> 0
    entropy_N = -(p_NV * finite_logp_NV).sum(-1)
    t2_N = (p_NV.square() * (finite_logp_NV + entropy_N[:, None])).sum(-1)
    return logp_NV.gather(1, tokens_N[:, None]).squeeze(1), entropy_N, p_NV.square().sum(-1), t2_N
