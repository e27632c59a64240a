"""A table of a paper beside what was reproduced, read from the cells' samples and curves.

A scale may run other benchmarks or another model in the place of the paper's ("stand-ins"). Then the
difference from the published value would compare two different things and is not shown; what can be compared
is the difference from the table's baseline.

Tests: each row is compared with the baseline on the same problems (statistics/comparisons.py), and Holm's
correction is over all comparisons of the table. A value stands among the best of its column where the test
cannot tell it from the highest, if it can tell some row from it.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from entrobench.cells import benchmark_of, stand_in
from entrobench.configs import Configs, Model, Scale
from entrobench.errors import ConfigError, CorruptFile
from entrobench.evaluation.graded import graded_samples
from entrobench.evaluation.milestones import BEST
from entrobench.evaluation.outcomes import Outcomes, measure
from entrobench.evaluation.samples import stream_samples
from entrobench.files import read_csv, read_json, read_parquet
from entrobench.report.artifacts import (
    LOW_QUALITY,
    ColumnArtifact,
    TableArtifact,
    experiments_at,
    seed_folders,
)
from entrobench.report.categories import CATEGORIES, counts
from entrobench.report.controls import Control, controls_of
from entrobench.report.publication import load_publication
from entrobench.rewards.detectors import response_quality
from entrobench.statistics.comparisons import holm, sign_flip
from entrobench.statistics.intervals import Estimate, difference_of, weighted

TIDY = [
    "model", "row", "column", "benchmark", "published", "reproduced", "ci_low", "ci_high", "n_problems",
    "n_samples", "n_seeds", "seed_sd", "status", "difference", "difference_low", "difference_high", "p_holm",
    "among_best", "control", "cell",
]  # fmt: skip
LEVEL = 0.05
# A cell with a larger share of samples that the grader could not decide is no measurement
MAX_ERROR_SHARE = 0.1


@dataclass(frozen=True)
class Column:
    """A column as this scale runs it. label: the paper's name, or the stand-in's. source: None for a mean of
    columns, whose names are `parts`.
    """

    name: str
    label: str
    source: ColumnArtifact | None
    metric: str
    parts: tuple[str, ...] = ()

    @property
    def benchmark(self) -> str:
        """Whose samples the column is computed from; empty for none."""
        return self.source.benchmark if self.source is not None and not self.source.best else ""


@dataclass(frozen=True)
class Printed:
    """A published value, in the unit and with the digits that are printed."""

    value: float
    digits: int
    unit: str

    @property
    def scale(self) -> int:
        """What a share of 1 is in this unit."""
        return 100 if self.unit == "percent" else 1


@dataclass(frozen=True)
class Entry:
    """One number of the table, in the published one's unit. status: measured, not_run, or control_failed
    where the grader could not decide too many samples. seed_sd: standard deviation of the training seeds'
    means, of one seed no number. difference: from the baseline.
    """

    printed: Printed | None
    status: str = "not_run"
    value: float = math.nan
    low: float = math.nan
    high: float = math.nan
    problems: int | None = None
    samples: int | None = None
    seeds: int | None = None
    seed_sd: float = math.nan
    difference: Estimate | None = None
    p: float | None = None
    is_among_best: bool = False
    control: str = ""
    cell: str = ""

    @property
    def is_measured(self) -> bool:
        return self.status == "measured"

    @property
    def is_different(self) -> bool:
        """From the baseline, after Holm's correction."""
        return self.p is not None and self.p <= LEVEL


@dataclass(frozen=True)
class Comparison:
    """A difference of two rows on the same problems, in the published unit, and the p of its test."""

    difference: Estimate
    p: float


Key = tuple[str, str, str]  # model, row, column, as in the paper


