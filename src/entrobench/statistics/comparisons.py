"""Tests of a difference between two cells, and of many of them at once.

Sign-flip test: were two cells the same, each problem's difference would as soon have had the other sign. So
the mean is compared with what it is for signs drawn at random (Fisher's randomization test for pairs; p as of
Phipson and Smyth 2010, never 0). Problems are what is drawn: of the training runs it takes those that there
are, so that with one seed a cell a small p says that these two models differ, not that the methods do.

Holm's correction keeps the chance of one false difference among all comparisons of a table at its level.
"""

from collections.abc import Sequence

import numpy as np

FLIPS = 10_000
# Numbers that are drawn at a time: 16 MB
CHUNK = 2_000_000


def sign_flip(
    differences_P: np.ndarray, seed: int, weights_P: np.ndarray | None = None, flips: int = FLIPS
) -> float:
    """Two-sided p of a mean difference of 0.

    Args:
        differences_P: of each problem, its mean over seeds in one cell less that in the other.
        seed: of numpy's default generator.
        weights_P: of the problems; equal by default. For a mean over benchmarks 1 / (benchmarks x problems).

    Raises ValueError without a problem.
    """
    if differences_P.size == 0:
        raise ValueError("sign-flip test: no problems")
    terms_P = differences_P if weights_P is None else differences_P * weights_P
    # A sum asks only how many terms of each size have which sign, and that is binomial
    sizes, counts = np.unique(np.abs(terms_P), return_counts=True)
    # Rounding must not decide over signs that come to the same sum
    limit = abs(terms_P.sum()) - 1e-12 * (sizes @ counts)
    generator = np.random.default_rng(seed)
    rows = max(1, CHUNK // len(sizes))
    as_large = 0
    for start in range(0, flips, rows):
        positive = generator.binomial(counts, 0.5, size=(min(rows, flips - start), len(sizes)))
        as_large += int((np.abs((2 * positive - counts) @ sizes) >= limit).sum())
    return (as_large + 1) / (flips + 1)


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's adjusted p, in the order given (Holm 1979): below a level, so is the chance of any false one."""
    order = np.argsort(p_values, kind="stable")
    adjusted = np.empty(len(p_values))
    largest = 0.0
    for rank, index in enumerate(order):
        largest = max(largest, min((len(p_values) - rank) * p_values[index], 1.0))
        adjusted[index] = largest
    return [float(p) for p in adjusted]
