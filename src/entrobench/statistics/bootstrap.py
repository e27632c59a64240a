"""Confidence intervals by the cluster bootstrap: problems are drawn anew, each with all its samples.

Samples of one problem are not independent, so an interval over single samples would be far too narrow.
"""

from collections.abc import Sequence

import numpy as np

DRAWS = 10_000
LEVEL = 0.95


def cluster_bootstrap(
    groups: Sequence[Sequence[float]], seed: int, draws: int = DRAWS
) -> tuple[float, float]:
    """95 % percentile interval of the unweighted mean over groups of the mean over each group's problems.

    Args:
        groups: for each benchmark one value per problem (such as its share of correct samples). One group
            gives the interval of its mean, several that of the macro average.
        seed: of numpy's default generator; the same seed gives the same interval.

    Raises ValueError when a group is empty.
    """
    if not groups or any(len(group) == 0 for group in groups):
        raise ValueError("cluster bootstrap: every group needs at least one problem")
    generator = np.random.default_rng(seed)
    means = np.zeros(draws)
    for group in groups:
        values = np.asarray(group, dtype=float)
        rows = generator.integers(len(values), size=(draws, len(values)))
        means += values[rows].mean(axis=1) / len(groups)
    tail = 100 * (1 - LEVEL) / 2
    low, high = np.percentile(means, [tail, 100 - tail])
    return float(low), float(high)
