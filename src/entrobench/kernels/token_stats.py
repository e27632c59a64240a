"""The four per-token statistics that every method of this project reads (PAPO, arXiv 2605.11775, Eq. 3 and
5).

    H      = -sum_v p_v log p_v                          entropy, nats
    t2     = sum_v p_v^2 (log p_v + H)                   = Cov_p(p, log p) >= 0
    sum_p2 = sum_v p_v^2
    logp   = log p of the sampled token

with p = softmax(logits / temperature), in fp32 whatever the dtype of the logits. `token_stats` has no
gradient; `log_prob_and_entropy` has, for the loss. `reference` writes them down, `chunked` computes them on
a CPU, `triton_stats` on a GPU.
"""

from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from entrobench.kernels.chunked import (
    chunked_gradient,
    chunked_log_prob,
    chunked_stats,
    chunked_stats_from_hidden,
)

KERNEL_DTYPES = (torch.bfloat16, torch.float16, torch.float32)


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
        """Entropy tendency T = -t1 + t2 (PAPO Eq. 7): > 0 where reinforcing the token raises entropy."""
        return self.t2 - self.t1


def _checked_temperature(name: str, temperature: Tensor | float, rows: int) -> Tensor | float:
    """The temperature without its graph. Raises ValueError: neither (N,) nor one number."""
    if isinstance(temperature, Tensor) and temperature.shape != (rows,):
        raise ValueError(
            f"{name}: expected temperature (N,) = ({rows},) or one number; found {tuple(temperature.shape)}"
        )
    return temperature.detach() if isinstance(temperature, Tensor) else temperature


def _check_tokens(name: str, tokens: Tensor, vocabulary: int) -> None:
    """Raise ValueError for ids outside the vocabulary; on a CPU only: reading them stalls a GPU."""
    if tokens.is_floating_point() or tokens.dtype == torch.bool:
        raise ValueError(f"{name}: expected integer token ids; found {tokens.dtype}")
    if tokens.device.type == "cpu" and len(tokens) and not 0 <= tokens.min() <= tokens.max() < vocabulary:
        raise ValueError(
            f"{name}: expected token ids from 0 to {vocabulary - 1}; found {tokens.min().item()} to "
            f"{tokens.max().item()}"
        )


def _checked(name: str, logits: Tensor, tokens: Tensor, temperature: Tensor | float) -> Tensor | float:
    """The temperature without its graph. Raises ValueError where the arguments do not agree."""
    rows = len(logits) if logits.ndim else 0
    if logits.ndim != 2 or tokens.shape != (rows,) or logits.shape[1] == 0:
        raise ValueError(
            f"{name}: expected logits (N, V), tokens (N,), temperature (N,) or a number, V > 0; "
            f"found {tuple(logits.shape)}, {tuple(tokens.shape)}"
        )
    temperature = _checked_temperature(name, temperature, rows)
    _check_tokens(name, tokens, logits.shape[1])
    return temperature


def _by_kernel(*inputs: Tensor) -> bool:
    """Whether Triton computes these: on a GPU, of one dtype that it reads, some rows, columns adjacent."""
    return (
        len(inputs[0]) > 0
        and all(tensor.is_cuda and tensor.stride(-1) == 1 for tensor in inputs)
        and inputs[0].dtype in KERNEL_DTYPES
        and len({tensor.dtype for tensor in inputs}) == 1
    )


@torch.no_grad()
def token_stats(logits: Tensor, tokens: Tensor, temperature: Tensor | float) -> TokenStats:
    """Compute TokenStats row by row, in one pass over the logits; no gradient flows back.

    Args:
        logits: (N, V), any floating dtype.
        tokens: (N,), integer ids of the sampled tokens.
        temperature: (N,) or one number, sampling temperature > 0.

    Returns:
        Four fp32 tensors of shape (N,). On a GPU nothing else is held; elsewhere a few MB (see `chunked`). A
        token id outside the vocabulary makes log p of its row nan on a GPU.

    Raises:
        ValueError: shapes do not agree; on a CPU also a token id outside the vocabulary.
    """
    temperature = _checked("token_stats", logits, tokens, temperature)
    if _by_kernel(logits):
        # Not at the top: Triton is slow to import, and absent where there is no GPU
        from entrobench.kernels.triton_stats import triton_stats

        return TokenStats(*triton_stats(logits, tokens, temperature)[:4])
    return TokenStats(*chunked_stats(logits, tokens, temperature))