class Table:
    """One table of a paper at one scale."""

    def __init__(
        self,
        name: str,
        artifact: TableArtifact,
        paper: str,
        scale_name: str,
        configs: Configs,
        results: Path,
    ) -> None:
        self.artifact = artifact
        self.paper = paper
        self.configs = configs
        self.results = results
        self.scale: Scale = configs.scale(scale_name)
        self.publication = load_publication(paper, configs).table(name)
        self.frame = load_publication(paper, configs).values(paper, name)

    @property
    def title(self) -> str:
        """As in the paper."""
        return self.publication.title

    @cached_property
    def experiments(self) -> dict[str, str]:
        """Model of the paper -> experiment, for those that this scale shows."""
        shown = experiments_at(self.scale.scale, list(self.artifact.models.values()), self.configs)
        return {model: name for model, name in self.artifact.models.items() if name in shown}

    def model_run(self, model: str) -> Model:
        """The model that really runs in place of the paper's `model`."""
        published = self.configs.protocol(self.paper).experiments[self.experiments[model]].model
        return self.configs.model(stand_in(published, self.scale.models))

    def model_label(self, model: str) -> str:
        """The paper's name, or `<stand-in> for <paper's name>`."""
        return f"{self.model_run(model).model} for {model}" if self.scale.models else model

    # -- columns ---------------------------------------------------------------------------------------------

    @cached_property
    def columns(self) -> list[Column]:
        """The paper's columns that this scale runs, each mean of columns behind the last of them."""
        columns = [
            column
            for name in self.artifact.columns
            if (column := self._column(name, self.artifact.column(name))) is not None
        ]
        for label, parts in (self.publication.means | self.artifact.means).items():
            names = [column.name for column in columns]
            inside = [name for name in names if name in parts]
            if len(inside) < 2 or (not self._is_replaced and len(inside) < len(parts)):
                continue
            mean = Column(label, label, None, "mean of columns", tuple(inside))
            is_of_one_group = len({self.heading_of(part) for part in inside}) == 1
            columns.insert(names.index(inside[-1]) + 1 if is_of_one_group else len(columns), mean)
        return columns

    @property
    def _is_replaced(self) -> bool:
        return self.scale.benchmarks != "as published" or bool(self.scale.models)

    def _column(self, name: str, source: ColumnArtifact) -> Column | None:
        """None for a benchmark that this scale does not run. Raises ConfigError for what is not printed."""
        printed = source.printed[0] if source.printed is not None else name
        metrics = self.frame.loc[self.frame["column"] == printed, "metric"]
        is_named = bool(self.frame.empty and (source.metric or source.curve or source.answers))
        if metrics.empty and not is_named:
            raise ConfigError(
                f"configs/papers/{self.paper}/artifacts.yaml: {self.title}: column {name}: the published "
                f"table has no {printed}, only {', '.join(dict.fromkeys(self.frame['column']))}"
            )
        if source.curve or source.answers:
            return Column(name, name, source, source.curve or source.answers)
        run = source.benchmark
        if self.scale.benchmarks != "as published":
            if run not in self.scale.benchmarks:
                return None
            run = self.scale.benchmarks[run]
        label = name if run == source.benchmark else run
        replaced = source.model_copy(update={"benchmark": run})
        return Column(name, label, replaced, source.metric or str(metrics.iloc[0]))

    def heading_of(self, name: str) -> str:
        """The paper's heading over a column; empty for none."""
        return next((heading for heading, names in self.artifact.groups.items() if name in names), "")

    def printed(self, model: str, row: str, column: Column) -> Printed | None:
        """The published value, of a mean that is not printed that of its columns; None for none."""
        stated = column.source.printed if column.source is not None else None
        name = stated[0] if stated is not None else column.name
        of_row = self.frame[(self.frame["model"] == model) & (self.frame["row"] == row)]
        found = of_row[of_row["column"] == name]
        if stated is not None:
            found = found[found["metric"] == stated[1]]
        if not found.empty:
            text = str(found["value"].iloc[0])
            return Printed(float(text), len(text.partition(".")[2]), str(found["unit"].iloc[0]))
        of_parts = [self.printed(model, row, part) for part in self.columns if part.name in column.parts]
        values = [each for each in of_parts if each is not None]
        if not values or len(values) < len(of_parts):
            return None
        return replace(values[0], value=sum(each.value for each in values) / len(values))

    # -- values ----------------------------------------------------------------------------------------------

    @cached_property
    def entries(self) -> dict[Key, Entry]:
        """Every number of the table. Raises CorruptFile, naming the file."""
        entries: dict[Key, Entry] = {}
        for model, experiment in self.experiments.items():
            for row, method in self.artifact.rows.items():
                runs = self._runs(f"{self.paper}/{experiment}/{method}")
                for column in self.columns:
                    entries[model, row, column.name] = self._entry(model, row, column, runs)
        return self._with_tests(entries)

    def _runs(self, cell: str) -> list[Path]:
        folders = seed_folders(self.results / self.scale.scale / cell)
        return [folder for folder in folders if (folder / "scores.csv").exists()]

    def _entry(self, model: str, row: str, column: Column, runs: list[Path]) -> Entry:
        cell = f"{self.paper}/{self.experiments[model]}/{self.artifact.rows[row]}"
        entry = Entry(
            self.printed(model, row, column),
            control=self._control(model, column),
            cell=" ".join(f"{cell}/{run.name}" for run in runs) or f"{cell}/seed0",
        )
        factor = entry.printed.scale if entry.printed is not None else 100
        if column.source is not None and column.source.best:
            return _of_best(entry, column.source.benchmark, runs, factor)
        if column.source is not None and column.source.curve:
            return _of_curve(entry, column.source, runs)
        if column.source is not None and column.source.answers:
            return _of_answers(entry, column.source.answers, runs)
        parts = self._measured.get((model, row, column.name))
        if parts is None:
            return entry
        found = measure(parts)
        is_graded = all(of.n_errors <= MAX_ERROR_SHARE * of.n_graded for of, _ in parts)
        return replace(
            entry,
            status="measured" if is_graded else "control_failed",
            value=factor * found.value,
            low=factor * found.ci_low,
            high=factor * found.ci_high,
            problems=found.n_problems,
            samples=found.n_samples,
            seeds=found.n_seeds,
            seed_sd=factor * _seed_sd(parts),
        )

    @cached_property
    def _outcomes(self) -> dict[Key, Outcomes]:
        """(model, row, benchmark as run) -> outcomes of all its evaluated seeds."""
        outcomes: dict[Key, Outcomes] = {}
        benchmarks = dict.fromkeys(column.benchmark for column in self.columns)
        for model, experiment in self.experiments.items():
            for row, method in self.artifact.rows.items():
                runs = self._runs(f"{self.paper}/{experiment}/{method}")
                # A benchmark may have no grader where a run was evaluated
                done = {run: read_json(run / "eval.done.json")["benchmarks"] for run in runs}
                for benchmark in benchmarks:
                    evaluated = [run for run in runs if benchmark in done[run]]
                    if evaluated:
                        outcomes[model, row, benchmark] = Outcomes.of(
                            [graded_samples(run / "eval" / benchmark / "samples.jsonl") for run in evaluated]
                        )
        return outcomes

    @cached_property
    def _measured(self) -> dict[Key, list[tuple[Outcomes, str]]]:
        """The outcomes and metrics that a number is the mean of, where all of them were evaluated."""
        measured: dict[Key, list[tuple[Outcomes, str]]] = {}
        for model, row in product(self.experiments, self.artifact.rows):
            for column in self.columns:
                found = self._outcomes.get((model, row, column.benchmark))
                if found is not None and _allows(found, column.metric):
                    measured[model, row, column.name] = [(found, column.metric)]
            for column in self.columns:
                of_parts = [measured.get((model, row, part)) for part in column.parts]
                if of_parts and None not in of_parts:
                    measured[model, row, column.name] = [each for part in of_parts for each in part or ()]
        return measured

    def too_few_samples(self, column: Column) -> str:
        """`pass@64 of 8 samples` where runs have fewer samples a problem than the column's metric asks for;
        of a mean its first such part. Empty where all have enough.
        """
        for part in self.columns:
            if part.name in (column.name, *column.parts):
                of_part = [of for (_, _, name), of in self._outcomes.items() if name == part.benchmark]
                sizes = [of.n_samples for of in of_part if not _allows(of, part.metric)]
                if sizes:
                    return f"{part.metric} of {min(sizes)} samples"
        return ""

    @cached_property
    def conditions(self) -> dict[Key, dict[str, str]]:
        """How the samples of a number were made and graded, in words; of a mean of columns its parts'."""
        found: dict[Key, dict[str, str]] = {}
        for model, experiment in self.experiments.items():
            for row, method in self.artifact.rows.items():
                for run in self._runs(f"{self.paper}/{experiment}/{method}"):
                    done = read_json(run / "eval.done.json")["benchmarks"]
                    for column in self.columns:
                        if done.get(column.benchmark):
                            found[model, row, column.name] = _conditions(done[column.benchmark])
                for column in self.columns:
                    parts = [found.get((model, row, part), {}) for part in column.parts]
                    for part, name in zip(parts, column.parts, strict=True):
                        of_mean = found.setdefault((model, row, column.name), {})
                        of_mean |= {f"{key} of {name}": value for key, value in part.items()}
        return found

    # -- tests -----------------------------------------------------------------------------------------------

    def _with_tests(self, entries: dict[Key, Entry]) -> dict[Key, Entry]:
        """With each row's difference from the baseline, and the rows among the best of each column."""
        tested: dict[Key, Entry] = {}
        for (model, row, column), entry in entries.items():
            base = model, self.artifact.baseline, column
            compared = self._compared((model, row, column), base, entries)
            if row != self.artifact.baseline and compared is not None:
                tested[model, row, column] = replace(entry, difference=compared.difference, p=compared.p)
        corrected = holm([entry.p for entry in tested.values() if entry.p is not None])
        for (key, entry), p in zip(tested.items(), corrected, strict=True):
            entries[key] = replace(entry, p=p)
        for model in self.experiments:
            for name in [column.name for column in self.columns]:
                for row in self._best_rows(model, name, entries):
                    entries[model, row, name] = replace(entries[model, row, name], is_among_best=True)
        return entries

    def compare(self, model: str, row: str, other: str, column: str) -> Comparison | None:
        """A row's difference from another; None where one is not measured, or had other problems."""
        return self._compared((model, row, column), (model, other, column), self.entries)

    def _compared(self, key: Key, other: Key, entries: dict[Key, Entry]) -> Comparison | None:
        """Difference of two entries on the same problems and its p; None where one is not measured, had other
        problems, or was sampled or graded otherwise.
        """
        if key == other or not (entries[key].is_measured and entries[other].is_measured):
            return None
        if key not in self._measured or other not in self._measured:
            return None
        if self.conditions.get(key) != self.conditions.get(other):
            return None
        estimates, differences, weights = [], [], []
        pairs = list(zip(self._measured[key], self._measured[other], strict=True))
        for (ours, metric), (theirs, _) in pairs:
            if set(ours.attempts) != set(theirs.attempts):
                return None
            a_KP, b_KP = (of.matrix(metric, ours.attempts) for of in (ours, theirs))
            estimates.append(difference_of(a_KP, b_KP, ours.n_samples, theirs.n_samples))
            differences.append(a_KP.mean(axis=0) - b_KP.mean(axis=0))
            weights.append(np.full(a_KP.shape[1], 1 / (len(pairs) * a_KP.shape[1])))
        found = weighted(estimates, [1 / len(pairs)] * len(pairs))
        printed = entries[key].printed
        factor = printed.scale if printed is not None else 100
        p = sign_flip(np.concatenate(differences), seed=0, weights_P=np.concatenate(weights))
        return Comparison(Estimate(factor * found.value, factor * found.low, factor * found.high), p)

    def _best_rows(self, model: str, column: str, entries: dict[Key, Entry]) -> list[str]:
        rows = [row for row in self.artifact.rows if entries[model, row, column].is_measured]
        if len(rows) < 2:
            return []
        highest = max(rows, key=lambda row: entries[model, row, column].value)
        others = [row for row in rows if row != highest]
        compared = [self._compared((model, highest, column), (model, row, column), entries) for row in others]
        if any(each is None for each in compared):
            return []
        p_values = holm([each.p for each in compared if each is not None])
        alike = [row for row, p in zip(others, p_values, strict=True) if p > LEVEL]
        return [highest, *alike] if len(alike) < len(others) else []

    # -- controls --------------------------------------------------------------------------------------------

    @cached_property
    def _controls(self) -> list[Control]:
        return controls_of(self.paper, self.scale.scale, self.configs, self.results)

    def controls(self, model: str, column: Column) -> list[Control]:
        """The controls of a column: its own model's, and those of models that stand in no table."""
        parts = [part for part in self.columns if part.name in column.parts] or [column]
        benchmarks = {
            benchmark_of(part.benchmark, self.paper, self.configs) for part in parts if part.benchmark
        }
        others = set(self.artifact.models.values()) - {self.artifact.models[model]}
        return [
            control
            for control in self._controls
            if control.benchmark in benchmarks and control.cell.experiment not in others
        ]

    def _control(self, model: str, column: Column) -> str:
        """missed where one is, met where one is and none is missed; empty where there is none."""
        verdicts = {control.verdict for control in self.controls(model, column)}
        return next((verdict for verdict in ("missed", "met", "not run") if verdict in verdicts), "")

    # -- data ------------------------------------------------------------------------------------------------

    @cached_property
    def tidy(self) -> pd.DataFrame:
        """One row per model, row and column, in the published value's unit; what was not run has none.

        column: the paper's. benchmark: whose samples it is computed from here, empty for none or several.
        """
        frame = pd.DataFrame([dict(zip(TIDY, row, strict=True)) for row in self._tidy_rows()], columns=TIDY)
        return frame.astype(dict.fromkeys(["n_problems", "n_samples", "n_seeds"], "Int64"))

    def _tidy_rows(self) -> Iterator[Sequence[Any]]:
        benchmarks = {column.name: column.benchmark for column in self.columns}
        for (model, row, column), entry in self.entries.items():
            difference = entry.difference or Estimate(math.nan, math.nan, math.nan)
            yield (
                self.model_label(model), row, column, benchmarks[column],
                math.nan if entry.printed is None else round(entry.printed.value, 2),
                *(round(value, 3) for value in (entry.value, entry.low, entry.high)),
                entry.problems, entry.samples, entry.seeds, round(entry.seed_sd, 3), entry.status,
                *(round(value, 3) for value in (difference.value, difference.low, difference.high)),
                math.nan if entry.p is None else entry.p, entry.is_among_best, entry.control, entry.cell,
            )  # fmt: skip


