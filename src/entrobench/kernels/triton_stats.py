"""Token statistics as Triton kernels: from logits, and from hidden states without ever holding the logits.

Both go once over the vocabulary with the sums of `chunked` (S0 to S3, with S0 = 1 + rest), relative to the
largest logit m so far. With s = (m - m') / T <= 0 and a = exp(s), a new largest logit m' makes them

    S3' = a^2 (S3 + S2 s)    S2' = a^2 S2    S1' = a (S1 + S0 s)    S0' = a S0.

Inside the kernels d = (x - m) / T is in units of log 2, since the hardware's exponential is of base 2. `rest`
is kept as two sums, of all e below the largest and of the number of largest; see `chunked` for why.

The kernels run on the CPU in Triton's interpreter (TRITON_INTERPRET=1 before this module is imported), which
is how they are tested where there is no GPU.
"""

import math
import os
from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from entrobench.kernels.chunked import stats_of_sums

INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"
TUNED = torch.cuda.is_available() and not INTERPRETED

LOG2_E = tl.constexpr(1 / math.log(2))
LOG_2 = tl.constexpr(math.log(2))
# First maximum of a row. Finite, so that x - m of a row that starts with -inf is -inf and not nan
LOWEST = tl.constexpr(-3.4028234663852886e38)
# 2^-200 is 0 in fp32; keeps 0 * -inf out of the sums
LOWEST_EXPONENT = tl.constexpr(-200.0)

# Of the fused kernel, vocabulary of one program; 24 bytes of workspace per row and split
COLUMNS_PER_SPLIT = 2048


@triton.jit
def _exponents(x: "Any", m: "Any", scale: "Any") -> "Any":
    """d in units of log 2; nan stays nan, so that a broken logit shows in the result."""
    return tl.maximum((x - m) * scale, LOWEST_EXPONENT, propagate_nan=tl.PropagateNan.ALL)


@triton.jit
def _row_kernel(
    logits_ptr: "Any",
    tokens_ptr: "Any",
    temperature_ptr: "Any",
    out_ptr: "Any",
    rows: "Any",
    vocabulary: "Any",
    log_vocabulary: "Any",
    row_stride: "Any",
    BLOCK: tl.constexpr,
    STAGES: tl.constexpr,
) -> None:
    """One program a row, one read of the row; the sums stay one per lane of the block until the end, so that
    only the maximum is reduced across lanes in each block.
    """
    row = tl.program_id(0).to(tl.int64)
    row_ptr = logits_ptr + row * row_stride
    scale = LOG2_E / tl.load(temperature_ptr + row).to(tl.float32)
    columns = tl.arange(0, BLOCK)
    m = tl.full((), LOWEST, tl.float32)
    below = tl.zeros((BLOCK,), tl.float32)
    ones = tl.full((), 0.0, tl.float32)
    s1 = tl.zeros((BLOCK,), tl.float32)
    s2 = tl.zeros((BLOCK,), tl.float32)
    s3 = tl.zeros((BLOCK,), tl.float32)
    for start in tl.range(0, vocabulary, BLOCK, num_stages=STAGES):
        x = tl.load(
            row_ptr + start + columns,
            mask=start + columns < vocabulary,
            other=-float("inf"),
            eviction_policy="evict_first",
        ).to(tl.float32)
        block_max = tl.max(x, 0)
        if block_max > m:
            shift = tl.maximum((m - block_max) * scale, LOWEST_EXPONENT)
            a = tl.exp2(shift)
            s0 = below + tl.where(columns == 0, ones, 0.0)
            s3 = a * a * (s3 + s2 * shift)
            s2 = a * a * s2
            s1 = a * (s1 + s0 * shift)
            below = a * s0
            ones = tl.full((), 0.0, tl.float32)
            m = block_max
        d = _exponents(x, m, scale)
        e = tl.exp2(d)
        de = d * e
        s1 += de
        s2 += e * e
        s3 += de * e
        # Only the few blocks that hold a largest logit pay for telling it apart
        if block_max == m:
            ones += tl.sum(tl.where(d == 0, 1.0, 0.0), 0)
            e = tl.where(d == 0, 0.0, e)
        below += e

    rest = tl.sum(below, 0) + (ones - 1)
    mean_d = tl.sum(s1, 0) * LOG_2 / (1 + rest)
    sum_p2 = tl.sum(s2, 0) / ((1 + rest) * (1 + rest))
    # log(1 + rest); the series where 1 + rest would round rest away, exact to fp32 below 0.01
    series = rest * (1 - rest * (0.5 - rest * (1.0 / 3 - rest * 0.25)))
    log_s0 = tl.where(tl.abs(rest) < 0.01, series, tl.log(1 + rest))
    entropy = log_s0 - mean_d
    t2 = tl.sum(s3, 0) * LOG_2 / ((1 + rest) * (1 + rest)) - sum_p2 * mean_d
    token = tl.load(tokens_ptr + row)
    # Of an id outside the vocabulary nothing is read and log p is nan
    token_x = tl.load(row_ptr + token, mask=(token >= 0) & (token < vocabulary), other=float("nan")).to(
        tl.float32
    )
    logp = (token_x - m) * (scale * LOG_2) - log_s0
    # Clamps of rounding only
    tl.store(out_ptr + row, tl.minimum(logp, 0.0, propagate_nan=tl.PropagateNan.ALL))
    entropy = tl.maximum(entropy, 0.0, propagate_nan=tl.PropagateNan.ALL)
    tl.store(out_ptr + rows + row, tl.minimum(entropy, log_vocabulary, propagate_nan=tl.PropagateNan.ALL))
    tl.store(out_ptr + 2 * rows + row, sum_p2)
    tl.store(out_ptr + 3 * rows + row, tl.maximum(t2, 0.0, propagate_nan=tl.PropagateNan.ALL))
    tl.store(out_ptr + 4 * rows + row, m)
    tl.store(out_ptr + 5 * rows + row, log_s0)


