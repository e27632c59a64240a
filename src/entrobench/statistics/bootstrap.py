"""Confidence intervals by the cluster bootstrap: problems are drawn anew, each with all its samples.

Samples of one problem are not independent, so an interval over single samples would be far too narrow.
"""

from collections.abc import Sequence

import numpy as np

DRAWS = 10_000
LEVEL = 0.95
# Numbers that are drawn at a time: 8 MB
CHUNK = 1_000_000


def cluster_bootstrap(
    groups: Sequence[Sequence[float]],
    seed: int,
    draws: int = DRAWS,
    weights: Sequence[float] | None = None,
) -> tuple[float, float]:
    """95 % percentile interval of the mean over groups of the mean over each group's problems.

    Args:
        groups: for each benchmark one value per problem (such as its share of correct samples). One group
            gives the interval of its mean, several that of the macro average.
        seed: of numpy's default generator; the same seed gives the same interval.
        weights: of the groups, with the sum 1; equal by default.

    Raises ValueError when a group is empty.
    """
    if not groups or any(len(group) == 0 for group in groups):
        raise ValueError("cluster bootstrap: every group needs at least one problem")
    generator = np.random.default_rng(seed)
    means = np.zeros(draws)
    for group, weight in zip(groups, weights or [1 / len(groups)] * len(groups), strict=True):
        means += weight * _drawn_means(np.asarray(group, dtype=float), generator, draws)
    tail = 100 * (1 - LEVEL) / 2
    low, high = np.percentile(means, [tail, 100 - tail])
    return float(low), float(high)


def _drawn_means(values: np.ndarray, generator: np.random.Generator, draws: int) -> np.ndarray:
    """Means of `draws` samples with replacement.

    A mean asks only how often each distinct value was drawn, and that is multinomial: a few numbers a draw in
    the place of one a problem.
    """
    distinct, counts = np.unique(values, return_counts=True)
    shares = counts / len(values)
    rows = max(1, CHUNK // len(distinct))
    parts = [
        generator.multinomial(len(values), shares, size=min(rows, draws - start)) @ distinct / len(values)
        for start in range(0, draws, rows)
    ]
    return np.concatenate(parts)
