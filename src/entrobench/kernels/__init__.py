"""Token statistics of a softmax policy: reference, chunked, Triton. They import torch.

Algorithms and training import them; they import nothing of the project.
"""

from entrobench.kernels.token_stats import (
    TokenStats,
    log_prob_and_entropy,
    token_stats,
    token_stats_from_hidden,
)

__all__ = ["TokenStats", "log_prob_and_entropy", "token_stats", "token_stats_from_hidden"]