@triton.jit
def _gradient_kernel(
    logits_ptr: "Any",
    tokens_ptr: "Any",
    temperature_ptr: "Any",
    forward_ptr: "Any",
    grad_logp_ptr: "Any",
    grad_entropy_ptr: "Any",
    gradient_ptr: "Any",
    rows: "Any",
    vocabulary: "Any",
    row_stride: "Any",
    BLOCK: tl.constexpr,
    STAGES: tl.constexpr,
) -> None:
    """One program a row: reads its logits once, not at all where no gradient comes, and writes it once."""
    row = tl.program_id(0).to(tl.int64)
    row_ptr = logits_ptr + row * row_stride
    gradient_row_ptr = gradient_ptr + row * vocabulary
    temperature = tl.load(temperature_ptr + row).to(tl.float32)
    token = tl.load(tokens_ptr + row)
    logp = tl.load(forward_ptr + row)
    entropy = tl.load(forward_ptr + rows + row)
    m = tl.load(forward_ptr + 4 * rows + row)
    log_s0 = tl.load(forward_ptr + 5 * rows + row)
    of_logp = tl.load(grad_logp_ptr + row).to(tl.float32) / temperature
    of_entropy = tl.load(grad_entropy_ptr + row).to(tl.float32) / temperature
    is_reached = (of_logp != 0) | (of_entropy != 0)
    constant = -(of_logp + of_entropy * entropy)
    # 1 - p of the token; the series where p rounds to 1, exact to fp32 above -0.01
    series = -logp * (1 + logp * (0.5 + logp * (1.0 / 6 + logp * (1.0 / 24))))
    one_less_p = tl.where(logp > -0.01, series, 1 - tl.exp(logp))
    finite_logp = tl.maximum(logp, LOWEST_EXPONENT, propagate_nan=tl.PropagateNan.ALL)
    at_token = of_logp * one_less_p - of_entropy * tl.exp(logp) * (finite_logp + entropy)
    # A row that nothing reaches is read as if it ended before it began
    read = tl.where(is_reached, vocabulary, 0)
    columns = tl.arange(0, BLOCK)
    for start in tl.range(0, vocabulary, BLOCK, num_stages=STAGES):
        column = start + columns
        x = tl.load(
            row_ptr + column,
            mask=column < read,
            other=-float("inf"),
            eviction_policy="evict_first",
        ).to(tl.float32)
        log_p = _exponents(x, m, LOG2_E / temperature) * LOG_2 - log_s0
        gradient = tl.exp2(log_p * LOG2_E) * (constant - of_entropy * log_p)
        gradient = tl.where(column == token, at_token, gradient)
        gradient = tl.where(is_reached, gradient, 0.0)
        tl.store(
            gradient_row_ptr + column, gradient.to(gradient_ptr.dtype.element_ty), mask=column < vocabulary
        )


