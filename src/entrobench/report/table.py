"""A table of a paper beside what was reproduced: tidy data first, then Markdown and LaTeX from it.

A scale may run other benchmarks or another model in the place of the paper's ("stand-ins"). Then the
difference from the published value would compare two different things and is shown as n/a; what can be
compared is the gain over Base.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd

from entrobench.cells import benchmark_of, stand_in
from entrobench.configs import Configs, Model, Scale
from entrobench.evaluation.outcomes import Outcomes, measure
from entrobench.evaluation.samples import stream_samples
from entrobench.files import read_csv, read_json
from entrobench.paths import published_folder
from entrobench.report.artifacts import BASE_ROW, TableArtifact, experiments_at, seed_folders
from entrobench.report.controls import Control, controls_of

COLUMNS = [
    "model", "row", "column", "published", "reproduced", "ci_low", "ci_high",
    "n_problems", "n_samples", "n_seeds", "status", "control", "cell",
]  # fmt: skip
IN_DOMAIN_LABEL = "in-domain mean"
# A cell with a larger share of samples that the grader could not decide is no measurement
MAX_ERROR_SHARE = 0.1


@dataclass(frozen=True)
class Column:
    """One column as this scale runs it. `label` is the paper's name, or the stand-in's."""

    label: str
    published_as: str
    benchmark: str
    metric: str
    is_stand_in: bool
    in_domain: bool


class Table:
    """One table of a paper at one scale, read from the cells' samples."""

    def __init__(
        self, artifact: TableArtifact, paper: str, scale_name: str, configs: Configs, results: Path
    ) -> None:
        self.artifact = artifact
        self.paper = paper
        self.configs = configs
        self.results = results
        self.scale: Scale = configs.scale(scale_name)
        self.published = read_csv(published_folder() / paper / artifact.published)

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

    @cached_property
    def columns(self) -> list[Column]:
        """The paper's columns that this scale runs, and the mean of those in-domain."""
        experiment = self.configs.protocol(self.paper).experiments[next(iter(self.experiments.values()))]
        metrics = dict(zip(self.published["column"], self.published["metric"], strict=True))
        columns = []
        for label, published in self.artifact.columns.items():
            if self.scale.benchmarks == "as published":
                run = published
            elif published in self.scale.benchmarks:
                run = self.scale.benchmarks[published]
            else:
                continue
            columns.append(
                Column(
                    label if run == published else run,
                    label,
                    run,
                    metrics[label],
                    is_stand_in=run != published or bool(self.scale.models),
                    in_domain=published in experiment.in_domain,
                )
            )
        return columns

    @cached_property
    def _controls(self) -> list[Control]:
        return controls_of(self.paper, self.scale.scale, self.configs, self.results)

    def _controls_of(self, model: str, column: Column) -> list[Control]:
        """The controls of a column: its own model's, and those of models that stand in no table."""
        benchmark = benchmark_of(column.benchmark, self.paper, self.configs)
        others = set(self.artifact.models.values()) - {self.artifact.models[model]}
        return [
            control
            for control in self._controls
            if control.benchmark == benchmark and control.cell.experiment not in others
        ]

    @cached_property
    def tidy(self) -> pd.DataFrame:
        """One row per model, row and column. Values in percent; what was not run has none."""
        rows = [
            {"model": self.model_label(model), "row": row} | values
            for model, experiment in self.experiments.items()
            for row, method in self.artifact.rows.items()
            for values in self._values(model, row, f"{self.paper}/{experiment}/{method}")
        ]
        frame = pd.DataFrame(rows)[COLUMNS]
        return frame.astype(dict.fromkeys(["n_problems", "n_samples", "n_seeds"], "Int64"))

    def _values(self, model: str, row: str, cell: str) -> Iterator[dict[str, Any]]:
        """Published and reproduced value of each column of a row, and of the in-domain mean."""
        folders = seed_folders(self.results / self.scale.scale / cell)
        runs = [folder for folder in folders if (folder / "scores.csv").exists()]
        names = " ".join(f"{cell}/{run.name}" for run in runs) or f"{cell}/seed0"
        # A benchmark may have no grader where a run was evaluated
        done = {run: read_json(run / "eval.done.json")["benchmarks"] for run in runs}
        evaluated = {
            column: [run for run in runs if column.benchmark in done[run]] for column in self.columns
        }
        measured = {column: _outcomes(of, column) for column, of in evaluated.items() if of}
        published = {column: self._published(model, row, column.published_as) for column in self.columns}
        groups = {column.label: [column] for column in self.columns}
        inside = [column for column in self.columns if column.in_domain]
        if len(inside) > 1:
            groups[IN_DOMAIN_LABEL] = inside
        for label, columns in groups.items():
            mean = round(sum(published[column] for column in columns) / len(columns), 2)
            is_run = all(column in measured for column in columns)
            control = _verdict([each for column in columns for each in self._controls_of(model, column)])
            parts = [(measured[column], column.metric) for column in columns if is_run]
            result = _measured(parts) if is_run else _NOT_RUN
            yield {"column": label, "cell": names, "published": mean, "control": control} | result

    def _published(self, model: str, row: str, column: str) -> float:
        found = self.published.query("model == @model and row == @row and column == @column")
        return float(found["value"].iloc[0])

    def blocks(self) -> list[dict[str, Any]]:
        """What the templates show: one block per model and column, a line per row, every number formatted."""
        blocks = []
        columns = {column.label: column for column in self.columns}
        labels = {self.model_label(model): model for model in self.experiments}
        for (model, label), part in self.tidy.groupby(["model", "column"], sort=False):
            column = columns.get(str(label))
            stand_in = any(c.is_stand_in for c in self.columns) if column is None else column.is_stand_in
            base = part.set_index("row").loc[BASE_ROW]
            heading = str(label)
            if column is not None and column.label != column.published_as:
                heading += f" (stands in for {column.published_as})"
            shown = [column] if column is not None else [c for c in self.columns if c.in_domain]
            missed = [
                _text(control)
                for each in shown
                for control in self._controls_of(labels[str(model)], each)
                if control.verdict == "missed"
            ]
            if missed:
                heading += f" (control missed: {'; '.join(missed)})"
            metric = column.metric if column is not None else "mean of the in-domain columns"
            lines = [_line(row, base.to_dict(), stand_in) for row in part.to_dict("records")]
            blocks.append({"model": model, "heading": heading, "metric": metric, "lines": lines})
        return blocks

    def caption(self) -> str:
        """What is shown, at which scale, with which model, and what that does not allow to be concluded."""
        models = ", ".join(f"{self.model_run(model).title} for {model}" for model in self.experiments)
        text = [
            f"{self.artifact.title} of the PAPO paper (arXiv {self.configs.protocol(self.paper).arxiv}), "
            f"scale `{self.scale.scale}`. Values in percent; brackets hold the 95 % interval (over "
            "problems, and over training seeds where there are several); n = problems x samples x training "
            "seeds."
        ]
        stand_ins = [c for c in self.columns if c.label != c.published_as]
        if stand_ins:
            names = ", ".join(f"{c.label} for {c.published_as}" for c in stand_ins)
            text.append(
                f"The columns are the {self.scale.scale} benchmarks (generated arithmetic), which stand in "
                f"for the paper's: {names}."
            )
        if self.scale.models:
            text.append(
                f"Published values belong to the paper's model and benchmarks; what ran here is {models}. "
                "So this is no reproduction: the difference is n/a, and only gains over Base can be set "
                "side by side."
            )
        if self.scale.limits:
            text.append(
                "Benchmarks are seeded slices of a few problems. The scores show that the path works, no "
                "more."
            )
        for key, setting in self.scale.method_exceptions.items():
            text.append(f"Unlike the method, this scale sets {key} = {setting.value}: {setting.note}.")
        if (self.tidy["n_seeds"].dropna() == 1).any():
            text.append("Each cell is a single training seed.")
        return " ".join(text)


