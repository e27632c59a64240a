"""Envelopes: where a method's curve lies over seeds, and whether another run's lies there too.

A curve is averaged over blocks of steps. A controller's coefficient wanders, with the entropy of its own run,
so that its mean says little; how it answers to the entropy says more, and has a value too: Spearman's
correlation, over ANSWER_BLOCKS blocks, of the coefficient with the change of entropy over LAG steps. Of each
method, metric and block the envelope is the mean over the reference's seeds and

    mean +- c s sqrt(1 + 1 / K)         K seeds

with s^2 the variance over seeds, of this method's K - 1 degrees of freedom joined with the mean variance of
all methods, which counts as PRIOR degrees: three seeds alone say little of a variance (Smyth 2004, the
moderated t). A run leaves its envelope where one value of any metric and block does. So c is that of a whole
run: of each of the N runs, left out of its own envelope, the highest |z|; c is the k-th smallest of these
with k = ceil((1 - ALARMS) (N + 1)), or the largest. Then a run of the same kind exceeds it with a chance of
(N + 1 - k) / (N + 1) at most (split conformal prediction; Vovk, Gammerman and Shafer 2005).
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import cast

import numpy as np
import pandas as pd

# Metrics of a curve that an envelope has; of some methods
COEFFICIENTS = ("omega_neg", "opefo/lambda", "repo/zeta", "adapo/clip_ratio_high")
METRICS = ("entropy", "reward", "response_length", "grad_norm", *COEFFICIENTS)
# Steps
BLOCK = 8
# What the answer of a coefficient to the entropy is called, and how it is taken
ANSWER = " against entropy"
ANSWER_BLOCKS = 4
LAG = 4
PRIOR = 4.0
# Share of runs of the same method and settings that are said to leave their envelope
ALARMS = 0.05
# A metric that is nearly constant over seeds would have no width: shares of the mean size of its values
SMALLEST = 0.01
Values = pd.Series  # of (metric, block)


@dataclass(frozen=True)
class Departure:
    """Where a run leaves its envelope."""

    metric: str
    first_step: int
    last_step: int
    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return (
            f"{self.metric} {self.value:.4g} in steps {self.first_step} to {self.last_step}, "
            f"expected {self.low:.4g} to {self.high:.4g}"
        )


def steps_of(metric: str) -> int:
    """Steps of a block of this metric."""
    return ANSWER_BLOCKS * BLOCK if metric.endswith(ANSWER) else BLOCK


def blocks_of(curve: pd.DataFrame) -> Values:
    """Mean of each metric, and answer of each coefficient, in each of its whole blocks: by (metric, block
    from 0).
    """
    there = [metric for metric in METRICS if metric in curve and curve[metric].notna().any()]
    block = (curve["step"] - 1) // BLOCK
    means = curve[there].groupby(block).mean()[block.value_counts().sort_index() == BLOCK]
    values = cast(Values, pd.concat([means.T.stack(), _answers(curve, there)]))
    values.index.names = ["metric", "block"]
    return values


def _answers(curve: pd.DataFrame, metrics: Sequence[str]) -> Values:
    change = curve["entropy"].diff(LAG) if "entropy" in curve else pd.Series(index=curve.index, dtype=float)
    block = (curve["step"] - 1) // (ANSWER_BLOCKS * BLOCK)
    found = {}
    for name in COEFFICIENTS:
        for number, steps in curve.groupby(block).groups.items() if name in metrics else ():
            if len(steps) == ANSWER_BLOCKS * BLOCK and curve.loc[steps, name].nunique() > 1:
                found[name + ANSWER, number] = curve.loc[steps, name].corr(change[steps], method="spearman")
    return pd.Series(found, index=pd.MultiIndex.from_tuples(found, names=["metric", "block"]), dtype=float)


def values_of(curves: pd.DataFrame) -> pd.DataFrame:
    """Blocks of all runs of one experiment: a column a run, named (method, seed)."""
    runs = curves.groupby(["method", "seed"], observed=True)
    return pd.DataFrame({name: blocks_of(curve) for name, curve in runs})


@dataclass(frozen=True)
class Envelopes:
    """Of one experiment. values: as values_of. pooled: mean variance over seeds, of all methods, by (metric,
    block). limit: c above; alarms: the chance of a false alarm.
    """

    values: pd.DataFrame
    pooled: Values
    limit: float
    alarms: float

    @classmethod
    def of(cls, curves: pd.DataFrame) -> "Envelopes | None":
        """From the curves of all runs; None where no method has three seeds."""
        values = values_of(curves)
        of_method = [_seeds(values, method) for method in methods_with_seeds(values)]
        if not of_method:
            return None
        pooled = pd.concat([frame.var(axis=1) for frame in of_method], axis=1).mean(axis=1)
        highest = sorted(max_z for _, _, max_z in left_out(values, pooled))
        number = len(highest)
        k = min(math.ceil((1 - ALARMS) * (number + 1)), number)
        return cls(values, pooled, highest[k - 1], 1 - k / (number + 1))

    def methods(self) -> list[str]:
        """Those that have an envelope."""
        return methods_with_seeds(self.values)

    def band(self, method: str) -> pd.DataFrame:
        """mean, low and high by (metric, block)."""
        mean, sd = _center(_seeds(self.values, method), self.pooled)
        return pd.DataFrame({"mean": mean, "low": mean - self.limit * sd, "high": mean + self.limit * sd})

    def departures(self, method: str, curve: pd.DataFrame) -> list[Departure]:
        """Where a run of `method` leaves the envelope; what it has not reached is not asked for."""
        band = self.band(method).dropna()
        values = blocks_of(curve).reindex(band.index).dropna()
        band = band.loc[values.index]
        is_out = (values < band["low"]) | (values > band["high"])
        return [
            Departure(
                str(metric),
                steps_of(metric) * int(block) + 1,
                steps_of(metric) * (int(block) + 1),
                float(values[metric, block]),
                float(band.loc[(metric, block), "low"]),
                float(band.loc[(metric, block), "high"]),
            )
            for metric, block in band.index[is_out]
        ]


def methods_with_seeds(values: pd.DataFrame) -> list[str]:
    """Methods of three seeds or more."""
    if values.empty:
        return []
    counts = values.columns.get_level_values(0).value_counts(sort=False)
    return [str(method) for method, number in counts.items() if number >= 3]


def left_out(values: pd.DataFrame, pooled: Values) -> Iterator[tuple[str, int, float]]:
    """(method, seed, highest |z|) of each run, against the envelope of the method's other seeds."""
    for method in methods_with_seeds(values):
        seeds = _seeds(values, method)
        for seed in seeds.columns:
            mean, sd = _center(seeds.drop(columns=seed), pooled)
            z = ((seeds[seed] - mean) / sd).abs()
            yield method, int(seed), float(z.max())


def _seeds(values: pd.DataFrame, method: str) -> pd.DataFrame:
    """A column a seed; what the method has no value of is left out."""
    return cast(pd.DataFrame, values.xs(method, axis=1, level=0)).dropna()


def _center(seeds: pd.DataFrame, pooled: Values) -> tuple[Values, Values]:
    """Mean, and the standard deviation of another run around it."""
    number = seeds.shape[1]
    mean = seeds.mean(axis=1)
    own = seeds.var(axis=1) if number > 1 else 0 * mean
    variance = (PRIOR * pooled.reindex(mean.index) + (number - 1) * own) / (PRIOR + number - 1)
    size = mean.abs().groupby("metric").transform("mean")
    return mean, np.sqrt(variance.clip(lower=(SMALLEST * size) ** 2) * (1 + 1 / number))