@triton.jit
def _fused_kernel(
    hidden_ptr: "Any",
    weight_ptr: "Any",
    bias_ptr: "Any",
    tokens_ptr: "Any",
    temperature_ptr: "Any",
    partial_ptr: "Any",
    rows: "Any",
    depth: "Any",
    vocabulary: "Any",
    splits: "Any",
    hidden_stride: "Any",
    weight_stride: "Any",
    HAS_BIAS: tl.constexpr,
    WHOLE_DEPTH: tl.constexpr,
    WIDEN: tl.constexpr,
    SPLIT: tl.constexpr,
    BLOCK_N: tl.constexpr,
    BLOCK_V: tl.constexpr,
    BLOCK_D: tl.constexpr,
    GROUP: tl.constexpr,
) -> None:
    """One program a block of rows and a split of the vocabulary: logits of one tile at a time, in registers.

    Writes m, rest, S1, S2, S3 (d in nats) and the token's logit to partial, (6, splits, rows).
    """
    # Programs that run together share GROUP blocks of rows, so that these and the weights stay in L2 cache
    row_blocks = tl.cdiv(rows, BLOCK_N)
    program = tl.program_id(0)
    first_block = program // (GROUP * splits) * GROUP
    group = tl.minimum(row_blocks - first_block, GROUP)
    row_block = first_block + program % (GROUP * splits) % group
    split = program % (GROUP * splits) // group

    row_N = row_block * BLOCK_N + tl.arange(0, BLOCK_N)
    # Rows and columns beyond the end repeat the last one; nothing of them is used
    read_N = tl.minimum(row_N, rows - 1).to(tl.int64)
    depth_D = tl.arange(0, BLOCK_D)
    scale_N = LOG2_E / tl.load(temperature_ptr + read_N).to(tl.float32)
    token_N = tl.load(tokens_ptr + read_N)
    m_N = tl.full((BLOCK_N,), LOWEST, tl.float32)
    below_N = tl.zeros((BLOCK_N,), tl.float32)
    ones_N = tl.zeros((BLOCK_N,), tl.float32)
    s1_N = tl.zeros((BLOCK_N,), tl.float32)
    s2_N = tl.zeros((BLOCK_N,), tl.float32)
    s3_N = tl.zeros((BLOCK_N,), tl.float32)
    token_x_N = tl.zeros((BLOCK_N,), tl.float32)
    for start in range(split * SPLIT, tl.minimum(split * SPLIT + SPLIT, vocabulary), BLOCK_V):
        column_V = start + tl.arange(0, BLOCK_V)
        read_V = tl.minimum(column_V, vocabulary - 1).to(tl.int64)
        hidden_ptrs = hidden_ptr + read_N[:, None] * hidden_stride + depth_D[None, :]
        weight_ptrs = weight_ptr + read_V[None, :] * weight_stride + depth_D[:, None]
        x_NV = tl.zeros((BLOCK_N, BLOCK_V), tl.float32)
        for first in range(0, depth, BLOCK_D):
            if WHOLE_DEPTH:
                hidden_ND = tl.load(hidden_ptrs)
                weight_DV = tl.load(weight_ptrs)
            else:
                hidden_ND = tl.load(hidden_ptrs, mask=(first + depth_D < depth)[None, :], other=0.0)
                weight_DV = tl.load(weight_ptrs, mask=(first + depth_D < depth)[:, None], other=0.0)
            if WIDEN:
                hidden_ND = hidden_ND.to(tl.float32)
                weight_DV = weight_DV.to(tl.float32)
            x_NV = tl.dot(hidden_ND, weight_DV, x_NV, input_precision="ieee")
            hidden_ptrs += BLOCK_D
            weight_ptrs += BLOCK_D
        if HAS_BIAS:
            x_NV += tl.load(bias_ptr + read_V).to(tl.float32)[None, :]
        x_NV = tl.where((column_V < vocabulary)[None, :], x_NV, -float("inf"))

        new_m_N = tl.maximum(m_N, tl.max(x_NV, 1))
        shift_N = tl.maximum((m_N - new_m_N) * scale_N, LOWEST_EXPONENT)
        a_N = tl.exp2(shift_N)
        s0_N = below_N + ones_N
        d_NV = _exponents(x_NV, new_m_N[:, None], scale_N[:, None])
        e_NV = tl.exp2(d_NV)
        de_NV = d_NV * e_NV
        s3_N = a_N * a_N * (s3_N + s2_N * shift_N) + tl.sum(de_NV * e_NV, 1)
        s2_N = a_N * a_N * s2_N + tl.sum(e_NV * e_NV, 1)
        s1_N = a_N * (s1_N + s0_N * shift_N) + tl.sum(de_NV, 1)
        moved_N = new_m_N > m_N
        below_N = tl.where(moved_N, a_N * s0_N, below_N) + tl.sum(tl.where(d_NV == 0, 0.0, e_NV), 1)
        ones_N = tl.where(moved_N, 0.0, ones_N) + tl.sum(tl.where(d_NV == 0, 1.0, 0.0), 1)
        token_x_N += tl.sum(tl.where(column_V[None, :] == token_N[:, None], x_NV, 0.0), 1)
        m_N = new_m_N

    inside_N = row_N < rows
    field_stride = splits.to(tl.int64) * rows
    partial_ptrs = partial_ptr + split.to(tl.int64) * rows + row_N
    tl.store(partial_ptrs, m_N, mask=inside_N)
    tl.store(partial_ptrs + field_stride, below_N + (ones_N - 1), mask=inside_N)
    tl.store(partial_ptrs + 2 * field_stride, s1_N * LOG_2, mask=inside_N)
    tl.store(partial_ptrs + 3 * field_stride, s2_N, mask=inside_N)
    tl.store(partial_ptrs + 4 * field_stride, s3_N * LOG_2, mask=inside_N)
    tl.store(partial_ptrs + 5 * field_stride, token_x_N, mask=inside_N)


