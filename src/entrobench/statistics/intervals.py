"""Means and differences with 95 % intervals that hold their level for 30 problems too.

A cell's values form a matrix, training seeds x problems, each such as a share of correct samples. Problems
and seeds are both drawn from more of their kind, and crossed: every seed answers every problem.

Variance of a mean, by two-way clustering (Cameron, Gelbach and Miller 2011, Eq. 2.7), which is what drawing
seeds and problems anew with replacement comes to (Owen 2007):

    V = V_problems + V_seeds - V_rest     of the means of problems, of seeds, and of what both leave
    one seed: V = V_problems, and nothing is known of other seeds

Interval of one mean: that of Korn and Graubard (1998), Clopper and Pearson's with

    n* = n / deff (t_{n-1} / t_df)^2     n = seeds x problems x samples,  deff = V n / (p (1 - p))

for the number of samples. deff is 1 + (n / problems - 1) rho; where few problems have any correct sample,
rho, their correlation, comes out far too low too often, and the interval would cover 82 % (30 problems x 32
samples at 2 %). Ours: two problems of correlation 1 are added to those that say anything of it. Then coverage
is 95 % or more for 30 and 100 problems, 8 to 64 samples, 2 to 85 %, and difficulties from all alike to all or
nothing (tests/unit/test_intervals.py has the simulation). Nothing correct is n* = problems, never no width.

Of sums and differences: arms are added as squares (MOVER, Zou and Donner 2008), less twice the product of two
arms times their correlation where two cells answered the same problems (Newcombe 1998, method 10).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import betaincinv, stdtrit

LEVEL = 0.95
TAIL = (1 - LEVEL) / 2
PSEUDO_PROBLEMS = 2


@dataclass(frozen=True)
class Estimate:
    """A value with its 95 % interval."""

    value: float
    low: float
    high: float

    @property
    def half_width(self) -> float:
        """Half of the interval's width."""
        return (self.high - self.low) / 2


def mean_of(values_KP: np.ndarray, n_samples: int) -> Estimate:
    """The mean over seeds (K) and problems (P) of values whose mean lies in [0, 1].

    n_samples: that each value was computed from. Raises ValueError without a problem and for another mean.
    """
    _check(values_KP)
    seeds, problems = values_KP.shape
    p = min(float(values_KP.mean()), 1.0)
    n = seeds * problems * n_samples
    effective = n / _design_effect(values_KP, p, n) * (_t(n - 1) / _t(_degrees(values_KP))) ** 2
    correct = p * effective
    low = betaincinv(correct, effective - correct + 1, TAIL) if p > 0 else 0.0
    high = betaincinv(correct + 1, effective - correct, 1 - TAIL) if p < 1 else 1.0
    return Estimate(p, float(low), float(high))


def difference_of(a_KP: np.ndarray, b_KP: np.ndarray, n_a: int, n_b: int) -> Estimate:
    """Mean of a less mean of b over the same problems in the same order, each with seeds of its own.

    n_a, n_b: samples that each value was computed from. Raises ValueError as mean_of, and for other problems.
    """
    if a_KP.shape[1] != b_KP.shape[1]:
        raise ValueError(f"expected the same problems, found {a_KP.shape[1]} and {b_KP.shape[1]}")
    a, b, r = mean_of(a_KP, n_a), mean_of(b_KP, n_b), _correlation(a_KP, b_KP)
    value = a.value - b.value
    down = _joined(a.value - a.low, b.high - b.value, r)
    up = _joined(a.high - a.value, b.value - b.low, r)
    return Estimate(value, value - down, value + up)


def weighted(parts: Sequence[Estimate], weights: Sequence[float]) -> Estimate:
    """The weighted sum of independent estimates, such as those of several benchmarks; weights from 0 on."""
    value = sum(w * part.value for w, part in zip(weights, parts, strict=True))
    down = math.hypot(*(w * (part.value - part.low) for w, part in zip(weights, parts, strict=True)))
    up = math.hypot(*(w * (part.high - part.value) for w, part in zip(weights, parts, strict=True)))
    return Estimate(value, value - down, value + up)


