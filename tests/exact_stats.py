"""Token statistics in decimals of 60 digits, for rows where float64 loses them too.

Of a token of probability 1 - 1e-24, float64 has log p = 0; the reference then misses its share of H.
"""

from decimal import Decimal, localcontext

import torch


def exact_stats(logits: torch.Tensor, tokens: torch.Tensor) -> torch.Tensor:
    """logp, H, sum_p2, t2 of finite logits (N, V) at temperature 1, as (4, N), fp64."""
    rows = []
    with localcontext() as context:
        context.prec = 60
        for row, token in zip(logits.tolist(), tokens.tolist(), strict=True):
            largest = Decimal(max(row))
            e = [(Decimal(x) - largest).exp() for x in row]
            log_sum = sum(e).ln()
            p = [value / sum(e) for value in e]
            logp = [Decimal(x) - largest - log_sum for x in row]
            entropy = -sum(a * b for a, b in zip(p, logp, strict=True))
            t2 = sum(a * a * (b + entropy) for a, b in zip(p, logp, strict=True))
            rows.append([float(value) for value in (logp[token], entropy, sum(a * a for a in p), t2)])
    return torch.tensor(rows, dtype=torch.float64).T
