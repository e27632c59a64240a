"""What the four papers call their metrics, computed for one problem from its samples in their order.

Of n samples, in the order in which they were drawn:

- mean@n: share of correct ones. PAPO App. B.2 (mean@8), exchange, Experimental Setup (Acc@8), OPEFO,
  Evaluation (Avg@32, Avg@1), REPO Table 3 (@1, from 64).
- pass@k: unbiased, 1 - C(n - c, k) / C(n, k) (Chen et al. 2021, Eq. 1). REPO Table 3 (@64), exchange
  (Pass@8).
- pass_first@k: whether one of the first k is correct, "k of k". PAPO Table 2 seems to have it: its values are
  multiples of 1/800 and 1/541.
- maj@k: whether the answer that most of the first k give is correct. Exchange (Maj@8), which leaves ties and
  missing answers open; `maj_at_k` says what they are here.
- combined@k: mean of mean@n and pass@k. REPO Table 3 with k = 64: its Combined is the mean of this over
  AIME24 and AIME25, which is the mean of its four columns.

evaluation/outcomes.py has instruction@n beside them: of IFEval, the share of all instructions followed.

The expectation of mean@n does not depend on n, so all samples count in it whatever number stands after the @.
"""

import math
from collections import Counter
from collections.abc import Sequence

# Names of the papers for mean@n
ALIASES = {"acc": "mean", "avg": "mean"}
Votes = Sequence[int | None]


def mean_at_k(correct: Sequence[int], n: int) -> float:
    """Mean accuracy over problems and their n samples each, in [0, 1].

    Raises ValueError when there is no problem or a count is outside 0..n.
    """
    _check(correct, n)
    return sum(correct) / (n * len(correct))


def pass_at_k(correct: Sequence[int], n: int, k: int) -> float:
    """Unbiased pass@k, mean over problems of 1 - C(n - c, k) / C(n, k).

    Raises ValueError unless 1 <= k <= n: with fewer samples than k the estimator does not exist.
    """
    _check(correct, n)
    _check_k("pass", k, n)
    return sum(1 - math.comb(n - c, k) / math.comb(n, k) for c in correct) / len(correct)


def pass_first_at_k(is_correct: Sequence[bool], k: int) -> float:
    """1 where one of the first k samples is correct, else 0. Raises ValueError unless 1 <= k <= n."""
    _check_k("pass_first", k, len(is_correct))
    return float(any(is_correct[:k]))


def maj_at_k(is_correct: Sequence[bool], votes: Votes, k: int) -> float:
    """Majority vote of the first k samples: the share of correct samples in the largest group of answers.

    votes: of each sample the number of its group of equal answers, None for no answer, which is no vote;
    without any vote the value is 0. Of several largest groups each wins equally often: their mean.
    Raises ValueError unless 1 <= k <= n and there is a vote (or None) for each sample.
    """
    _check_k("maj", k, len(is_correct))
    if len(votes) != len(is_correct):
        raise ValueError(f"maj@{k}: expected {len(is_correct)} votes, found {len(votes)}")
    sizes = Counter(vote for vote in votes[:k] if vote is not None)
    if not sizes:
        return 0.0
    largest = max(sizes.values())
    winners = {vote for vote, size in sizes.items() if size == largest}
    right = sum(correct for correct, vote in zip(is_correct[:k], votes[:k], strict=True) if vote in winners)
    return right / (largest * len(winners))


def value_of(metric: str, is_correct: Sequence[bool], votes: Votes | None = None) -> float:
    """One problem's value of a metric of the table above, in [0, 1].

    votes: as for maj_at_k, which no other metric asks for. Raises ValueError for another metric, for a vote
    without votes, and as the functions above.
    """
    kind, _, number = metric.partition("@")
    kind = ALIASES.get(kind, kind)
    c, n = sum(is_correct), len(is_correct)
    if kind == "mean":
        return mean_at_k([c], n)
    if kind == "pass":
        return pass_at_k([c], n, int(number))
    if kind == "pass_first":
        return pass_first_at_k(is_correct, int(number))
    if kind == "combined":
        return (mean_at_k([c], n) + pass_at_k([c], n, int(number))) / 2
    if kind == "maj":
        if votes is None:
            raise ValueError(
                f"{metric}: these answers cannot be compared with each other, so there is no vote"
            )
        return maj_at_k(is_correct, votes, int(number))
    raise ValueError(f"expected mean@n, pass@k, pass_first@k, maj@k or combined@k, found {metric!r}")


def _check(correct: Sequence[int], n: int) -> None:
    if not correct:
        raise ValueError("no problems: a mean over nothing is not a number")
    wrong = [c for c in correct if not 0 <= c <= n]
    if wrong:
        raise ValueError(f"expected counts of correct samples in 0..{n}, found {wrong[:3]}")


def _check_k(kind: str, k: int, n: int) -> None:
    if not 1 <= k <= n:
        raise ValueError(f"{kind}@{k} needs 1 <= k <= n, found n = {n} samples a problem")
