"""Causal attention over sequences that stand one behind the other in one tensor ("packed").

No mask is built and no padding computed: `cu_seqlens`, where each sequence begins, is all that separates
them. On CUDA the flash kernels of torch itself (`torch.nn.attention.varlen`, half precision, backward
included); elsewhere `packed_attention_reference`, which takes any dtype.
"""

import inspect
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

HALF_PRECISION = (torch.bfloat16, torch.float16)


def packed_attention(
    query: Tensor, key: Tensor, value: Tensor, cu_seqlens: Tensor, max_length: int, scale: float
) -> Tensor:
    """softmax(q k^T scale) v, each token over its own sequence up to itself. Gradient flows to all three.

    Args:
        query: (T, H, D).
        key: (T, K, D), K a divisor of H: head h reads key h // (H / K).
        value: (T, K, D).
        cu_seqlens: (B + 1,) int32, from 0 to T, strictly rising.
        max_length: of the longest sequence, tokens.
        scale: of the scores.

    Returns:
        (T, H, D), of query's dtype.

    Raises:
        ValueError: shapes, dtypes or devices that do not agree; fp32 on CUDA, whose kernels are of half
            precision.
    """
    _check(query, key, value, cu_seqlens)
    if not query.is_cuda:
        return packed_attention_reference(query, key, value, cu_seqlens, max_length, scale)
    if query.dtype not in HALF_PRECISION:
        raise ValueError(
            f"packed attention on CUDA: expected bf16 or fp16; found {query.dtype}: set mixed precision, "
            "or attn_implementation: sdpa with padding"
        )
    from torch.nn.attention.varlen import varlen_attn

    settings: dict[str, Any] = {"scale": scale, "window_size": (-1, 0)}  # causal
    if "enable_gqa" in inspect.signature(varlen_attn).parameters:
        settings["enable_gqa"] = True
    else:  # torch before 2.13
        key, value = (
            tensor.repeat_interleave(query.shape[1] // tensor.shape[1], 1) for tensor in (key, value)
        )
    out = varlen_attn(query, key, value, cu_seqlens, cu_seqlens, max_length, max_length, **settings)
    assert isinstance(out, Tensor)  # no auxiliary output was asked for
    return out


def packed_attention_reference(
    query: Tensor, key: Tensor, value: Tensor, cu_seqlens: Tensor, max_length: int, scale: float
) -> Tensor:
    """`packed_attention` one sequence after the other, by torch's scaled_dot_product_attention."""
    lengths = cu_seqlens.diff().tolist()
    parts = (tensor.transpose(0, 1).split(lengths, dim=1) for tensor in (query, key, value))
    outputs = [
        scaled_dot_product_attention(q[None], k[None], v[None], is_causal=True, scale=scale, enable_gqa=True)
        for q, k, v in zip(*parts, strict=True)
    ]
    return torch.cat(outputs, dim=2)[0].transpose(0, 1)


def _check(query: Tensor, key: Tensor, value: Tensor, cu_seqlens: Tensor) -> None:
    tokens, heads, width = query.shape if query.ndim == 3 else (0, 0, 0)
    agrees = (
        tokens > 0
        and key.shape == value.shape == (tokens, key.shape[1], width)
        and heads % key.shape[1] == 0
        and cu_seqlens.ndim == 1
        and cu_seqlens.dtype == torch.int32
        and query.dtype == key.dtype == value.dtype
    )
    if not agrees:
        described = ", ".join(f"{tuple(t.shape)} {t.dtype}" for t in (query, key, value, cu_seqlens))
        raise ValueError(
            "packed attention: expected query (T, H, D), key and value (T, K, D) of one dtype, K a divisor "
            f"of H, cu_seqlens (B + 1,) int32; found {described}"
        )
    if not query.is_cuda:  # reading them stalls a GPU
        ends = cu_seqlens.tolist()
        if len(ends) < 2 or ends[0] != 0 or ends[-1] != tokens or sorted(set(ends)) != ends:
            raise ValueError(
                f"packed attention: expected cu_seqlens to rise from 0 to {tokens}; found {ends}"
            )
