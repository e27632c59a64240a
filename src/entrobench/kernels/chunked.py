"""Token statistics in plain torch, a few rows at a time, over two buffers that stay in the processor's cache.

With d = (x - max) / T and e = exp(d) of one row:

    S0 = sum e    S1 = sum e d    S2 = sum e^2    S3 = sum e^2 d
    logp   = d[token] - log S0
    H      = log S0 - S1 / S0
    sum_p2 = S2 / S0^2
    t2     = (S3 - S2 S1 / S0) / S0^2

S0 is carried as 1 + rest, `rest` being the sum without one largest element: of a row whose token has
probability 1 - 1e-20 the sum itself rounds to 1, and log(1 + rest) and with it H would lose their digits. In
t2 both terms are then far apart, so nothing cancels. The gradient goes once more over the logits, with max
and log S0 of each row.
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


def _rows_at_once(logits_NV: Tensor, dtype: torch.dtype, buffer_bytes: int | None) -> int:
    """Rows of one chunk, such that a buffer of `dtype` for them fits buffer_bytes; at least one."""
    rows, vocabulary = logits_NV.shape
    if buffer_bytes is None:
        buffer_bytes = CPU_BUFFER_BYTES if logits_NV.device.type == "cpu" else DEVICE_BUFFER_BYTES
    rows_at_once = max(1, min(rows, buffer_bytes // (dtype.itemsize * vocabulary)))
    if rows_at_once > torch.get_num_threads():
        # Threads share the rows of a reduction; an odd row out was measured up to three times as slow
        rows_at_once -= rows_at_once % torch.get_num_threads()
    return rows_at_once


def _scale(d_NV: Tensor, max_N1: Tensor, temperature: Tensor | float, rows: slice | Tensor) -> None:
    """Make d of logits, in place; `rows` are theirs in temperature, where that is a tensor."""
    # Max first, then temperature: the order keeps d of the largest element at exactly 0
    d_NV.sub_(max_N1)
    d_NV.div_(temperature[rows, None] if isinstance(temperature, Tensor) else temperature)


def _sums(
    logits_NV: Tensor,
    tokens_N: Tensor,
    temperature: Tensor | float,
    dtype: torch.dtype,
    buffer_bytes: int | None,
    squares: bool,
) -> Tensor:
    """Of each row max, d of the token, S0 - 1, S1, S2, S3: (6, N) of `dtype`, in which all is computed.

    Without `squares` S2 and S3 are 0.
    """
    rows, vocabulary = logits_NV.shape
    device = logits_NV.device
    rows_at_once = _rows_at_once(logits_NV, dtype, buffer_bytes)
    d_buffer = torch.empty(rows_at_once, vocabulary, dtype=dtype, device=device)
    e_buffer = torch.empty_like(d_buffer)
    sums = torch.zeros(6, rows, dtype=dtype, device=device)
    tokens_N1 = tokens_N.long()[:, None]
    for start in range(0, rows, rows_at_once):
        chunk = slice(start, start + rows_at_once)
        d_NV = d_buffer[: min(rows_at_once, rows - start)].copy_(logits_NV[chunk])
        e_NV = e_buffer[: len(d_NV)]
        max_N1 = d_NV.amax(-1, keepdim=True)
        _scale(d_NV, max_N1, temperature, chunk)
        sums[0, chunk] = max_N1.squeeze(1)
        sums[1, chunk] = d_NV.gather(1, tokens_N1[chunk]).squeeze(1)
        torch.exp(d_NV.clamp_(min=LOWEST_EXPONENT), out=e_NV)
        s0_N = e_NV.sum(-1)
        sums[3, chunk] = d_NV.mul_(e_NV).sum(-1)
        if squares:
            sums[5, chunk] = d_NV.mul_(e_NV).sum(-1)
        # The fractional part of e is e itself but 0 where e = 1: the sum without the largest elements
        below_one_N = e_NV.frac_().sum(-1)
        ones_N = (s0_N - below_one_N).round_()
        sums[2, chunk] = below_one_N + (ones_N - 1)
        if squares:
            sums[4, chunk] = e_NV.square_().sum(-1) + ones_N
    return sums


@torch.no_grad()
def chunked_stats(
    logits_NV: Tensor, tokens_N: Tensor, temperature: Tensor | float, buffer_bytes: int | None = None
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """logp, entropy, sum_p2, t2 as defined in `token_stats`, each (N,), fp32, on any device.

    logits_NV: (N, V), any floating dtype and strides; tokens_N: (N,), ids; temperature: (N,) or one number.
    Beside the results it holds two fp32 buffers of at most buffer_bytes (at least one row) each.
    """
    sums = _sums(logits_NV, tokens_N, temperature, torch.float32, buffer_bytes, squares=True)
    return stats_of_sums(sums[1], sums[2], sums[3], sums[4], sums[5], logits_NV.shape[1])


@torch.no_grad()
def chunked_log_prob(
    logits_NV: Tensor, tokens_N: Tensor, temperature: Tensor | float, buffer_bytes: int | None = None
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """logp and entropy, bit for bit those of `chunked_stats`, with max and log S0; each (N,).

    In fp32, of fp64 logits in fp64. Arguments and memory are those of `chunked_stats`.
    """
    dtype = torch.promote_types(logits_NV.dtype, torch.float32)
    sums = _sums(logits_NV, tokens_N, temperature, dtype, buffer_bytes, squares=False)
    logp_N, entropy_N, _, _ = stats_of_sums(sums[1], sums[2], sums[3], sums[4], sums[5], logits_NV.shape[1])
    return logp_N, entropy_N, sums[0], sums[2].log1p()


@torch.no_grad()
def chunked_gradient(
    logits_NV: Tensor,
    tokens_N: Tensor,
    temperature: Tensor | float,
    forward: tuple[Tensor, Tensor, Tensor, Tensor],
    grad_logp_N: Tensor,
    grad_entropy_N: Tensor,
    buffer_bytes: int | None = None,
) -> Tensor:
    """Gradient (N, V) in the dtype of the logits; `forward` is the result of `chunked_log_prob`.

        dlogp / dx = (onehot - p) / T        dH / dx = -p (log p + H) / T

    Rows that neither gradient reaches (prompts, padding) are zero and not computed. Memory beside the result
    as `chunked_stats`.
    """
    logp_N, entropy_N, max_N, log_s0_N = forward
    of_logp_N = grad_logp_N / temperature
    of_entropy_N = grad_entropy_N / temperature
    factor_N, constant_N = -of_entropy_N, -(of_logp_N + of_entropy_N * entropy_N)
    # 1 - p of a token whose p rounds to 1; clamped: 0 * -inf of a masked token that was sampled
    slope_N = logp_N.exp() * (logp_N.clamp(min=LOWEST_EXPONENT) + entropy_N)
    at_token_N = -of_logp_N * logp_N.expm1() - of_entropy_N * slope_N
    reached_N = ((grad_logp_N != 0) | (grad_entropy_N != 0)).nonzero().squeeze(1)
    with_entropy = bool((grad_entropy_N != 0).any())

    rows_at_once = _rows_at_once(logits_NV, max_N.dtype, buffer_bytes)
    d_buffer = torch.empty(rows_at_once, logits_NV.shape[1], dtype=max_N.dtype, device=logits_NV.device)
    p_buffer = torch.empty_like(d_buffer) if with_entropy else d_buffer
    gradient_NV = torch.zeros(logits_NV.shape, dtype=logits_NV.dtype, device=logits_NV.device)
    for rows_N in reached_N.split(rows_at_once):
        d_NV, p_NV = d_buffer[: len(rows_N)], p_buffer[: len(rows_N)]
        d_NV.copy_(logits_NV[rows_N])
        _scale(d_NV, max_N[rows_N, None], temperature, rows_N)
        log_p_NV = d_NV.clamp_(min=LOWEST_EXPONENT).sub_(log_s0_N[rows_N, None])
        torch.exp(log_p_NV, out=p_NV)
        if with_entropy:
            p_NV.mul_(log_p_NV.mul_(factor_N[rows_N, None]).add_(constant_N[rows_N, None]))
        else:
            p_NV.mul_(constant_N[rows_N, None])
        p_NV.scatter_(1, tokens_N[rows_N, None].long(), at_token_N[rows_N, None])
        gradient_NV[rows_N] = p_NV.to(gradient_NV.dtype)
    return gradient_NV


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
