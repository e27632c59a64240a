"""The attention of the trainer: PACKED_VARLEN, packed sequences by torch's own flash kernels.

verl asks transformers for flash_attention_2, whose wheel no package registry has built. Importing this
module registers PACKED_VARLEN with transformers, under that name for `attn_implementation`; the engine says
where each sequence begins (`packed_boundaries`) once for a forward pass, in the arguments that transformers
has for it. transformers makes no mask for a name that has no mask function: nothing is dense, and nothing
can fall back to something dense.
"""

import importlib.util
import sys
from typing import Any

import torch
from torch import Tensor
from transformers import AttentionInterface

from entrobench.errors import ConfigError
from entrobench.kernels.attention import packed_attention

PACKED_VARLEN = "packed_varlen"

# Attention by a package that an environment may not have; transformers would look for it on a hub instead
PACKAGES = {"flash_attention_2": "flash_attn", "flash_attention_3": "flash_attn_interface"}


def require_attention(implementation: str) -> None:
    """Raise ConfigError where this environment does not have the attention that the settings name."""
    package = PACKAGES.get(implementation)
    if package is not None and importlib.util.find_spec(package) is None:
        raise ConfigError(
            f"actor_rollout_ref.model.override_config.attn_implementation: {implementation} needs the "
            f"package {package}, which is not installed here; set {PACKED_VARLEN}, which torch has, or "
            "install it"
        )


def packed_boundaries(offsets: Tensor, pad_size: int) -> dict[str, Any]:
    """transformers' arguments that say where packed sequences begin: `cu_seq_lens_q` and so on.

    Args:
        offsets: (B + 1,), of the sequences, in tokens.
        pad_size: tokens of padding behind the last sequence, a sequence of their own.
    """
    if pad_size:
        offsets = torch.cat([offsets, offsets[-1:] + pad_size])
    cu_seqlens = offsets.to(torch.int32)
    longest = int(cu_seqlens.diff().max())
    return {
        "cu_seq_lens_q": cu_seqlens,
        "cu_seq_lens_k": cu_seqlens,
        "max_length_q": longest,
        "max_length_k": longest,
    }


def packed_varlen_attention(
    module: torch.nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    *,
    scaling: float,
    dropout: float = 0.0,
    sliding_window: int | None = None,
    cu_seq_lens_q: Tensor | None = None,
    max_length_q: int | None = None,
    **_: Any,
) -> tuple[Tensor, None]:
    """transformers' attention function: query (1, H, T, D), key and value (1, K, T, D) -> (1, T, H, D).

    Under Ulysses (arXiv 2309.14509) each rank has T of the packed tokens and all heads; in between, all
    tokens and its share of the heads. Raises ConfigError for what it does not compute.
    """
    if cu_seq_lens_q is None or max_length_q is None or query.shape[0] != 1 or attention_mask is not None:
        raise ConfigError(
            f"{PACKED_VARLEN}: expected packed sequences with cu_seq_lens_q and max_length_q; found a batch "
            f"of {query.shape[0]} without: set actor_rollout_ref.model.use_remove_padding: true"
        )
    if dropout or sliding_window is not None:
        raise ConfigError(
            f"{PACKED_VARLEN}: no dropout and no sliding window; found {dropout} and {sliding_window}: set "
            "actor_rollout_ref.model.override_config.attn_implementation: sdpa"
        )
    dtype = _compute_dtype(query)
    query_THD, key_TKD, value_TKD = (t[0].transpose(0, 1).to(dtype) for t in (query, key, value))
    ulysses: Any = sys.modules.get("verl.utils.ulysses")  # without verl no sequence is shared
    ranks = ulysses.get_ulysses_sequence_parallel_world_size() if ulysses is not None else 1
    if ranks > 1:
        copies = max(ranks // key_TKD.shape[1], 1)
        key_TKD, value_TKD = (t.repeat_interleave(copies, dim=1) for t in (key_TKD, value_TKD))
        query_THD, key_TKD, value_TKD = (
            ulysses.gather_seq_scatter_heads(t, seq_dim=0, head_dim=1)
            for t in (query_THD, key_TKD, value_TKD)
        )
    out_THD = packed_attention(query_THD, key_TKD, value_TKD, cu_seq_lens_q, max_length_q, scaling)
    if ranks > 1:
        out_THD = ulysses.gather_heads_scatter_seq(out_THD, seq_dim=0, head_dim=1)
    return out_THD[None], None


def _compute_dtype(query: Tensor) -> torch.dtype:
    """Autocast's dtype where it is on: rotary embeddings may leave it."""
    device = query.device.type
    return torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else query.dtype


AttentionInterface.register(PACKED_VARLEN, packed_varlen_attention)
