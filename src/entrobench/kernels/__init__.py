"""Token statistics of a softmax policy: reference, chunked, Triton. They import torch.

Algorithms and training import them; they import nothing of the project.
"""

from entrobench.kernels.token_stats import TokenStats, token_stats, token_stats_from_hidden

__all__ = ["TokenStats", "token_stats", "token_stats_from_hidden"]
