"""Token statistics and their gradients against the definition in fp64, and their speed. Needs torch."""

import time
from collections.abc import Callable

import torch
from torch import Tensor

from entrobench.kernels.reference import reference_stats
from entrobench.kernels.token_stats import log_prob_and_entropy, token_stats

VOCABULARY = 151_936  # Qwen's
WORST = 1e-4  # statistics: of 1 + their size; gradients: of the largest, beside the rounding of their dtype
COPY_SHARE = 0.85  # of the card's copy bandwidth: what the statistics should reach


def check_kernels() -> dict[str, float]:
    """Largest errors, and on a GPU the share of its copy bandwidth. Raises AssertionError above WORST."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    figures: dict[str, float] = {}
    for dtype in (torch.bfloat16, torch.float32):
        name = str(dtype).removeprefix("torch.")
        for rows, vocabulary in ((1, 17), (64, 4099), (32, VOCABULARY)):
            logits, tokens, temperature = _case(rows, vocabulary, dtype, device)
            error = _error_of_statistics(logits, tokens, temperature)
            gradient = _error_of_gradient(logits, tokens, temperature)
            figures[f"{name}, V {vocabulary}: error of statistics"] = error
            figures[f"{name}, V {vocabulary}: error of gradient"] = gradient
            assert error <= WORST, f"{name}, V {vocabulary}: statistics are off by {error:.1e}"
            rounding = torch.finfo(dtype).eps / 2
            assert gradient <= WORST + rounding, f"{name}, V {vocabulary}: gradient is off by {gradient:.1e}"
    if device == "cuda":
        figures |= _speed()
    return figures


def _case(rows: int, vocabulary: int, dtype: torch.dtype, device: str) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator(device).manual_seed(rows)
    logits = 4 * torch.randn(rows, vocabulary, generator=generator, device=device)
    tokens = torch.randint(vocabulary, (rows,), generator=generator, device=device)
    temperature = 0.5 + torch.rand(rows, generator=generator, device=device)
    return logits.to(dtype), tokens, temperature


def _error_of_statistics(logits: Tensor, tokens: Tensor, temperature: Tensor) -> float:
    found = token_stats(logits, tokens, temperature)
    wanted = reference_stats(logits.double(), tokens, temperature.double())
    return max(float(((a - b).abs() / (1 + b.abs())).max()) for a, b in zip(found, wanted, strict=True))


def _error_of_gradient(logits: Tensor, tokens: Tensor, temperature: Tensor) -> float:
    """Of a loss with log-probabilities and entropy, as a share of the largest component."""
    mine, exact = logits.clone().requires_grad_(), logits.double().requires_grad_()
    logp, entropy = log_prob_and_entropy(mine, tokens, temperature)
    (logp.sum() + 0.1 * entropy.sum()).backward()
    all_logp = torch.log_softmax(exact / temperature.double()[:, None], -1)
    entropies = -(all_logp.exp() * all_logp).sum(-1)
    (all_logp.gather(1, tokens[:, None]).sum() + 0.1 * entropies.sum()).backward()
    assert mine.grad is not None
    assert exact.grad is not None
    return float((mine.grad - exact.grad).abs().max() / exact.grad.abs().max())


def _speed() -> dict[str, float]:
    logits, tokens, _ = _case(16_384, VOCABULARY, torch.bfloat16, "cuda")
    size = logits.numel() * logits.element_size()
    copied = 2 * size / _seconds(lambda: logits.clone())
    read = size / _seconds(lambda: token_stats(logits, tokens, 1.0))
    return {
        "copy, TB/s": copied / 1e12,
        "statistics, TB/s": read / 1e12,
        "statistics / copy": read / copied,
        "statistics / copy, wanted": COPY_SHARE,
    }


def _seconds(run: Callable[[], object]) -> float:
    """Shortest of ten calls on a GPU, after two that are not counted."""
    seconds = []
    for _ in range(12):
        torch.cuda.synchronize()
        started = time.perf_counter()
        run()
        torch.cuda.synchronize()
        seconds.append(time.perf_counter() - started)
    return min(seconds[2:])
