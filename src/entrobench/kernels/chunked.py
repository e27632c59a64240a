"""Token statistics in plain torch, a few rows at a time, over two buffers that stay in the processor's cache.

With d = (x - max) / T and e = exp(d) of one row:

    S0 = sum e    S1 = sum e d    S2 = sum e^2    S3 = sum e^2 d
    logp   = d[token] - log S0
    H      = log S0 - S1 / S0
    sum_p2 = S2 / S0^2
    t2     = (S3 - S2 S1 / S0) / S0^2

S0 is carried as 1 + rest, `rest` being the sum without one largest element: of a row whose token has
probability 1 - 1e-20 the sum itself rounds to 1, and log(1 + rest) and with it H would lose their digits. In
t2 both terms are then far apart, so nothing cancels.
"""

import math

import torch
from torch import Tensor

# Of each of the two buffers. Measured at V = 151,936 with two threads and 32 MB of L3 cache: fastest at 4 MB,
# half slower at 1 MB, a third slower at 16 MB, twice as slow at 64 MB
CPU_BUFFER_BYTES = 4 << 20
# On an accelerator launches cost more than memory traffic
DEVICE_BUFFER_BYTES = 256 << 20
# Logits that `chunked_stats_from_hidden` holds; the weights are read once per such block
LOGITS_BLOCK_BYTES = 64 << 20
# Weights it holds in fp32 where the weights are of another dtype
WEIGHT_BLOCK_BYTES = 32 << 20
# exp of anything below is 0 in fp32; keeps 0 * -inf out of the sums
LOWEST_EXPONENT = -200.0


def stats_of_sums(
    token_d_N: Tensor, rest_N: Tensor, s1_N: Tensor, s2_N: Tensor, s3_N: Tensor, vocabulary: int
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """logp, entropy, sum_p2, t2 from the sums of the module's docstring, all (N,), fp32.

    token_d_N is d of the sampled token and rest_N is S0 - 1. Clamps remove rounding only.
    """
    s0_N = 1 + rest_N
    log_s0_N = rest_N.log1p()
    mean_d_N = s1_N / s0_N
    logp_N = (token_d_N - log_s0_N).clamp_(max=0)
    entropy_N = (log_s0_N - mean_d_N).clamp_(0, math.log(vocabulary))
    square_N = s0_N.square()
    return logp_N, entropy_N, s2_N / square_N, ((s3_N - s2_N * mean_d_N) / square_N).clamp_(min=0)


@torch.no_grad()
def chunked_stats(
    logits_NV: Tensor, tokens_N: Tensor, temperature: Tensor | float, buffer_bytes: int | None = None
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """logp, entropy, sum_p2, t2 as defined in `token_stats`, each (N,), fp32, on any device.

    logits_NV: (N, V), any floating dtype and strides; tokens_N: (N,), ids; temperature: (N,) or one number.
    Beside the results it holds two fp32 buffers of at most buffer_bytes (at least one row) each.
    """
    rows, vocabulary = logits_NV.shape
    device = logits_NV.device
    if buffer_bytes is None:
        buffer_bytes = CPU_BUFFER_BYTES if device.type == "cpu" else DEVICE_BUFFER_BYTES
    rows_at_once = max(1, min(rows, buffer_bytes // (4 * vocabulary)))
    if rows_at_once > torch.get_num_threads():
        # Threads share the rows of a reduction; an odd row out was measured up to three times as slow
        rows_at_once -= rows_at_once % torch.get_num_threads()
    d_buffer = torch.empty(rows_at_once, vocabulary, dtype=torch.float32, device=device)
    e_buffer = torch.empty_like(d_buffer)
    sums = torch.empty(5, rows, dtype=torch.float32, device=device)
    tokens_N1 = tokens_N.long()[:, None]
    for start in range(0, rows, rows_at_once):
        chunk = slice(start, start + rows_at_once)
        d_NV = d_buffer[: min(rows_at_once, rows - start)].copy_(logits_NV[chunk])
        e_NV = e_buffer[: len(d_NV)]
        # Max first, then temperature: the order keeps d of the largest element at exactly 0
        d_NV.sub_(d_NV.amax(-1, keepdim=True))
        d_NV.div_(temperature[chunk, None] if isinstance(temperature, Tensor) else temperature)
        sums[0, chunk] = d_NV.gather(1, tokens_N1[chunk]).squeeze(1)
        torch.exp(d_NV.clamp_(min=LOWEST_EXPONENT), out=e_NV)
        s0_N = e_NV.sum(-1)
        sums[2, chunk] = d_NV.mul_(e_NV).sum(-1)
        sums[4, chunk] = d_NV.mul_(e_NV).sum(-1)
        # The fractional part of e is e itself but 0 where e = 1: the sum without the largest elements
        below_one_N = e_NV.frac_().sum(-1)
        ones_N = (s0_N - below_one_N).round_()
        sums[1, chunk] = below_one_N + (ones_N - 1)
        sums[3, chunk] = e_NV.square_().sum(-1) + ones_N
    return stats_of_sums(sums[0], sums[1], sums[2], sums[3], sums[4], vocabulary)


@torch.no_grad()
def chunked_stats_from_hidden(
    hidden_ND: Tensor,
    weight_VD: Tensor,
    tokens_N: Tensor,
    temperature: Tensor | float,
    bias_V: Tensor | None = None,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """`chunked_stats` of logits = hidden weight^T + bias, in fp32, a block of logits at a time.

    hidden_ND: (N, D); weight_VD: (V, D); bias_V: (V,). Holds at most LOGITS_BLOCK_BYTES (at least one row) of
    logits and, where the weights are not fp32, WEIGHT_BLOCK_BYTES of them in fp32.
    """
    rows, vocabulary = len(hidden_ND), len(weight_VD)
    rows_at_once = max(1, min(rows, LOGITS_BLOCK_BYTES // (4 * vocabulary)))
    columns_at_once = max(1, WEIGHT_BLOCK_BYTES // (4 * max(1, weight_VD.shape[1])))
    logits_buffer = torch.empty(rows_at_once, vocabulary, dtype=torch.float32, device=hidden_ND.device)
    out = torch.empty(4, rows, dtype=torch.float32, device=hidden_ND.device)
    for start in range(0, rows, rows_at_once):
        chunk = slice(start, start + rows_at_once)
        hidden_chunk_ND = hidden_ND[chunk].float()
        logits_NV = logits_buffer[: len(hidden_chunk_ND)]
        for first in range(0, vocabulary, columns_at_once):
            block = slice(first, first + columns_at_once)
            torch.mm(hidden_chunk_ND, weight_VD[block].float().T, out=logits_NV[:, block])
        if bias_V is not None:
            logits_NV.add_(bias_V)
        chunk_temperature = temperature[chunk] if isinstance(temperature, Tensor) else temperature
        out[:, chunk] = torch.stack(chunked_stats(logits_NV, tokens_N[chunk], chunk_temperature))
    return out[0], out[1], out[2], out[3]
