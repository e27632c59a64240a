"""What it is worth to choose a checkpoint by the test set that it is then reported on.

A paper that evaluates S checkpoints on its test set and reports the highest score reports a maximum of S
noisy numbers. Each is an unbiased estimate of what its checkpoint can do, their maximum is not: the
checkpoint that wins has, on average, also been lucky on these problems and samples. The bias is that of
selection on the test set (winner's curse, optimisation bias). It is positive, grows with S, shrinks with the
number of problems, and is there even where all checkpoints are equally good.

Here the choice is made on one half of the problems and the value taken from the other half, whose luck had no
part in it (two-fold cross-validation of the choice, over many random halves). Two things to know:
  1. A choice by half the problems is a worse choice. Where checkpoints do differ, the held-out value is below
     what a choice by all problems would get on new ones. So the optimism, the paper's rule less the held-out
     one, is the bias and this loss together.
  2. Halves of one test set differ in opposite directions from its mean. The value is unbiased for problems
     like these, of which the test set is a sample, and not for the mean over exactly these.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

HALVES = 1000


@dataclass(frozen=True)
class HeldOut:
    """The choice on held-out halves.

    value: the mean, as in `means`. by_problem: for each benchmark a value per problem, of the checkpoints
    that were chosen without it; their mean over problems and benchmarks is `value`. shares: how often each
    checkpoint was chosen, with the sum 1.
    """

    value: float
    by_problem: list[np.ndarray]
    shares: np.ndarray


def means(scores: Sequence[np.ndarray]) -> np.ndarray:
    """Each checkpoint's unweighted mean over benchmarks of the mean over problems.

    scores: for each benchmark an array (checkpoints, problems).
    """
    return np.mean([of_benchmark.mean(axis=1) for of_benchmark in scores], axis=0)


def best(scores: Sequence[np.ndarray]) -> int:
    """The checkpoint with the highest mean on all problems, the earliest of equals: OPEFO's and REPO's rule.

    Its mean is biased upwards as an estimate of what the checkpoint can do, see above.
    """
    return int(means(scores).argmax())


def held_out(scores: Sequence[np.ndarray], seed: int, halves: int = HALVES) -> HeldOut:
    """Choose on one half of each benchmark's problems, measure on the other half, and the other way round.

    scores: as in `means`. seed: of numpy's default generator. halves: random halvings that are averaged over.
    Raises ValueError for a benchmark with fewer than two problems: it has no halves.
    """
    if not scores or any(of_benchmark.shape[1] < 2 for of_benchmark in scores):
        raise ValueError("choosing on held-out halves: every benchmark needs at least two problems")
    generator = np.random.default_rng(seed)
    totals = [np.zeros(of_benchmark.shape[1]) for of_benchmark in scores]
    chosen = np.zeros(len(scores[0]))
    for _ in range(halves):
        split = [np.array_split(generator.permutation(s.shape[1]), 2) for s in scores]
        first, second = zip(*split, strict=True)
        for choosing, measured in ((first, second), (second, first)):
            step = best([s[:, half] for s, half in zip(scores, choosing, strict=True)])
            chosen[step] += 1
            for total, of_benchmark, half in zip(totals, scores, measured, strict=True):
                total[half] += of_benchmark[step, half]
    by_problem = [total / halves for total in totals]
    value = float(np.mean([values.mean() for values in by_problem]))
    return HeldOut(value, by_problem, chosen / chosen.sum())
