"""configs/papers/<paper>/artifacts.yaml: what the tables and figures of a paper are rendered from."""

from itertools import product
from pathlib import Path

from pydantic import Field, model_validator

from entrobench.configs import Configs, Strict, load_yaml

# The row of a table that shows the untrained model
BASE_ROW = "Base"


class ColumnArtifact(Strict):
    """Where a column's numbers come from: one of

    benchmark, metric    scores of the trained model (statistics/metrics.py); the metric is the printed one
                         where none is named
    benchmark, best      the highest score of any checkpoint and seed, REPO's and OPEFO's rule
    curve, change        the last value of a column of the training curve, or how much that has changed

    printed: (column, metric) of results/published where they are others than the column's name.
    """

    benchmark: str = ""
    metric: str = ""
    best: bool = False
    curve: str = ""
    change: bool = False
    printed: tuple[str, str] | None = None

    @model_validator(mode="after")
    def _has_one_source(self) -> "ColumnArtifact":
        if bool(self.benchmark) == bool(self.curve):
            raise ValueError("expected a benchmark or a curve")
        return self


class TableArtifact(Strict):
    """A table, all named as in the paper. rows: row -> method. models: group of rows -> experiment. groups:
    heading -> columns below it. means: columns of ours that the paper does not print -> columns that they are
    the mean of. baseline: the row that the others are compared with.
    """

    rows: dict[str, str]
    models: dict[str, str]
    columns: dict[str, str | ColumnArtifact]
    groups: dict[str, list[str]] = Field(default_factory=dict)
    means: dict[str, list[str]] = Field(default_factory=dict)
    baseline: str

    @model_validator(mode="after")
    def _names_exist(self) -> "TableArtifact":
        if self.baseline not in self.rows:
            raise ValueError(f"baseline: expected one of the rows {list(self.rows)}, found {self.baseline}")
        named = [name for part in (self.groups, self.means) for names in part.values() for name in names]
        if unknown := [name for name in named if name not in self.columns]:
            raise ValueError(f"groups and means: expected the names of columns, found {unknown}")
        return self

    def column(self, name: str) -> ColumnArtifact:
        """Where a column comes from; a name alone is a benchmark's."""
        column = self.columns[name]
        return ColumnArtifact(benchmark=column) if isinstance(column, str) else column


class FigureArtifact(Strict):
    """A figure of training curves. experiment: the one that the paper shows; of several the first that a
    scale has. panels: columns of metrics.parquet that stand in one panel each, or together. lacks: panels of
    the paper's that are not drawn.
    """

    title: str
    methods: list[str]
    experiment: str | list[str]
    panels: list[str | list[str]]
    lacks: str = ""


class Artifacts(Strict):
    """All artifacts of a paper, by the names of their files."""

    tables: dict[str, TableArtifact] = Field(default_factory=dict)
    figures: dict[str, FigureArtifact] = Field(default_factory=dict)


def load_artifacts(paper: str, configs: Configs) -> Artifacts:
    """Read a paper's artifacts.yaml. Raises UnknownName, or ConfigError for a paper without one."""
    configs.protocol(paper)
    return load_yaml(configs.root / "papers" / paper / "artifacts.yaml", Artifacts)


def has_artifacts(paper: str, configs: Configs) -> bool:
    """Whether a report of this paper can be rendered."""
    return (configs.root / "papers" / paper / "artifacts.yaml").exists()


def artifact_files(paper: str, configs: Configs) -> dict[str, list[str]]:
    """Name of an artifact of a paper -> its files, below results/<scale>/<paper>."""
    artifacts = load_artifacts(paper, configs)
    tables = {name: [f"{name}.{suffix}" for suffix in ("csv", "md", "tex")] for name in artifacts.tables}
    return tables | {name: [f"{name}.png", f"{name}.pdf"] for name in artifacts.figures}


def artifact_cells(paper: str, name: str, scale: str, configs: Configs) -> set[tuple[str, str]]:
    """(experiment, method) of the cells that an artifact is rendered from at this scale."""
    artifacts = load_artifacts(paper, configs)
    if name in artifacts.tables:
        table = artifacts.tables[name]
        return set(product(table.models.values(), table.rows.values()))
    figure = artifacts.figures[name]
    experiment = figure_experiment(figure, scale, configs)
    return {(experiment, method) for method in figure.methods}


def artifacts_at(paper: str, scale: str, configs: Configs) -> list[str]:
    """Names of the artifacts that a scale has something of: of a table any cell, of a figure half of them."""
    names = list(artifact_files(paper, configs))
    shown = set(configs.scale(scale).cells)
    if not shown:
        return names
    tables = load_artifacts(paper, configs).tables
    found = []
    for name in names:
        cells = {
            f"{experiment}/{method}" for experiment, method in artifact_cells(paper, name, scale, configs)
        }
        there = len(cells & shown)
        if there and (name in tables or 2 * there >= len(cells)):
            found.append(name)
    return found


def figure_experiment(figure: FigureArtifact, scale: str, configs: Configs) -> str:
    """The first of a figure's experiments that this scale has; the first of all where it has none."""
    wanted = [figure.experiment] if isinstance(figure.experiment, str) else figure.experiment
    return next(iter(experiments_at(scale, wanted, configs)), wanted[0])


def seed_folders(method: Path) -> list[Path]:
    """The folders seed0, seed1, ... below a method's folder, by seed; anything else there is left out."""
    found = [path for path in method.glob("seed*") if path.name.removeprefix("seed").isdigit()]
    return sorted(found, key=lambda path: int(path.name.removeprefix("seed")))


def experiments_at(scale_name: str, wanted: list[str], configs: Configs) -> list[str]:
    """Those of `wanted` that a report at this scale shows."""
    cells = configs.scale(scale_name).cells
    return [name for name in wanted if not cells or any(cell.startswith(f"{name}/") for cell in cells)]