def _allows(outcomes: Outcomes, metric: str) -> bool:
    """Whether there are as many samples as a metric of k samples asks for."""
    kind, _, number = metric.partition("@")
    return kind not in ("pass", "pass_first", "maj", "combined") or int(number) <= outcomes.n_samples


def _conditions(done: dict[str, Any]) -> dict[str, str]:
    """Of one benchmark of eval.done.json, without the seed."""
    sampling = {key: value for key, value in done.get("sampling", {}).items() if key != "seed"}
    engine = done.get("engine", {})
    return {
        "problems": str(done.get("problems_sha256", ""))[:12],
        "sampling": ", ".join(f"{key} {value}" for key, value in sampling.items()),
        "grader": str(done.get("grader", "")),
        "engine": f"{engine.get('backend', '')} {engine.get('version', '')}".strip(),
    }


def _seed_sd(parts: list[tuple[Outcomes, str]]) -> float:
    means_K = np.mean([of.matrix(metric, of.attempts).mean(axis=1) for of, metric in parts], axis=0)
    return float(means_K.std(ddof=1)) if len(means_K) > 1 else math.nan


def _of_best(entry: Entry, benchmark: str, runs: list[Path], factor: int) -> Entry:
    """The highest score of any evaluated checkpoint of any seed: a maximum, so without an interval."""
    found = []
    for run in runs:
        if (run / "selection.csv").exists():
            chosen = read_csv(run / "selection.csv")
            rows = chosen[(chosen["benchmark"] == benchmark) & (chosen["rule"] == BEST)]
            found += [float(value) for value in rows["value"]]
    return replace(entry, status="measured", value=factor * max(found), seeds=len(runs)) if found else entry