def variance_of(values_KP: np.ndarray) -> float:
    """V above; of one seed, over problems; 0 for a single value."""
    of_problems, of_seeds, rest = _components(values_KP)
    # Estimates of what cannot be negative may be: V is no less than either of its parts
    return max(of_problems + of_seeds - rest, of_problems, of_seeds)


def _components(values_KP: np.ndarray) -> tuple[float, float, float]:
    """V_problems, V_seeds, V_rest."""
    seeds, problems = values_KP.shape
    by_problem, by_seed = values_KP.mean(axis=0), values_KP.mean(axis=1)
    of_problems = by_problem.var(ddof=1) / problems if problems > 1 else 0.0
    if seeds == 1:
        return float(of_problems), 0.0, 0.0
    of_seeds = by_seed.var(ddof=1) / seeds
    if problems == 1:
        return 0.0, float(of_seeds), 0.0
    left = values_KP - by_problem - by_seed[:, None] + values_KP.mean()
    rest = (left**2).sum() / ((seeds - 1) * (problems - 1)) / (seeds * problems)
    return float(of_problems), float(of_seeds), float(rest)


def _degrees(values_KP: np.ndarray) -> float:
    """Satterthwaite's degrees of freedom of V."""
    seeds, problems = values_KP.shape
    of_problems, of_seeds, _ = _components(values_KP)
    spread = 0.0
    if problems > 1:
        spread += of_problems**2 / (problems - 1)
    if seeds > 1:
        spread += of_seeds**2 / (seeds - 1)
    if spread == 0:
        return max(problems - 1, 1)
    return min(max(variance_of(values_KP) ** 2 / spread, 1), problems + seeds - 2)


def _design_effect(values_KP: np.ndarray, p: float, n: int) -> float:
    """deff of n samples, with the pseudo-problems."""
    _, problems = values_KP.shape
    of_one_problem = n / problems
    if of_one_problem == 1:
        return 1.0
    informative, rho = 0, 1.0
    if 0 < p < 1:
        informative = min(int((values_KP > 0).any(axis=0).sum()), int((values_KP < 1).any(axis=0).sum()))
        deff = variance_of(values_KP) * n / (p * (1 - p))
        rho = max((deff - 1) / (of_one_problem - 1), 0.0)
    rho = (rho * informative + PSEUDO_PROBLEMS) / (informative + PSEUDO_PROBLEMS)
    return 1 + (of_one_problem - 1) * rho


def _correlation(a_KP: np.ndarray, b_KP: np.ndarray) -> float:
    """Of the two means, which the problems that they share bring about; two pseudo-problems say that there is
    none.
    """
    a_P, b_P = a_KP.mean(axis=0), b_KP.mean(axis=0)
    variance = variance_of(a_KP) * variance_of(b_KP)
    if len(a_P) < 2 or variance == 0:
        return 0.0
    shared = float(np.cov(a_P, b_P)[0, 1]) / len(a_P)
    informative = min(int(((a_P > 0) | (b_P > 0)).sum()), int(((a_P < 1) | (b_P < 1)).sum()))
    r = shared / math.sqrt(variance) * informative / (informative + PSEUDO_PROBLEMS)
    return min(max(r, -1.0), 1.0)


def _joined(first: float, second: float, r: float) -> float:
    return math.sqrt(max(first**2 - 2 * r * first * second + second**2, 0.0))


def _t(df: float) -> float:
    return float(stdtrit(max(df, 1), 1 - TAIL))


def _check(values_KP: np.ndarray) -> None:
    if values_KP.ndim != 2 or 0 in values_KP.shape:
        raise ValueError(f"expected seeds x problems, at least one of each, found {values_KP.shape}")
    if not -1e-9 <= values_KP.mean() <= 1 + 1e-9:
        raise ValueError(f"expected a mean in [0, 1], found {values_KP.mean()}")
