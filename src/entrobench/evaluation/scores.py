"""scores.csv from graded samples: the one place that it and the tables get their numbers from.

An `error`, an answer that the grader could not decide, is not correct in `value`, which is so a lower bound;
`value_high` is the upper one, with every error correct, and `error_share` says how far apart they can be.
`value_second` is the score by the second opinion, `value_both` that of the answers that both accept: columns
of benchmarks whose grader has one, and of metrics that are no vote, which counts by the first's equality.
`official` is the mean over categories as a benchmark's authors have it (statistics/official_means.py),
`scenario_goal_completion` AppWorld's mean over scenarios, all of whose tasks have to be done.
`value_clean` leaves out the problems that stand in the cell's training set (data/contamination.py).
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from entrobench.cells import read_cell
from entrobench.data.contamination import AUDIT, contaminated
from entrobench.errors import MissingInput
from entrobench.evaluation.graded import keep_graded
from entrobench.evaluation.outcomes import Outcomes, Reading, measure
from entrobench.evaluation.samples import Sample, stream_samples
from entrobench.files import read_json, write_atomic
from entrobench.statistics.official_means import OFFICIAL_MEANS

PASS_AT = (1, 4, 5, 8, 10, 64)
COMBINED_AT = 64
IN_DOMAIN = "in_domain"
COLUMNS = [
    "benchmark", "metric", "value", "ci_low", "ci_high", "n_problems", "n_samples",
    "n_errors", "error_share", "value_high", "value_second", "value_both", "n_errors_second",
    "value_clean", "n_problems_clean",
]  # fmt: skip
OFFICIAL = "official"
SCENARIO = "scenario_goal_completion"
Part = tuple[Outcomes, str]
# Weights of groups of these sizes, with the sum 1
Weigh = Callable[[Sequence[int]], list[float]]


def score(
    samples_by_benchmark: Mapping[str, Iterable[Sample]],
    in_domain: list[str],
    dirty: Mapping[str, set[str]] | None = None,
) -> pd.DataFrame:
    """scores.csv: one row per benchmark and metric (statistics/metrics.py), and pooled over `in_domain` as a
    macro average, where all of them were run.

    dirty: of each benchmark that was compared with the training set, the problems that stand in it. Columns:
    COLUMNS; ci_low and ci_high of 95 % (statistics/intervals.py), n_samples per problem, the fewest of a
    pool; empty where there is nothing to say. Values in [0, 1]; metrics of k samples are shown for the k that
    n allows. Raises MissingInput where answers need a grader that is not installed.
    """
    outcomes = {name: Outcomes.of([samples]) for name, samples in samples_by_benchmark.items()}
    rows = []
    for name, found in outcomes.items():
        rows += [_row(name, metric, [(found, metric)], dirty or {}) for metric in metrics_of(found)]
        rows += _official_rows(name, found, dirty or {})
        scenarios = found.by_scenario()
        if scenarios is not None:
            rows.append(_row(name, SCENARIO, [(scenarios, f"mean@{found.n_samples}")], {}))
    if in_domain and set(in_domain) <= set(outcomes):
        inside = [found for name, found in outcomes.items() if name in in_domain]
        pooled = [[(found, f"mean@{found.n_samples}") for found in inside]]
        if all(found.n_samples >= COMBINED_AT for found in inside):
            pooled.append([(found, f"combined@{COMBINED_AT}") for found in inside])
        rows += [_row(IN_DOMAIN, _common_name(parts), parts, dirty or {}) for parts in pooled]
    frame = pd.DataFrame(rows, columns=COLUMNS)
    return frame.astype({"n_errors_second": "Int64", "n_problems_clean": "Int64"})


def _common_name(parts: Sequence[Part]) -> str:
    """The metric of all parts; `mean@1-32` where benchmarks have between 1 and 32 samples a problem."""
    names = list(dict.fromkeys(metric for _, metric in parts))
    if len(names) == 1:
        return names[0]
    kind = names[0].partition("@")[0]
    numbers = sorted(int(name.partition("@")[2]) for name in names)
    return f"{kind}@{numbers[0]}-{numbers[-1]}"


def metrics_of(found: Outcomes) -> list[str]:
    """The metrics of a benchmark that its number of samples allows, and the vote where answers have one."""
    n = found.n_samples
    names = [f"mean@{n}", *(f"pass@{k}" for k in PASS_AT if k <= n)]
    # Of all samples both estimators are the same
    names += [f"pass_first@{k}" for k in PASS_AT if k < n]
    names += [f"instruction@{n}"] if found.has_instructions else []
    return [*names, f"maj@{n}"] if n > 1 and found.kind.are_equal is not None else names


def _official_rows(name: str, found: Outcomes, dirty: Mapping[str, set[str]]) -> list[dict[str, Any]]:
    """The row of the authors' mean over categories; none for a benchmark without one, nor for a slice of it
    that lacks a category.
    """
    official = OFFICIAL_MEANS.get(found.benchmark)
    if official is None:
        return []
    by_category = found.by_category()
    try:
        weigh = _category_weights(official, list(by_category))
        weigh([len(part.attempts) for part in by_category.values()])
    except ValueError:
        return []
    metric = f"mean@{found.n_samples}"
    parts = [(part, metric) for part in by_category.values()]
    return [_row(name, OFFICIAL, parts, dirty, weigh)]


def _category_weights(official: Callable[[Any], float], categories: Sequence[str | None]) -> Weigh:
    """Weights of categories of these sizes in the authors' mean, which is linear: what it is where one
    category has the value 1 and all others 0.
    """

    def weigh(sizes: Sequence[int]) -> list[float]:
        return [
            official(
                {other: [float(other == one)] * size for other, size in zip(categories, sizes, strict=True)}
            )
            for one in categories
        ]

    return weigh


def _equal(sizes: Sequence[int]) -> list[float]:
    return [1 / len(sizes)] * len(sizes)


def _row(
    name: str,
    metric: str,
    parts: Sequence[Part],
    dirty: Mapping[str, set[str]],
    weigh: Weigh = _equal,
) -> dict[str, Any]:
    every = [outcomes for outcomes, _ in parts]
    found = measure(parts, weigh([len(outcomes.attempts) for outcomes in every]))
    row: dict[str, Any] = {
        "benchmark": name,
        "metric": metric,
        "value": found.value,
        "ci_low": found.ci_low,
        "ci_high": found.ci_high,
        "n_problems": found.n_problems,
        "n_samples": found.n_samples,
        "n_errors": found.n_errors,
        "error_share": found.n_errors / sum(outcomes.n_graded for outcomes in every),
        "value_high": _value(parts, "errors_correct", weigh),
    }
    is_vote = any(of_part.startswith("maj@") for _, of_part in parts)
    if all(outcomes.has_second_opinion for outcomes in every) and not is_vote:
        row |= {
            "value_second": _value(parts, "second", weigh),
            "value_both": _value(parts, "both", weigh),
            "n_errors_second": sum(outcomes.n_errors_second for outcomes in every),
        }
    is_of_instructions = any(of_part.startswith("instruction@") for _, of_part in parts)
    if all(outcomes.benchmark in dirty for outcomes in every) and not is_of_instructions:
        clean = [_clean(outcomes, of_part, dirty[outcomes.benchmark]) for outcomes, of_part in parts]
        row["n_problems_clean"] = sum(map(len, clean))
        if all(clean):
            row["value_clean"] = _mean(clean, weigh)
    return row


def _clean(outcomes: Outcomes, metric: str, dirty: set[str]) -> list[float]:
    return [value for problem, value in outcomes.by_problem(metric).items() if problem not in dirty]


def _value(parts: Sequence[Part], reading: Reading, weigh: Weigh) -> float:
    return _mean([list(outcomes.by_problem(metric, reading).values()) for outcomes, metric in parts], weigh)


def _mean(groups: Sequence[Sequence[float]], weigh: Weigh) -> float:
    weights = weigh([len(group) for group in groups])
    return sum(weight * sum(group) / len(group) for weight, group in zip(weights, groups, strict=True))


def score_cell(folder: Path) -> None:
    """Write scores.csv of an evaluated cell, or of a folder with eval/<benchmark>/samples.jsonl alone.

    A folder without cell.yaml has no training set and no in-domain mean. Raises MissingInput or CorruptFile,
    naming the file.
    """
    in_domain: list[str] = []
    asked: dict[str, str] = {}
    dirty: dict[str, set[str]] = {}
    if (folder / "cell.yaml").exists():
        cell = read_cell(folder / "cell.yaml")
        names = list(read_json(folder / "eval.done.json")["benchmarks"])
        in_domain = cell["in_domain"]
        asked = {name: entry.get("benchmark", name) for name, entry in cell["evaluation"].items()}
        # Of the experiment: <paper>/<experiment>/<method>/seed<k>
        audit = folder.parent.parent
        if (audit / AUDIT).exists():
            dirty = contaminated(cell["dataset"]["name"], audit)
    else:
        names = sorted(path.parent.name for path in folder.glob("eval/*/samples.jsonl"))
        if not names:
            raise MissingInput(
                f"{folder} holds neither cell.yaml nor eval/<benchmark>/samples.jsonl. A cell's samples come "
                f"from: entrobench evaluate CELL; anybody's from: entrobench import-samples"
            )
    files = {name: folder / "eval" / name / "samples.jsonl" for name in names}
    samples = {
        name: keep_graded(path, stream_samples(path, asked.get(name, name))) for name, path in files.items()
    }
    write_atomic(folder / "scores.csv", score(samples, in_domain, dirty).to_csv(index=False))
