"""mean@k and unbiased pass@k from counts of correct samples."""

import math
from collections.abc import Sequence


def mean_at_k(correct: Sequence[int], n: int) -> float:
    """Mean accuracy over problems and their n samples each, in [0, 1] (PAPO App. B.2, mean@8).

    Raises ValueError when there is no problem or a count is outside 0..n.
    """
    _check(correct, n)
    return sum(correct) / (n * len(correct))


def pass_at_k(correct: Sequence[int], n: int, k: int) -> float:
    """Unbiased pass@k, mean over problems of 1 - C(n - c, k) / C(n, k) (Chen et al. 2021, Eq. 1).

    Raises ValueError unless 1 <= k <= n: with fewer samples than k the estimator does not exist.
    """
    _check(correct, n)
    if not 1 <= k <= n:
        raise ValueError(f"pass@{k} needs 1 <= k <= n, found n = {n} samples a problem")
    return sum(1 - math.comb(n - c, k) / math.comb(n, k) for c in correct) / len(correct)


def value_of(metric: str, c: int, n: int) -> float:
    """One problem's value of `mean@<n>` or `pass@<k>`, with c of n samples correct.

    Raises ValueError for another metric, and as mean_at_k and pass_at_k.
    """
    kind, _, k = metric.partition("@")
    if kind == "mean":
        return mean_at_k([c], n)
    if kind == "pass":
        return pass_at_k([c], n, int(k))
    raise ValueError(f"expected mean@n or pass@k, found {metric!r}")


def _check(correct: Sequence[int], n: int) -> None:
    if not correct:
        raise ValueError("no problems: a mean over nothing is not a number")
    wrong = [c for c in correct if not 0 <= c <= n]
    if wrong:
        raise ValueError(f"expected counts of correct samples in 0..{n}, found {wrong[:3]}")