def _of_curve(entry: Entry, source: ColumnArtifact, runs: list[Path]) -> Entry:
    """The mean over seeds of a curve's last value, or of how much it has changed since the first step."""
    found = []
    for run in runs:
        path = run / "metrics.parquet"
        if not path.exists():
            continue
        curve = read_parquet(path)
        if source.curve not in curve:
            raise CorruptFile(f"{path} lacks the column {source.curve}. Delete it and train the cell again.")
        values = curve[source.curve].dropna()
        found.append(float(values.iloc[-1] - (values.iloc[0] if source.change else 0)))
    if not found:
        return entry
    return replace(entry, status="measured", value=sum(found) / len(found), seeds=len(found))


def _of_answers(entry: Entry, kind: str, runs: list[Path]) -> Entry:
    """The mean over seeds of the mean over all answers to all benchmarks."""
    found = []
    for run in runs:
        sizes: list[float] = []
        for benchmark in read_json(run / "eval.done.json")["benchmarks"]:
            for sample in stream_samples(run / "eval" / benchmark / "samples.jsonl"):
                if kind == "tokens" and sample.n_tokens is not None:
                    sizes.append(sample.n_tokens)
                elif kind == LOW_QUALITY:
                    # Words stand for tokens, which samples do not keep
                    quality = response_quality(sample.completion, sample.completion.split())
                    sizes.append(100 * quality[LOW_QUALITY])
                elif kind in CATEGORIES:
                    sizes.append(counts(sample.completion)[kind])
        if sizes:
            found.append(sum(sizes) / len(sizes))
    if not found:
        return entry
    return replace(entry, status="measured", value=sum(found) / len(found), seeds=len(found))
