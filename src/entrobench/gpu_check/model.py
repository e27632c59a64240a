"""Packed attention in a model of random weights against sdpa, and one step of it. Needs transformers."""

from typing import Any

import torch
from torch import Tensor

SIZES = {  # of Qwen2.5-0.5B
    "hidden_size": 896,
    "intermediate_size": 4864,
    "num_hidden_layers": 24,
    "num_attention_heads": 14,
    "num_key_value_heads": 2,
    "vocab_size": 151_936,
    "tie_word_embeddings": True,
}
SMALL = {"hidden_size": 112, "intermediate_size": 256, "num_hidden_layers": 2, "vocab_size": 1024}
ROOM = 2.0  # times the error that sdpa has in the same dtype


def check_model() -> dict[str, float]:
    """Errors of logits and gradients against fp32, beside sdpa's; on a GPU the memory of a step.

    Raises AssertionError where packed attention is worse than ROOM times sdpa.
    """
    from entrobench.training.attention import PACKED_VARLEN

    is_cuda = torch.cuda.is_available()
    device, dtype = ("cuda", torch.bfloat16) if is_cuda else ("cpu", torch.float32)
    sizes, lengths = (SIZES, [700, 3, 1500, 64]) if is_cuda else (SIZES | SMALL, [40, 3, 70])
    exact = _run("sdpa", sizes, lengths, torch.float64 if device == "cpu" else torch.float32, device)
    plain = _run("sdpa", sizes, lengths, dtype, device)
    packed = _run(PACKED_VARLEN, sizes, lengths, dtype, device)
    figures: dict[str, float] = {}
    for name in ("logits", "gradient"):
        errors = [float((run[name] - exact[name]).abs().max()) for run in (packed, plain)]
        figures |= {f"error of {name}, packed": errors[0], f"error of {name}, sdpa": errors[1]}
        assert errors[0] <= ROOM * errors[1] + 1e-7, f"{name}: off by {errors[0]:.2e}, sdpa {errors[1]:.2e}"
    assert float(packed["gradient"].abs().max()) > 0
    if is_cuda:
        figures["GiB at the peak of a packed step"] = packed["peak"] / 2**30
    return figures


def _run(attention: str, sizes: dict[str, Any], lengths: list[int], dtype: torch.dtype, device: str) -> Any:
    """Logits of all tokens, and the gradient of one layer's keys, after a step of the optimizer."""
    from transformers import AutoModelForCausalLM, Qwen2Config

    from entrobench.training.attention import packed_boundaries

    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(Qwen2Config(**sizes), attn_implementation=attention)
    model = model.to(device, dtype).train()
    generator = torch.Generator().manual_seed(1)
    rows = [torch.randint(1000, (length,), generator=generator).to(device) for length in lengths]
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
    if attention == "sdpa":
        logits = torch.cat([model(row[None], use_cache=False).logits[0] for row in rows])
    else:
        offsets = torch.tensor([0, *lengths], device=device).cumsum(0)
        positions = torch.cat([torch.arange(length, device=device) for length in lengths])
        packed: Tensor = torch.cat(rows)
        logits = model(
            packed[None], position_ids=positions[None], use_cache=False, **packed_boundaries(offsets, 0)
        ).logits[0]
    torch.nn.functional.cross_entropy(logits[:-1].double(), torch.cat(rows)[1:]).backward()
    gradient = model.model.layers[0].self_attn.k_proj.weight.grad.double().cpu()
    torch.optim.AdamW(model.parameters(), lr=1e-6).step()
    peak = torch.cuda.max_memory_allocated() if device == "cuda" else 0
    return {"logits": logits.detach().double().cpu(), "gradient": gradient, "peak": peak}
