"""Coverage of the intervals, and what a table of ten rows and ten columns costs.

    python benchmarks/intervals.py        (half a minute)

Coverage: how often the interval of 30 problems holds the mean over all problems, at five means and five
spreads of difficulty, from all or nothing to all alike; beside it a percentile bootstrap over problems, as
most reports have it. Limits of the table: 5 s, 300 MB.
"""

import resource
import time

import numpy as np

from entrobench.statistics.comparisons import holm, sign_flip
from entrobench.statistics.intervals import difference_of, mean_of, weighted

MEANS, SPREADS = (0.02, 0.05, 0.15, 0.5, 0.85), (0.1, 0.5, 2.0, 5.0, 20.0)
PROBLEMS, SAMPLES, REPETITIONS = 30, 8, 400
COLUMNS = (675, 40, 30, 30, 500, 272, 800, 541, 12_032, 417)
ROWS, SEEDS = 10, 3
SECONDS, MEMORY_MB = 5, 300


def coverage(generator: np.random.Generator) -> None:
    """Print how often each interval holds the true mean."""
    print(
        f"coverage of 95 % intervals, {PROBLEMS} problems x {SAMPLES} samples: ours, bootstrap (mean width)"
    )
    print("spread " + "".join(f"{100 * mean:>28.0f} %" for mean in MEANS))
    for spread in SPREADS:
        cells = []
        for mean in MEANS:
            chances = generator.beta(mean * spread, (1 - mean) * spread, size=(REPETITIONS, PROBLEMS))
            values = generator.binomial(SAMPLES, chances) / SAMPLES
            ours = [mean_of(row[None], SAMPLES) for row in values]
            theirs = [bootstrap(row, generator) for row in values]
            shares = [
                100 * np.mean([low <= mean <= high for low, high in pairs])
                for pairs in ([(one.low, one.high) for one in ours], theirs)
            ]
            width = 100 * np.mean([one.high - one.low for one in ours])
            cells.append(f"{shares[0]:6.1f} {shares[1]:6.1f} ({width:4.1f} points)")
        print(f"{spread:6} " + "".join(f"{cell:>30}" for cell in cells), flush=True)


def bootstrap(values: np.ndarray, generator: np.random.Generator) -> tuple[float, float]:
    """Percentile interval of 500 draws of the problems."""
    means = values[generator.integers(len(values), size=(500, len(values)))].mean(axis=1)
    low, high = np.percentile(means, [2.5, 97.5])
    return float(low), float(high)


def table(generator: np.random.Generator) -> None:
    """Print seconds and memory of a table's intervals, differences and tests."""
    data = [
        generator.binomial(SAMPLES, generator.beta(0.5, 0.5, problems), size=(ROWS, SEEDS, problems))
        / SAMPLES
        for problems in COLUMNS
    ]
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    started = time.monotonic()
    weights = [1 / len(COLUMNS)] * len(COLUMNS)
    for row in range(ROWS):
        weighted([mean_of(column[row], SAMPLES) for column in data], weights)
    p_values = []
    for column in data:
        for row in range(1, ROWS):
            difference_of(column[row], column[0], SAMPLES, SAMPLES)
            p_values.append(sign_flip(column[row].mean(0) - column[0].mean(0), seed=0))
    holm(p_values)
    seconds = time.monotonic() - started
    memory = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    print(f"\n{ROWS} rows x {len(COLUMNS)} columns ({sum(COLUMNS):,} problems) x {SEEDS} seeds: intervals of")
    print(
        f"{ROWS * len(COLUMNS)} cells, {ROWS} means, {len(p_values)} differences with 10,000 sign flips each"
    )
    print(f"time    {seconds:6.1f} s  (limit {SECONDS})")
    print(f"memory  {memory:6.0f} MB beyond the data (limit {MEMORY_MB})")


def main() -> None:
    generator = np.random.default_rng(0)
    coverage(generator)
    table(generator)


if __name__ == "__main__":
    main()
