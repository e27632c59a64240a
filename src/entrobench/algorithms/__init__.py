"""The mathematics of the methods: pure tensor functions and small states, one file per method, no framework
but torch.
"""

from entrobench.algorithms.papo_polarity import PapoPolarity
from entrobench.algorithms.shaper import Shaper, TokenBatch

SHAPERS: dict[str, type[Shaper]] = {"papo_polarity": PapoPolarity}

__all__ = ["SHAPERS", "Shaper", "TokenBatch"]
