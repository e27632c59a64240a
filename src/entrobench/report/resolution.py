"""The smallest gaps that the papers' protocols can find, beside the gaps that their tables print."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pandas as pd
from tabulate import tabulate

from entrobench.cells import CellId
from entrobench.configs import Configs, Setting, Strict, load_yaml
from entrobench.report.artifacts import load_artifacts
from entrobench.report.publication import PublishedTable, load_publication, points_of, printed_values
from entrobench.report.states import gpu_hours
from entrobench.statistics.resolution import Design, mde_of_mean, seeds_needed


class StatisticsAssumptions(Strict):
    """configs/statistics.yaml."""

    rho: Setting
    agreement: Setting
    seed_sd: Setting


@dataclass(frozen=True)
class Resolution:
    """One printed comparison. All in points (of 100).

    gap: printed value of the method less that of what it is held against. of_models: MDE80 between these
    trained models; of_methods: between methods, other training seeds included. designs: of the column, or of
    those that it is the mean of. seeds: of each of the two that would find the gap between the methods, None
    for more than 10,000. hours: GPU-hours of these runs, None where a cell has no estimate.
    """

    table: str
    model: str
    column: str
    method: str
    baseline: str
    gap: float
    of_models: float
    of_methods: float
    designs: tuple[Design, ...]
    seeds: int | None
    hours: float | None = None

    @property
    def size(self) -> str:
        """Problems x samples x seeds; of a mean its columns."""
        if len(self.designs) > 1:
            return f"mean of {len(self.designs)} columns"
        (design,) = self.designs
        return f"{design.problems} x {design.samples} x {design.seeds}"

    @property
    def verdict(self) -> str:
        """What the gap is larger than."""
        if abs(self.gap) >= self.of_methods:
            return "a gap of methods"
        return "a gap of models" if abs(self.gap) >= self.of_models else "below both"


def resolutions(paper: str, configs: Configs) -> list[Resolution]:
    """Every comparison of a paper's tables whose problems and samples are known. Where the number of runs is
    not stated it is taken as one. Raises UnknownName, ConfigError, CorruptFile.
    """
    assumed = load_yaml(configs.root / "statistics.yaml", StatisticsAssumptions)
    found: list[Resolution] = []
    for name, table in load_publication(paper, configs).tables.items():
        for one in _of_table(table, printed_values(paper, name), assumed):
            found.append(replace(one, hours=_hours(one, paper, name, configs)))
    return found


def _hours(one: Resolution, paper: str, table: str, configs: Configs) -> float | None:
    """GPU-hours of both cells in as many seeds as are needed."""
    artifact = load_artifacts(paper, configs).tables.get(table)
    if artifact is None or one.seeds is None or one.model not in artifact.models:
        return None
    experiment = artifact.models[one.model]
    hours = [
        gpu_hours(
            CellId(paper, experiment, artifact.rows[row], 0),
            "paper",
            configs,
            Path("results"),
        )
        for row in (one.method, one.baseline)
    ]
    return None if None in hours else one.seeds * sum(filter(None, hours))


def _of_table(
    table: PublishedTable, frame: pd.DataFrame, assumed: StatisticsAssumptions
) -> Iterator[Resolution]:
    # A column may stand for several metrics, such as pass@1 and pass@5
    columns = list(dict.fromkeys(zip(frame["column"], frame["metric"], strict=True)))
    metric_of = dict(reversed(columns))
    for model, part in frame.groupby("model", sort=False):
        points = {
            (row["row"], row["column"], row["metric"]): float(row["value"]) * points_of(row["unit"])
            for row in part.to_dict("records")
        }
        for method, baseline in table.compared.items():
            for column, metric in columns:
                parts = [(name, metric_of[name]) for name in table.means.get(column, [])] or [
                    (column, metric)
                ]
                pairs = [(points.get((method, *each)), points.get((baseline, *each))) for each in parts]
                if any(None in pair for pair in pairs) or not {name for name, _ in parts} <= set(
                    table.sampled
                ):
                    continue
                gap = points[method, column, metric] - points[baseline, column, metric]
                designs = tuple(
                    _design(table, name, sum(filter(None, pair)) / 200, assumed)
                    for (name, _), pair in zip(parts, pairs, strict=True)
                )
                shown = column if metric == metric_of[column] else f"{column} {metric}"
                yield _resolution((table.title, str(model), shown, method, baseline), gap, designs)


def _design(table: PublishedTable, column: str, mean: float, assumed: StatisticsAssumptions) -> Design:
    problems, samples = table.sampled[column]
    return Design(
        problems=problems,
        samples=samples,
        seeds=table.seeds or 1,
        mean=mean,
        rho=assumed.rho.value,
        agreement=assumed.agreement.value,
        seed_sd=assumed.seed_sd.value,
    )


def _resolution(names: tuple[str, str, str, str, str], gap: float, designs: tuple[Design, ...]) -> Resolution:
    weights = [1 / len(designs)] * len(designs)
    these_runs = [replace(design, seed_sd=0.0) for design in designs]
    return Resolution(
        *names,
        gap=gap,
        of_models=100 * mde_of_mean(these_runs, weights),
        of_methods=100 * mde_of_mean(designs, weights),
        designs=designs,
        seeds=seeds_needed(designs, weights, abs(gap) / 100) if gap else None,
    )


def as_text(found: dict[str, list[Resolution]], configs: Configs) -> str:
    """A table a paper, and what was assumed."""
    lines = []
    for paper, of_paper in found.items():
        lines.append(
            f"{paper}: printed gaps and the smallest that would be found in four of five runs, in points"
        )
        if not of_paper:
            lines.append("  our copy of the paper has no values\n")
            continue
        header = ("table", "model", "column", "problems x samples x seeds", "method", "over", "gap",
                  "MDE80 models", "MDE80 methods", "the gap is", "seeds for it", "GPU-hours")  # fmt: skip
        rows = [
            (one.table, one.model, one.column, one.size, one.method, one.baseline, f"{one.gap:+.1f}",
             f"{one.of_models:.1f}", f"{one.of_methods:.1f}", one.verdict,
             "> 10,000" if one.seeds is None else f"{one.seeds:,}",
             "" if one.hours is None else f"{one.hours:,.0f}")
            for one in of_paper
        ]  # fmt: skip
        lines += [tabulate(rows, header, tablefmt="plain", disable_numparse=True), ""]
    assumed = load_yaml(configs.root / "statistics.yaml", StatisticsAssumptions)
    lines.append("Assumed (configs/statistics.yaml):")
    for name, setting in assumed:
        lines.append(f"  {name} {setting.value}: {setting.status}, {setting.source}. {setting.note.strip()}")
    return "\n".join(lines)
