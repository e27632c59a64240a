"""checkpoints.csv and selection.csv of a cell of which checkpoints along the way were evaluated.

What the papers do: OPEFO saves a checkpoint every 10 steps and evaluates the one with the highest average
accuracy over the six test sets (Section 6.1). REPO reports, for each test set by itself, the highest score of
any checkpoint beside the mean (Tables 1, 2, 4, 5, 7), and goes on from the best checkpoint (Section 5.3);
which checkpoints it evaluates is not stated. Neither keeps problems for the choice: it is made on the test
set that is reported. statistics/selection.py says what is wrong with that.

selection.csv has three rules side by side, for each benchmark, as REPO chooses, and for the in-domain mean,
as OPEFO does: BEST, LAST, HELD_OUT. `optimism` of BEST is its value less that of HELD_OUT; it may come out
negative by chance. Intervals are of the problems, with the choice taken as given: the one of BEST is what a
paper would print, and too high as its value is. The last checkpoint is a candidate too.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from entrobench.cells import read_cell
from entrobench.errors import ConfigError
from entrobench.evaluation.outcomes import Outcomes
from entrobench.evaluation.places import Place, evaluated_steps
from entrobench.evaluation.samples import Sample, stream_samples
from entrobench.evaluation.scores import IN_DOMAIN, score
from entrobench.files import read_csv, read_json, write_atomic
from entrobench.statistics.intervals import mean_of, weighted
from entrobench.statistics.selection import best, held_out, means

CHECKPOINTS, SELECTION = "checkpoints.csv", "selection.csv"
BEST, LAST, HELD_OUT = "best by the paper's rule", "last", "best on a held-out half"
SCORE_COLUMNS = [
    "benchmark", "metric", "value", "ci_low", "ci_high", "n_problems", "n_samples", "n_errors",
]  # fmt: skip
# What has to be the same for checkpoints to be compared
SAME = ("problems_sha256", "prompts_sha256", "sampling", "grader")

# By benchmark and problem: the share of correct samples
Values = dict[str, dict[str, float]]


def score_checkpoints(folder: Path) -> None:
    """Write checkpoints.csv and selection.csv of a cell that score_cell has scored; nothing for one without
    evaluated checkpoints along the way.

    Raises MissingInput or CorruptFile, naming the file, and ConfigError for a checkpoint that was evaluated
    otherwise than the last one.
    """
    if not evaluated_steps(folder):
        return
    cell = read_cell(folder / "cell.yaml")
    last = read_json(folder / "train.done.json")["steps"]
    steps = [step for step in evaluated_steps(folder) if step < last]
    places = {step: Place(folder, step) for step in steps} | {last: Place(folder)}
    for step in steps:
        _require_same(cell, places[step], places[last])
    missing = sorted(set(cell.get("evaluated_milestones", [])) - set(steps))
    if missing:
        print(f"notice: {folder}: steps {missing} are not evaluated yet and no candidates", flush=True)
    entries = {name: cell["evaluation"][name] for name in read_json(places[last].done)["benchmarks"]}
    asks = {name: entry.get("benchmark", name) for name, entry in entries.items()}
    frames = {step: _scores(places[step], asks, cell["in_domain"]) for step in steps}
    frames[last] = read_csv(folder / "scores.csv")[SCORE_COLUMNS]
    curve = pd.concat([frame.assign(step=step)[["step", *SCORE_COLUMNS]] for step, frame in frames.items()])
    write_atomic(folder / CHECKPOINTS, curve.to_csv(index=False))
    means_at = frames[last].drop_duplicates("benchmark").set_index("benchmark")
    values = {step: _values(place, asks) for step, place in places.items()}
    n_samples = {str(name): int(n) for name, n in means_at["n_samples"].items()}
    chosen = selection(values, cell["in_domain"], n_samples)
    for column in ("metric", "n_samples"):
        chosen[column] = chosen["benchmark"].map(means_at[column])
    write_atomic(folder / SELECTION, chosen.to_csv(index=False))


def _require_same(cell: dict[str, Any], place: Place, last: Place) -> None:
    found, expected = (read_json(at.done)["benchmarks"] for at in (place, last))
    different = [name for name in expected if name not in found]
    different += [
        f"{name} ({key})"
        for name in expected
        for key in SAME
        if name in found and found[name].get(key) != expected[name].get(key)
    ]
    if different:
        raise ConfigError(
            f"{place.done}: evaluated otherwise than the last checkpoint: {', '.join(different)}.\n  Type: "
            f"entrobench evaluate {cell['cell']}{place.option} --scale {cell['scale']}   and, if that keeps "
            f"everything, the same without{place.option}"
        )


def _samples(place: Place, asks: dict[str, str]) -> dict[str, Iterator[Sample]]:
    """By entry of the evaluation. asks: the benchmark of each entry."""
    return {name: stream_samples(place.samples(name), benchmark) for name, benchmark in asks.items()}


def _scores(place: Place, asks: dict[str, str], in_domain: list[str]) -> pd.DataFrame:
    return score(_samples(place, asks), in_domain)[SCORE_COLUMNS]


def _values(place: Place, asks: dict[str, str]) -> Values:
    outcomes = {name: Outcomes.of([samples]) for name, samples in _samples(place, asks).items()}
    return {name: found.by_problem(f"mean@{found.n_samples}") for name, found in outcomes.items()}


def selection(
    values: dict[int, Values], in_domain: Sequence[str], n_samples: dict[str, int], seed: int = 0
) -> pd.DataFrame:
    """selection.csv: a row per rule, for each benchmark and for the in-domain mean where all of it was run.

    values: by step in ascending order, the last one's last; the same problems in each. n_samples: of a
    problem, by benchmark. seed: of the halves. A benchmark of one problem has no halves and no rows.
    Columns: step, of HELD_OUT the one that most halves chose; share, of halves that chose it; candidates, the
    steps that the rules had to choose from. score_checkpoints adds the metric, mean@n, and n.
    """
    benchmarks = list(next(iter(values.values())))
    targets = {name: [name] for name in benchmarks}
    if in_domain and set(in_domain) <= set(benchmarks):
        targets[IN_DOMAIN] = [name for name in benchmarks if name in in_domain]
    rows = [row for name, parts in targets.items() for row in _rules(name, parts, values, n_samples, seed)]
    columns = ["benchmark", "rule", "step", "share", "value", "ci_low", "ci_high", "optimism", "candidates"]
    return pd.DataFrame(rows, columns=[*columns, "n_problems"])


def _rules(
    name: str, benchmarks: Sequence[str], values: dict[int, Values], n_samples: dict[str, int], seed: int
) -> list[dict[str, Any]]:
    scores = [_table(benchmark, values) for benchmark in benchmarks]
    if any(of_benchmark.shape[1] < 2 for of_benchmark in scores):
        print(f"notice: {name}: a benchmark of one problem has no halves to choose a checkpoint by")
        return []
    steps = list(values)
    halves = held_out(scores, seed)
    favourite, highest = int(halves.shares.argmax()), best(scores)
    fixed = {"benchmark": name, "candidates": " ".join(map(str, steps))}
    fixed |= {"n_problems": sum(of_benchmark.shape[1] for of_benchmark in scores)}

    def row(rule: str, index: int, share: float, by_problem: list[np.ndarray]) -> dict[str, Any]:
        estimates = [
            mean_of(part[None], n_samples[benchmark])
            for part, benchmark in zip(by_problem, benchmarks, strict=True)
        ]
        found = weighted(estimates, [1 / len(estimates)] * len(estimates))
        chosen = {"rule": rule, "step": steps[index], "share": share}
        return fixed | chosen | {"value": found.value, "ci_low": found.low, "ci_high": found.high}

    optimism = float(means(scores)[highest]) - halves.value
    return [
        row(BEST, highest, 1.0, [part[highest] for part in scores]) | {"optimism": optimism},
        row(LAST, len(steps) - 1, 1.0, [part[-1] for part in scores]),
        row(HELD_OUT, favourite, float(halves.shares[favourite]), halves.by_problem),
    ]


def _table(benchmark: str, values: dict[int, Values]) -> np.ndarray:
    """Of one benchmark, as an array (steps, problems)."""
    problems = list(next(iter(values.values()))[benchmark])
    return np.array([[of_step[benchmark][problem] for problem in problems] for of_step in values.values()])
