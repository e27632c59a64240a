"""What a protocol can tell apart: the smallest gap between two cells that it finds in four runs of five.

Two cells answer the same P problems, S samples each, in K training seeds. A problem's chance varies over
problems; that of one cell goes with that of the other. With mean p, rho the correlation of two samples of a
problem, a the agreement of the two cells' chances, s the standard deviation of a seed's mean:

    V   = 2 p (1 - p) (rho (1 - a) / P + (1 - rho) / (P S K)) + 2 s^2 / K
    MDE = (z_{0.975} + z_{0.8}) sqrt(V)

More samples remove the second term only, more problems the first two, more seeds the last. Of a mean over
benchmarks V is the sum of weight^2 V, but for the seeds' term, which is one. `simulated_power` draws what the
formula assumes and lets the sign-flip test decide: at small P the formula is a little low.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy.special import betaincinv, ndtri

from entrobench.statistics.comparisons import sign_flip
from entrobench.statistics.intervals import Estimate

LEVEL, POWER = 0.05, 0.8
FACTOR = float(ndtri(1 - LEVEL / 2) + ndtri(POWER))
# Of a 95 % interval's half width, which is 1.96 standard errors
PER_HALF_WIDTH = FACTOR / float(ndtri(1 - LEVEL / 2))
MOST = 10_000  # seeds, problems or samples that needed() asks for


@dataclass(frozen=True)
class Design:
    """A protocol and what it is used on.

    mean: of correct samples, in (0, 1). rho, agreement: see above, in [0, 1]. seed_sd: of a training seed's
    mean, in [0, 1]; with one seed a cell it is there too, and nobody can see it.
    """

    problems: int
    samples: int
    seeds: int
    mean: float
    rho: float
    agreement: float
    seed_sd: float

    def __post_init__(self) -> None:
        if min(self.problems, self.samples, self.seeds) < 1:
            raise ValueError(f"expected at least one problem, sample and seed, found {self}")
        shares = self.rho, self.agreement, self.seed_sd
        if not (0 < self.mean < 1 and all(0 <= share <= 1 for share in shares)):
            raise ValueError(f"expected a mean in (0, 1), rho, agreement and seed_sd in [0, 1], found {self}")

    @property
    def of_problems(self) -> float:
        """V without the seeds' term."""
        spread = 2 * self.mean * (1 - self.mean)
        samples = self.problems * self.samples * self.seeds
        return spread * (self.rho * (1 - self.agreement) / self.problems + (1 - self.rho) / samples)


def mde(design: Design) -> float:
    """MDE80 of one benchmark, in [0, 1]."""
    return mde_of_mean([design], [1.0])


def mde_of_mean(designs: Sequence[Design], weights: Sequence[float]) -> float:
    """MDE80 of a weighted mean over benchmarks that the same runs answered."""
    of_problems = sum(w**2 * design.of_problems for w, design in zip(weights, designs, strict=True))
    seed_sd = sum(w * design.seed_sd for w, design in zip(weights, designs, strict=True))
    return FACTOR * math.sqrt(of_problems + 2 * seed_sd**2 / designs[0].seeds)


def mde_of_interval(difference: Estimate) -> float:
    """MDE80 of a comparison whose difference has this interval, in its unit."""
    return PER_HALF_WIDTH * difference.half_width


def needed(design: Design, gap: float, what: str) -> int | None:
    """How many `problems`, `samples` or `seeds` bring the MDE down to `gap`, all else as in the design; None
    where no number does, or more than 10,000 would.
    """
    if what not in ("problems", "samples", "seeds"):
        raise ValueError(f"expected problems, samples or seeds, found {what!r}")

    return _fewest(lambda number: mde(replace(design, **{what: number})) <= gap)


def seeds_needed(designs: Sequence[Design], weights: Sequence[float], gap: float) -> int | None:
    """`needed` seeds of a weighted mean over benchmarks that the same runs answered."""
    return _fewest(
        lambda seeds: mde_of_mean([replace(design, seeds=seeds) for design in designs], weights) <= gap
    )


def _fewest(is_enough: Callable[[int], bool]) -> int | None:
    """The lowest number up to MOST that is enough, where every higher one is too."""
    if not is_enough(MOST):
        return None
    low, high = 0, MOST
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if is_enough(middle) else (middle, high)
    return high


def simulated_power(design: Design, gap: float, repetitions: int, seed: int) -> float:
    """Share of repetitions in which the sign-flip test finds that the second cell is `gap` better.

    Chances of a problem are Beta distributed with the design's mean and rho; the second cell's mean is higher
    by the gap. A problem is as hard for the second cell as for the first, in rank, with the probability
    `agreement`, and else has a difficulty of its own, so that this is the correlation of chances.
    """
    generator = np.random.default_rng(seed)
    found = 0
    for _ in range(repetitions):
        first, other = generator.random((2, design.problems))
        second = np.where(generator.random(design.problems) < design.agreement, first, other)
        differences = np.zeros(design.problems)
        for sign, ranks, mean in ((-1, first, design.mean), (1, second, design.mean + gap)):
            chances = _beta(ranks, mean, design.rho)
            shifts = generator.normal(0, design.seed_sd, size=(design.seeds, 1))
            right = generator.binomial(design.samples, (chances + shifts).clip(0, 1))
            differences += sign * right.mean(axis=0) / design.samples
        found += sign_flip(differences, seed=0, flips=500) <= LEVEL
    return found / repetitions


def _beta(shares_P: np.ndarray, mean: float, rho: float) -> np.ndarray:
    """Those shares' quantiles of the Beta distribution of that mean whose samples have that correlation."""
    if rho == 0:
        return np.full(len(shares_P), mean)
    if rho == 1:
        return (shares_P > 1 - mean).astype(float)
    size = 1 / rho - 1
    return np.asarray(betaincinv(mean * size, (1 - mean) * size, shares_P))
