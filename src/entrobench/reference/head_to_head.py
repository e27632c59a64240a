"""Every method on one experiment, from the bundle: scores, ranks, entropy, diversity, cost.

A score is the mean over in-domain benchmarks of mean@n, with the interval of statistics/intervals.py over
problems and seeds. Each method is compared with the baseline on the same problems; p is that of a normal
whose 95 % interval the difference has, adjusted by Holm over the table. A method's rank lies between one more
than the number of methods that are better and the number of those that are not worse, where `better` is
decided by the same test over all pairs, adjusted by Holm over all of them. Methods that no test tells apart
share a rank.
"""

from collections.abc import Mapping, Sequence
from itertools import combinations

import numpy as np
import pandas as pd
from scipy import stats

from entrobench.statistics.comparisons import holm
from entrobench.statistics.intervals import Estimate, difference_of, mean_of, weighted

LEVEL = 0.05
LAST_STEPS = 8
Z95 = float(stats.norm.ppf(0.975))
# Benchmark -> of each method its matrix of values, seeds x problems
Matrices = Mapping[str, Mapping[str, np.ndarray]]


def table(
    outcomes: pd.DataFrame, curves: pd.DataFrame, runs: pd.DataFrame, in_domain: Sequence[str], baseline: str
) -> pd.DataFrame:
    """A row a method, best score first; of the bundle's tables of one experiment.

    score, score_low, score_high; difference, its interval and p from the baseline; rank_low, rank_high;
    ood: the same mean over the other benchmarks; pass_gap: pass@n - mean@n, and distinct: distinct answers of
    n samples, both in domain; entropy_last: over the last LAST_STEPS steps, entropy_sum: over all steps,
    reward_last; tokens: generated, millions a run; seconds: of training a run; seeds.
    """
    n_samples = int(outcomes["sample"].max()) + 1
    matrices = _matrices(outcomes, in_domain)
    methods = list(next(iter(matrices.values())))
    scores = {method: _mean([of[method] for of in matrices.values()], n_samples) for method in methods}
    pairs = {pair: _difference(matrices, *pair, n_samples) for pair in combinations(sorted(methods), 2)}
    p_of_pairs = dict(zip(pairs, holm([_p(found) for found in pairs.values()]), strict=True))
    others = [method for method in methods if method != baseline]
    to_baseline = {method: _difference(matrices, method, baseline, n_samples) for method in others}
    p_of = dict(zip(others, holm([_p(found) for found in to_baseline.values()]), strict=True))
    rows = []
    for method in methods:
        better = worse = 0
        for (first, second), p in p_of_pairs.items():
            if p <= LEVEL and method in (first, second):
                is_ahead = (pairs[first, second].value > 0) == (method == first)
                worse, better = worse + is_ahead, better + (not is_ahead)
        found = scores[method]
        row = {
            "method": method,
            "score": found.value, "score_low": found.low, "score_high": found.high,
            "rank_low": better + 1, "rank_high": len(methods) - worse,
        }  # fmt: skip
        if method != baseline:
            gap = to_baseline[method]
            row |= {"difference": gap.value, "difference_low": gap.low, "difference_high": gap.high}
            row["p"] = p_of[method]
        rows.append(row)
    frame = pd.DataFrame(rows).set_index("method")
    frame["ood"] = _outside(outcomes, in_domain)
    frame = frame.join(_diversity(outcomes[outcomes["benchmark"].isin(in_domain)], n_samples))
    frame = frame.join(_of_curves(curves)).join(_of_runs(runs))
    return frame.sort_values("score", ascending=False).reset_index()


def _matrices(outcomes: pd.DataFrame, benchmarks: Sequence[str]) -> dict[str, dict[str, np.ndarray]]:
    shares = outcomes.groupby(["benchmark", "method", "seed", "problem"], observed=True)["correct"].mean()
    return {
        benchmark: {
            str(method): of_method.unstack("problem").to_numpy(float)
            for method, of_method in shares[benchmark].groupby("method", observed=True)
        }
        for benchmark in benchmarks
    }


def _mean(values: Sequence[np.ndarray], n_samples: int) -> Estimate:
    return weighted([mean_of(each, n_samples) for each in values], [1 / len(values)] * len(values))


def _difference(matrices: Matrices, first: str, second: str, n_samples: int) -> Estimate:
    parts = [difference_of(of[first], of[second], n_samples, n_samples) for of in matrices.values()]
    return weighted(parts, [1 / len(parts)] * len(parts))


def _p(difference: Estimate) -> float:
    """Two-sided, from the arm of the interval that reaches towards 0."""
    arm = difference.value - difference.low if difference.value > 0 else difference.high - difference.value
    return 1.0 if difference.value == 0 else float(2 * stats.norm.sf(Z95 * abs(difference.value) / arm))


def _outside(outcomes: pd.DataFrame, in_domain: Sequence[str]) -> pd.Series:
    others = outcomes[~outcomes["benchmark"].isin(in_domain)]
    return others.groupby(["method", "benchmark"], observed=True)["correct"].mean().groupby("method").mean()


def _diversity(outcomes: pd.DataFrame, n_samples: int) -> pd.DataFrame:
    of_problem = outcomes.groupby(["method", "seed", "benchmark", "problem"], observed=True)
    counts = of_problem["correct"].sum()
    solved = (counts > 0).groupby("method").mean()  # pass@n of n samples
    gap = solved - counts.groupby("method").mean() / n_samples
    distinct = of_problem["answer"].nunique().groupby("method").mean()
    return pd.DataFrame({"pass_gap": gap, "distinct": distinct})


def last_steps(curves: pd.DataFrame) -> pd.DataFrame:
    """Their rows of the last LAST_STEPS steps."""
    return curves[curves["step"] > curves["step"].max() - LAST_STEPS]


def _of_curves(curves: pd.DataFrame) -> pd.DataFrame:
    last = last_steps(curves).groupby("method", observed=True)
    by_run = curves.groupby(["method", "seed"], observed=True)["entropy"].sum()
    return pd.DataFrame(
        {
            "entropy_last": last["entropy"].mean(),
            "entropy_sum": by_run.groupby("method").mean(),
            "reward_last": last["reward"].mean(),
        }
    )


def _of_runs(runs: pd.DataFrame) -> pd.DataFrame:
    of_method = runs.groupby("method")
    return pd.DataFrame(
        {
            "tokens": of_method["tokens_generated"].mean() / 1e6,
            "seconds": of_method["seconds"].mean(),
            "seeds": of_method["seed"].nunique(),
        }
    )
