"""Controls: public models of which somebody published a score, evaluated here as the other cells are.

A control that misses its published value says that something in the evaluation differs, whatever the trained
cells show: a column with one is marked. Two kinds: the base model of a paper's table, and a model whose
makers, or a leaderboard, publish a score (`published` of configs/models), who asked in their own way: a miss
there may be theirs. A scale with stand-ins has none.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import pandas as pd

from entrobench.cells import CellId, benchmark_of, listed_cells, model_of
from entrobench.configs import Configs, Scale
from entrobench.files import read_csv
from entrobench.report.artifacts import BASE_ROW, has_artifacts, load_artifacts
from entrobench.report.publication import load_publication, points_of

Verdict = Literal["met", "missed", "not run"]


@dataclass(frozen=True)
class Control:
    """One published score of an untrained model. entry: of the cell's evaluation; benchmark: what that asks.
    Values in percent; measured, low, high (95 % over problems) and n_problems are None where it was not run.
    """

    cell: CellId
    entry: str
    benchmark: str
    metric: str
    published: float
    source: str
    measured: float | None = None
    low: float | None = None
    high: float | None = None
    n_problems: int | None = None

    @property
    def verdict(self) -> Verdict:
        """missed: the published value lies outside the interval."""
        if self.low is None or self.high is None:
            return "not run"
        # The published one is rounded
        return "met" if round(self.low, 2) <= self.published <= round(self.high, 2) else "missed"


def controls_of(paper: str, scale_name: str, configs: Configs, results: Path) -> list[Control]:
    """The controls of a paper, in the order of its cells; none at a scale that replaces models or benchmarks.

    Raises UnknownName, or CorruptFile for scores that cannot be read.
    """
    scale = configs.scale(scale_name)
    if scale.models or scale.benchmarks != "as published" or scale.limits:
        return []
    found: list[Control] = []
    for cell in listed_cells(paper, configs):
        if configs.method(cell.method).trains:
            continue
        scores = results / scale.scale / str(cell) / "scores.csv"
        measured = read_csv(scores) if scores.exists() else None
        for control in (*_of_tables(cell, configs), *_of_makers(cell, scale, configs)):
            found.append(_measured(control, measured))
    return found


def _of_tables(cell: CellId, configs: Configs) -> Iterator[Control]:
    """What the paper's own table has for its base model."""
    if not has_artifacts(cell.paper, configs):
        return
    publication = load_publication(cell.paper, configs)
    for name, table in load_artifacts(cell.paper, configs).tables.items():
        models = [model for model, experiment in table.models.items() if experiment == cell.experiment]
        if not models or BASE_ROW not in table.rows:
            continue
        published = publication.values(cell.paper, name)
        of_base = published[(published["row"] == BASE_ROW) & published["model"].isin(models)]
        for label in table.columns:
            column = table.column(label)
            printed, metric = column.printed or (label, "")
            rows = of_base[(of_base["column"] == printed) & (of_base["metric"].isin([metric]) | (not metric))]
            if not column.benchmark or column.best or rows.empty:
                continue
            row = rows.iloc[0]
            yield Control(
                cell,
                column.benchmark,
                benchmark_of(column.benchmark, cell.paper, configs),
                column.metric or str(row["metric"]),
                float(row["value"]) * points_of(row["unit"]),
                f"{publication.table(name).title}, {BASE_ROW}",
            )


def _of_makers(cell: CellId, scale: Scale, configs: Configs) -> Iterator[Control]:
    """What is published of the cell's model, for the benchmarks that it is asked greedily."""
    protocol = configs.protocol(cell.paper)
    for score in configs.model(model_of(cell, scale, configs)).published:
        for entry in protocol.experiments[cell.experiment].benchmarks:
            stated = protocol.evaluation | protocol.evaluation_of.get(entry, {})
            if (
                benchmark_of(entry, cell.paper, configs) == score.benchmark
                and not stated["temperature"].value
            ):
                yield Control(cell, entry, score.benchmark, "mean@1", score.value, score.source)


def _measured(control: Control, scores: pd.DataFrame | None) -> Control:
    if scores is None:
        return control
    rows = scores[(scores["benchmark"] == control.entry) & (scores["metric"] == control.metric)]
    if rows.empty:
        return control
    row = rows.iloc[0]
    measured, low, high = (100 * float(row[key]) for key in ("value", "ci_low", "ci_high"))
    return replace(control, measured=measured, low=low, high=high, n_problems=int(row["n_problems"]))


def as_text(controls: list[Control]) -> str:
    """One line a control."""
    from tabulate import tabulate  # not in the image of the report, which asks for no text

    rows = [("cell", "benchmark", "metric", "published", "measured", "95 % interval", "problems", "verdict",
             "source")]  # fmt: skip
    for control in controls:
        is_run = control.measured is not None
        rows.append(
            (
                str(control.cell),
                control.entry,
                control.metric,
                f"{control.published:.2f}",
                f"{control.measured:.2f}" if is_run else "",
                f"[{control.low:.2f}, {control.high:.2f}]" if is_run else "",
                str(control.n_problems) if is_run else "",
                control.verdict,
                control.source,
            )
        )
    return tabulate(rows, headers="firstrow", tablefmt="plain", disable_numparse=True)