# Without a GPU (the interpreter): small blocks, so that small sizes still cross a block's border
ROW_BLOCKS: dict[str, int] = {"BLOCK": 64, "STAGES": 1}
FUSED_BLOCKS: dict[str, int] = {"BLOCK_N": 16, "BLOCK_V": 32, "BLOCK_D": 16, "GROUP": 2}
if TUNED:
    _row_configs = [
        triton.Config({"BLOCK": block, "STAGES": stages}, num_warps=warps)
        for block, warps in ((1024, 4), (2048, 4), (2048, 8), (4096, 8), (4096, 16))
        for stages in (1, 3, 4)
    ]
    _row_kernel = triton.autotune(_row_configs, key=["vocabulary"])(_row_kernel)
    _gradient_kernel = triton.autotune(_row_configs, key=["vocabulary"])(_gradient_kernel)
    _fused_kernel = triton.autotune(
        [
            triton.Config(
                {"BLOCK_N": rows, "BLOCK_V": columns, "BLOCK_D": depth, "GROUP": 16},
                num_warps=warps,
                num_stages=stages,
            )
            for rows, columns, depth, warps, stages in (
                (128, 256, 64, 8, 3),
                (128, 256, 64, 8, 4),
                (128, 256, 32, 8, 4),
                (128, 128, 64, 8, 3),
                (128, 128, 64, 4, 3),
                (128, 128, 32, 4, 4),
                (64, 128, 64, 4, 3),
                (64, 64, 32, 4, 3),
            )
        ],
        key=["depth", "vocabulary"],
    )(_fused_kernel)
    ROW_BLOCKS, FUSED_BLOCKS = {}, {}


def _per_row(temperature: Tensor | float, rows: int, device: torch.device) -> Tensor:
    """The temperature as (N,) contiguous fp32."""
    if isinstance(temperature, Tensor):
        return temperature.to(device, torch.float32).contiguous()
    return torch.full((rows,), temperature, dtype=torch.float32, device=device)


@torch.no_grad()
def triton_stats(logits_NV: Tensor, tokens_N: Tensor, temperature: Tensor | float) -> Tensor:
    """logp, entropy, sum_p2, t2 as defined in `token_stats`, then max and log S0: (6, N), fp32.

    logits_NV: (N, V), bf16, fp16 or fp32, any row stride, columns adjacent; tokens_N: (N,), ids; temperature:
    (N,) or one number. Holds nothing but the results; log p of an id outside 0..V-1 is nan.
    """
    rows, vocabulary = logits_NV.shape
    out = torch.empty(6, rows, dtype=torch.float32, device=logits_NV.device)
    with torch.cuda.device_of(logits_NV):
        _row_kernel[(rows,)](
            logits_NV,
            tokens_N.contiguous(),
            _per_row(temperature, rows, logits_NV.device),
            out,
            rows,
            vocabulary,
            math.log(vocabulary),
            logits_NV.stride(0),
            **ROW_BLOCKS,
        )
    return out