def _verdict(controls: list[Control]) -> str:
    """missed where one is, met where one is and none is missed; empty where there is none."""
    verdicts = {control.verdict for control in controls}
    return next((verdict for verdict in ("missed", "met", "not run") if verdict in verdicts), "")


def _text(control: Control) -> str:
    return (
        f"{control.cell.experiment} {control.entry} {control.measured:.2f} "
        f"[{control.low:.2f}, {control.high:.2f}], published {control.published:.2f}"
    )


_NOT_RUN: dict[str, Any] = dict.fromkeys(("reproduced", "ci_low", "ci_high"), math.nan) | {
    "n_problems": None, "n_samples": None, "n_seeds": None, "status": "not_run",
}  # fmt: skip


def _outcomes(runs: list[Path], column: Column) -> Outcomes:
    return Outcomes.of([stream_samples(run / "eval" / column.benchmark / "samples.jsonl") for run in runs])


def _measured(parts: list[tuple[Outcomes, str]]) -> dict[str, Any]:
    found = measure(parts)
    is_graded = all(of.n_errors <= MAX_ERROR_SHARE * of.n_graded for of, _ in parts)
    return {
        "reproduced": round(100 * found.value, 2),
        "ci_low": round(100 * found.ci_low, 2),
        "ci_high": round(100 * found.ci_high, 2),
        "n_problems": found.n_problems,
        "n_samples": found.n_samples,
        "n_seeds": found.n_seeds,
        "status": "measured" if is_graded else "control_failed",
    }


def _line(row: dict[Any, Any], base: dict[Any, Any], is_stand_in: bool) -> dict[str, str]:
    line = {"row": row["row"], "published": f"{row['published']:.2f}", "gain_published": "", "gain": ""}
    if row["row"] != BASE_ROW:
        line["gain_published"] = f"{row['published'] - base['published']:+.2f}"
    if row["status"] == "not_run":
        return line | {"reproduced": "not run", "interval": "", "n": "", "difference": ""}
    if row["row"] != BASE_ROW and row["status"] == base["status"] == "measured":
        line["gain"] = f"{row['reproduced'] - base['reproduced']:+.2f}"
    failed = " (grader failed)" if row["status"] == "control_failed" else ""
    return line | {
        "reproduced": f"{row['reproduced']:.2f}{failed}",
        "interval": f"[{row['ci_low']:.2f}, {row['ci_high']:.2f}]",
        "n": f"{row['n_problems']} x {row['n_samples']} x {row['n_seeds']}",
        "difference": "n/a" if is_stand_in or failed else f"{row['reproduced'] - row['published']:+.2f}",
    }
