"""Scores of graded samples: the one place that scores.csv and the tables get their numbers from."""

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from entrobench.cells import read_cell
from entrobench.data.contamination import contaminated_ids
from entrobench.evaluation.samples import Sample, read_samples
from entrobench.files import read_json, write_atomic
from entrobench.statistics.bootstrap import cluster_bootstrap
from entrobench.statistics.metrics import value_of

PASS_AT = (1, 4, 5, 8, 10, 64)
IN_DOMAIN = "in_domain"
COLUMNS = ["benchmark", "metric", "value", "ci_low", "ci_high", "n_problems", "n_samples", "n_errors"]


@dataclass(frozen=True)
class Outcomes:
    """Graded samples of one benchmark, over the training seeds of a cell.

    correct: for each problem its (correct samples, samples) in each seed. A grader's `error` is not correct;
    n_errors counts them among n_graded samples.
    """

    correct: dict[str, list[tuple[int, int]]]
    n_seeds: int
    n_errors: int
    n_graded: int

    @classmethod
    def of(cls, runs: Sequence[Sequence[Sample]]) -> "Outcomes":
        """The outcomes of the same benchmark in the runs of several seeds."""
        correct: dict[str, list[tuple[int, int]]] = defaultdict(list)
        for samples in runs:
            drawn = Counter(sample.problem_id for sample in samples)
            right = Counter(sample.problem_id for sample in samples if sample.verdict == "correct")
            for problem, n in drawn.items():
                correct[problem].append((right[problem], n))
        everything = [sample for samples in runs for sample in samples]
        errors = sum(sample.verdict == "error" for sample in everything)
        return cls(dict(correct), len(runs), errors, len(everything))

    @property
    def n_samples(self) -> int:
        """Samples of a problem in one seed."""
        return next(iter(self.correct.values()))[0][1]

    def by_problem(self, metric: str) -> list[float]:
        """The metric of each problem, averaged over seeds; in [0, 1]."""
        return [sum(value_of(metric, c, n) for c, n in seeds) / len(seeds) for seeds in self.correct.values()]


@dataclass(frozen=True)
class Score:
    """A mean over problems, or a macro average over benchmarks, with its 95 % interval; all in [0, 1]."""

    value: float
    ci_low: float
    ci_high: float
    n_problems: int
    n_samples: int
    n_seeds: int
    n_errors: int


def measure(parts: Sequence[tuple[Outcomes, str]], seed: int = 0) -> Score:
    """Score of (benchmark, metric), or of several with equal weights. seed: of the interval's bootstrap."""
    groups = [outcomes.by_problem(metric) for outcomes, metric in parts]
    low, high = cluster_bootstrap(groups, seed)
    every = [outcomes for outcomes, _ in parts]
    return Score(
        value=sum(sum(group) / len(group) for group in groups) / len(groups),
        ci_low=low,
        ci_high=high,
        n_problems=sum(map(len, groups)),
        n_samples=every[0].n_samples,
        n_seeds=min(outcomes.n_seeds for outcomes in every),
        n_errors=sum(outcomes.n_errors for outcomes in every),
    )


def score(samples_by_benchmark: dict[str, list[Sample]], in_domain: list[str], seed: int = 0) -> pd.DataFrame:
    """scores.csv: one row per benchmark and metric, and mean@n pooled over `in_domain` as a macro average,
    where all of them were run.

    Columns: COLUMNS; ci_low and ci_high of a 95 % cluster bootstrap over problems, n_samples per problem.
    Values in [0, 1]; pass@k is shown for the k of PASS_AT that n allows.
    """
    outcomes = {benchmark: Outcomes.of([samples]) for benchmark, samples in samples_by_benchmark.items()}
    rows = []
    for benchmark, found in outcomes.items():
        n = found.n_samples
        for metric in (f"mean@{n}", *(f"pass@{k}" for k in PASS_AT if k <= n)):
            rows.append(_row(benchmark, metric, measure([(found, metric)], seed)))
    if in_domain and set(in_domain) <= set(outcomes):
        # In the order of the samples, which decides over the bootstrap's draws
        parts = [(found, f"mean@{found.n_samples}") for name, found in outcomes.items() if name in in_domain]
        rows.append(_row(IN_DOMAIN, parts[0][1], measure(parts, seed)))
    return pd.DataFrame(rows, columns=COLUMNS)


def _row(benchmark: str, metric: str, found: Score) -> tuple[str | float, ...]:
    n = (found.n_problems, found.n_samples, found.n_errors)
    return (benchmark, metric, found.value, found.ci_low, found.ci_high, *n)


def clean_samples(
    samples_by_benchmark: dict[str, list[Sample]], dataset: str, audit: Path
) -> dict[str, list[Sample]]:
    """The samples of problems that do not stand in the training set; a benchmark without any is left out.

    audit: the folder of contamination.csv. Raises MissingInput for a pair that was not audited.
    """
    clean = {}
    for benchmark, samples in samples_by_benchmark.items():
        dirty = contaminated_ids(benchmark, dataset, audit)
        clean[benchmark] = [sample for sample in samples if sample.problem_id not in dirty]
    return {benchmark: samples for benchmark, samples in clean.items() if samples}


def score_cell(folder: Path, audit: Path | None = None) -> None:
    """Write scores.csv of an evaluated cell; with the folder of contamination.csv also scores_clean.csv.

    Raises MissingInput or CorruptFile, naming the file.
    """
    cell = read_cell(folder / "cell.yaml")
    evaluated = read_json(folder / "eval.done.json")["benchmarks"]
    samples = {name: read_samples(folder / "eval" / name / "samples.jsonl") for name in evaluated}
    write_atomic(folder / "scores.csv", score(samples, cell["in_domain"]).to_csv(index=False))
    if audit is not None:
        clean = clean_samples(samples, cell["dataset"]["name"], audit)
        write_atomic(folder / "scores_clean.csv", score(clean, cell["in_domain"]).to_csv(index=False))