class _LogProbAndEntropy(torch.autograd.Function):
    """Saves the logits, which are there anyway, and a few numbers per row."""

    @staticmethod
    def forward(
        ctx: Any, logits: Tensor, tokens: Tensor, temperature: Tensor | float
    ) -> tuple[Tensor, Tensor]:
        if _by_kernel(logits):
            from entrobench.kernels.triton_stats import triton_stats

            saved = [triton_stats(logits, tokens, temperature)]
            logp, entropy = saved[0][0].clone(), saved[0][1].clone()
        else:
            saved = list(chunked_log_prob(logits, tokens, temperature))
            logp, entropy = saved[:2]
        ctx.temperature = temperature
        ctx.save_for_backward(logits, tokens, *saved)
        return logp, entropy

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_logp: Tensor, grad_entropy: Tensor) -> tuple[Tensor, None, None]:
        logits, tokens, *saved = ctx.saved_tensors
        if _by_kernel(logits):
            from entrobench.kernels.triton_stats import triton_gradient

            forward = saved[0]
            gradient = triton_gradient(logits, tokens, ctx.temperature, forward, grad_logp, grad_entropy)
        else:
            gradient = chunked_gradient(
                logits, tokens, ctx.temperature, tuple(saved), grad_logp, grad_entropy
            )
        return gradient, None, None


def log_prob_and_entropy(
    logits: Tensor, tokens: Tensor, temperature: Tensor | float
) -> tuple[Tensor, Tensor]:
    """log p of the tokens and entropy, as in TokenStats, with their gradient to the logits.

    Args:
        logits: (N, V), any floating dtype; the gradient is of this dtype, computed in fp32.
        tokens: (N,), integer ids of the sampled tokens.
        temperature: (N,) or one number, sampling temperature > 0; no gradient flows to it.

    Returns:
        Two tensors of shape (N,), fp32, of fp64 logits fp64: the values of `token_stats` bit for bit. The
        gradient is (N, V); beside it nothing of that size is held (see `token_stats`). It has no gradient of
        its own.

    Raises:
        ValueError: as `token_stats`.
    """
    temperature = _checked("log_prob_and_entropy", logits, tokens, temperature)
    logp, entropy = _LogProbAndEntropy.apply(logits, tokens, temperature)
    return logp, entropy


@torch.no_grad()
def token_stats_from_hidden(
    hidden: Tensor, weight: Tensor, tokens: Tensor, temperature: Tensor | float, bias: Tensor | None = None
) -> TokenStats:
    """TokenStats of logits = hidden @ weight.T + bias, which are never held at once; no gradient flows back.

    Args:
        hidden: (N, D), any floating dtype; products are summed in fp32 and not rounded to this dtype.
        weight: (V, D), the output layer.
        tokens: (N,), integer ids of the sampled tokens.
        temperature: (N,) or one number, sampling temperature > 0.
        bias: (V,) or None.

    Returns:
        Four fp32 tensors of shape (N,). Holds under 100 MB more, at N = 16,384 and V = 151,936 (see
        `triton_stats` and `chunked`).

    Raises:
        ValueError: shapes do not agree; on a CPU also a token id outside the vocabulary.
    """
    rows = len(hidden) if hidden.ndim else 0
    agree = (
        hidden.ndim == weight.ndim == 2
        and len(weight) > 0
        and hidden.shape[1] == weight.shape[1]
        and tokens.shape == (rows,)
        and (bias is None or bias.shape == (len(weight),))
    )
    if not agree:
        raise ValueError(
            f"token_stats_from_hidden: expected hidden (N, D), weight (V, D), V > 0, tokens (N,), bias (V,); "
            f"found {tuple(hidden.shape)}, {tuple(weight.shape)}, {tuple(tokens.shape)}, "
            f"{None if bias is None else tuple(bias.shape)}"
        )
    temperature = _checked_temperature("token_stats_from_hidden", temperature, rows)
    _check_tokens("token_stats_from_hidden", tokens, len(weight))
    if _by_kernel(hidden, weight):
        from entrobench.kernels.triton_stats import triton_stats_from_hidden

        return TokenStats(*triton_stats_from_hidden(hidden, weight, tokens, temperature, bias))
    return TokenStats(*chunked_stats_from_hidden(hidden, weight, tokens, temperature, bias))
