"""The mathematics of the methods: pure tensor functions and small states, one file a method, torch alone.

Training imports it; it imports kernels and nothing else of the project.
"""

from entrobench.algorithms.adapo import Adapo
from entrobench.algorithms.entropy_flow import EntropyFlow
from entrobench.algorithms.entropy_preserving import EntropyBonus, RepoDecorrelate, RepoRescale
from entrobench.algorithms.high_entropy import HighEntropy
from entrobench.algorithms.papo_polarity import PapoPolarity
from entrobench.algorithms.perplexity import Perplexity
from entrobench.algorithms.position import Position
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