@torch.no_grad()
def triton_gradient(
    logits_NV: Tensor,
    tokens_N: Tensor,
    temperature: Tensor | float,
    forward: Tensor,
    grad_logp_N: Tensor,
    grad_entropy_N: Tensor,
) -> Tensor:
    """Gradient (N, V) of logp and entropy in the dtype of the logits (see `chunked_gradient`).

    forward: (6, N), the result of `triton_stats` for the same arguments. Holds nothing but the result.
    """
    rows, vocabulary = logits_NV.shape
    gradient_NV = torch.empty((rows, vocabulary), dtype=logits_NV.dtype, device=logits_NV.device)
    with torch.cuda.device_of(logits_NV):
        _gradient_kernel[(rows,)](
            logits_NV,
            tokens_N.contiguous(),
            _per_row(temperature, rows, logits_NV.device),
            forward,
            grad_logp_N.contiguous(),
            grad_entropy_N.contiguous(),
            gradient_NV,
            rows,
            vocabulary,
            logits_NV.stride(0),
            **ROW_BLOCKS,
        )
    return gradient_NV


@torch.no_grad()
def triton_stats_from_hidden(
    hidden_ND: Tensor,
    weight_VD: Tensor,
    tokens_N: Tensor,
    temperature: Tensor | float,
    bias_V: Tensor | None = None,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """`triton_stats` of logits = hidden weight^T + bias with fp32 sums, the logits never in memory.

    hidden_ND: (N, D) and weight_VD: (V, D), of one dtype (bf16, fp16, fp32), columns adjacent; bias_V: (V,).
    Holds 24 bytes per row and COLUMNS_PER_SPLIT of the vocabulary, and about as much again to merge them (at
    N = 16,384 and V = 151,936 some 60 MB in all).
    """
    rows, depth = hidden_ND.shape
    vocabulary = len(weight_VD)
    device = hidden_ND.device
    columns_per_split = COLUMNS_PER_SPLIT if not INTERPRETED else 64
    splits = triton.cdiv(vocabulary, columns_per_split)
    partial = torch.empty(6, splits, rows, dtype=torch.float32, device=device)
    temperature_N = _per_row(temperature, rows, device)

    def grid(blocks: dict[str, int]) -> tuple[int]:
        return (triton.cdiv(rows, blocks["BLOCK_N"]) * splits,)

    with torch.cuda.device_of(hidden_ND):
        _fused_kernel[grid](
            hidden_ND,
            weight_VD,
            None if bias_V is None else bias_V.contiguous(),
            tokens_N.contiguous(),
            temperature_N,
            partial,
            rows,
            depth,
            vocabulary,
            splits,
            hidden_ND.stride(0),
            weight_VD.stride(0),
            HAS_BIAS=bias_V is not None,
            WHOLE_DEPTH=depth % 64 == 0,  # A multiple of every BLOCK_D above
            WIDEN=INTERPRETED,  # The interpreter would multiply the bits of bf16 as integers
            SPLIT=columns_per_split,
            **FUSED_BLOCKS,
        )
    m_SN, rest_SN, s1_SN, s2_SN, s3_SN, token_x_SN = partial
    m_1N, top_1N = m_SN.max(0, keepdim=True)
    # Clamped: -inf * 0 of a split that holds nothing but masked tokens would be nan
    shift_SN = ((m_SN - m_1N) / temperature_N).clamp_(min=-200.0)
    a_SN = shift_SN.exp()
    s0_SN = 1 + rest_SN
    s3_N = (a_SN.square() * (s3_SN + s2_SN * shift_SN)).sum(0)
    s2_N = (a_SN.square() * s2_SN).sum(0)
    s1_N = (a_SN * (s1_SN + s0_SN * shift_SN)).sum(0)
    # The split of the largest logit counts with rest, the others with 1 + rest
    rest_N = (a_SN * s0_SN).scatter_(0, top_1N, rest_SN.gather(0, top_1N)).sum(0)
    token_x_N = torch.where((tokens_N >= 0) & (tokens_N < vocabulary), token_x_SN.sum(0), torch.nan)
    return stats_of_sums((token_x_N - m_1N[0]) / temperature_N, rest_N, s1_N, s2_N, s3_N, vocabulary)
