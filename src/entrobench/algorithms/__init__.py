"""The mathematics of the methods: pure tensor functions and small states, one file per method, no framework
but torch.
"""

from entrobench.algorithms.adapo import Adapo
from entrobench.algorithms.entropy_flow import EntropyFlow
from entrobench.algorithms.high_entropy import HighEntropy
from entrobench.algorithms.papo_polarity import PapoPolarity
from entrobench.algorithms.perplexity import Perplexity
from entrobench.algorithms.position import Position
from entrobench.algorithms.repo import EntropyBonus, RepoDecorrelate, RepoRescale
from entrobench.algorithms.shaper import Shaped, Shaper, TokenBatch
from entrobench.algorithms.single_polarity import SinglePolarity

SHAPERS: dict[str, type[Shaper]] = {
    "papo_polarity": PapoPolarity,
    "single_polarity": SinglePolarity,
    "high_entropy": HighEntropy,
    "perplexity": Perplexity,
    "position": Position,
    "entropy_flow": EntropyFlow,
    "repo_rescale": RepoRescale,
    "repo_decorrelate": RepoDecorrelate,
    "entropy_bonus": EntropyBonus,
    "adapo": Adapo,
}

__all__ = ["SHAPERS", "Shaped", "Shaper", "TokenBatch"]
