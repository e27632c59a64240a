"""configs/papers/<paper>/artifacts.yaml: what the tables and figures of a paper are rendered from."""

from itertools import product
from pathlib import Path
from typing import Literal

from pydantic import Field, model_validator

from entrobench.cells import benchmark_at
from entrobench.configs import Configs, Scale, Strict, load_yaml
from entrobench.report.categories import CATEGORIES

# Share of answers with any kind of low quality (rewards/detectors.py)
LOW_QUALITY = "low_quality"
# The row of a table that shows the untrained model
BASE_ROW = "Base"


class ColumnArtifact(Strict):
    """Where a column's numbers come from: one of

    benchmark, metric    scores of the trained model (statistics/metrics.py); the metric is the printed one
                         where none is named
    benchmark, best      the highest score of any checkpoint and seed, REPO's and OPEFO's rule
    curve, change        the last value of a column of the training curve, or how much that has changed
    answers              of all answers to all benchmarks the mean number of tokens (`tokens`), or of words
                         and symbols of a category (report/categories.py), or the share with a kind of low
                         quality (`low_quality`)

    printed: (column, metric) of results/published where they are others than the column's name.
    """

    benchmark: str = ""
    metric: str = ""
    best: bool = False
    curve: str = ""
    change: bool = False
    answers: str = ""
    printed: tuple[str, str] | None = None

    @model_validator(mode="after")
    def _has_one_source(self) -> "ColumnArtifact":
        if sum(map(bool, (self.benchmark, self.curve, self.answers))) != 1:
            raise ValueError("expected a benchmark, a curve or answers")
        kinds = ("tokens", LOW_QUALITY, *CATEGORIES)
        if self.answers not in ("", *kinds):
            raise ValueError(f"answers: expected one of {kinds}, found {self.answers}")
        return self


class TableArtifact(Strict):
    """A table, all named as in the paper. rows: row -> method. models: group of rows -> experiment. groups:
    heading -> columns below it. means: columns of ours that the paper does not print -> columns that they are
    the mean of. baseline: the row that the others are compared with. lacks: as of a figure. A table whose
    numbers our copy lacks names the metric of each column.
    """

    rows: dict[str, str]
    models: dict[str, str]
    columns: dict[str, str | ColumnArtifact]
    groups: dict[str, list[str]] = Field(default_factory=dict)
    means: dict[str, list[str]] = Field(default_factory=dict)
    baseline: str
    lacks: str = ""

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


# Kind of a panel -> fewest and most names
_MANY = 99
_NAMES = {
    "curves": (1, _MANY), "scores": (1, _MANY), "trajectory": (2, _MANY), "bars": (1, _MANY),
    "histogram": (1, _MANY), "density": (2, 2), "points": (2, _MANY), "concentration": (1, 1),
    "positions": (1, 1), "tokens": (1, 1), "categories": (1, 1), "changes": (1, 1), "falling": (0, 0),
    "quality": (0, 0), "interventions": (1, _MANY),
}  # fmt: skip


class Panel(Strict):
    """One panel of a figure. kind, and what `of` then names:

    curves        columns of metrics.parquet, over training steps
    scores        benchmarks, whose mean score over evaluated checkpoints is drawn
    trajectory    entropy or cumulative_entropy, then a benchmark: a point for each evaluated checkpoint
    bars          benchmarks: the score of the trained model, with its interval
    histogram     quantities of tokens (report/tokens.py)
    density       two quantities of tokens, with the mean of the second in bins of the first
    points        quantities of tokens that stand at the x axis, then the one that stands at the y axis
    concentration a quantity of tokens: its magnitude by percentile, and the share of the sum above it
    positions     a quantity of tokens: percentiles over the relative position in the response
    tokens        a quantity of tokens: the tokens whose sum is largest, above and below 0
    categories    a quantity of tokens: the share of each category of tokens in the highest fifth
    changes       entropy, frequency: the tokens whose mean changed most between first and last recorded step
    falling       where the fifth of tokens occurs whose entropy fell most: in correct, wrong responses, both
    interventions groups of replaced tokens: by how much the accuracy falls (evaluation/intervention.py)
    quality       over recorded steps the share of responses with low quality (rewards/detectors.py), by kind

    split: correct or branch, of the recorded tokens apart. top: a quantity of tokens of which only the
    highest fifth of the magnitudes are drawn. log: of the y axis.
    """

    kind: Literal[
        "curves", "scores", "trajectory", "bars", "histogram", "density", "points", "concentration",
        "positions", "tokens", "categories", "changes", "falling", "quality", "interventions",
    ] = "curves"  # fmt: skip
    of: list[str] = Field(default_factory=list)
    split: Literal["", "correct", "branch"] = ""
    top: str = ""
    log: bool = False

    @model_validator(mode="after")
    def _has_its_number(self) -> "Panel":
        fewest, most = _NAMES[self.kind]
        if not fewest <= len(self.of) <= most:
            wanted = f"{fewest}" if fewest == most else f"{fewest} or more"
            raise ValueError(f"{self.kind}: expected {wanted} names, found {self.of}")
        return self


# Where the benchmarks begin among the names of a panel
_FIRST_BENCHMARK = {"scores": 0, "trajectory": 1, "bars": 0}


class FigureArtifact(Strict):
    """A figure. experiment: the one that the paper shows; of several the first that a scale has. methods:
    `method`, or `experiment/method` where a figure is of several experiments. panels: a name or names alone
    are curves. lacks: what the paper's has and this one has not, and why.
    """

    title: str
    methods: list[str]
    experiment: str | list[str]
    panels: list[str | list[str] | Panel]
    lacks: str = ""

    @property
    def needs_interventions(self) -> bool:
        """Whether tokens of its cells have to be replaced."""
        return any(panel.kind == "interventions" for panel in self.drawn)

    @property
    def drawn(self) -> list[Panel]:
        """The panels, each with its kind."""
        return [
            panel if isinstance(panel, Panel) else Panel(of=[panel] if isinstance(panel, str) else panel)
            for panel in self.panels
        ]


class Place(Strict):
    """Whose checkpoints, and by which benchmark they are scored."""

    experiment: str
    benchmark: str


class InformationArtifact(Strict):
    """A table of the mutual information of checkpoints' scores with their step, and with their cumulative
    entropy (REPO, Table 6). rows: model -> row -> place, as printed. bins: of each axis of the histogram.
    """

    methods: list[str]
    rows: dict[str, dict[str, Place]]
    bins: int = 10
    lacks: str = ""


class SizesArtifact(Strict):
    """A table of how many problems benchmarks have (OPEFO, Table 3). rows: row as printed -> benchmark."""

    rows: dict[str, str]
    column: str
    lacks: str = ""


class NotDrawn(Strict):
    """A table or figure of the paper that is not made here. why: `drawing` for one that only explains."""

    title: str
    why: str


class Artifacts(Strict):
    """All artifacts of a paper, by the names of their files."""

    tables: dict[str, TableArtifact] = Field(default_factory=dict)
    figures: dict[str, FigureArtifact] = Field(default_factory=dict)
    information: dict[str, InformationArtifact] = Field(default_factory=dict)
    sizes: dict[str, SizesArtifact] = Field(default_factory=dict)
    not_drawn: dict[str, NotDrawn] = Field(default_factory=dict)


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
    names = [*artifacts.tables, *artifacts.information, *artifacts.sizes]
    tables = {name: [f"{name}.{suffix}" for suffix in ("csv", "md", "tex")] for name in names}
    return tables | {name: [f"{name}.png", f"{name}.pdf"] for name in artifacts.figures}


def benchmarks_of(paper: str, name: str, configs: Configs) -> list[str]:
    """Benchmarks that an artifact is made from without any cell."""
    sizes = load_artifacts(paper, configs).sizes.get(name)
    return [] if sizes is None else list(sizes.rows.values())


def needs_interventions(paper: str, name: str, configs: Configs) -> bool:
    """Whether an artifact shows what becomes of answers whose tokens are replaced."""
    figure = load_artifacts(paper, configs).figures.get(name)
    return figure is not None and figure.needs_interventions


def artifact_cells(paper: str, name: str, scale: str, configs: Configs) -> set[tuple[str, str]]:
    """(experiment, method) of the cells that an artifact is rendered from at this scale."""
    artifacts = load_artifacts(paper, configs)
    if name in artifacts.tables:
        table = artifacts.tables[name]
        return set(product(table.models.values(), table.rows.values()))
    if name in artifacts.information:
        information = artifacts.information[name]
        experiments = {place.experiment for rows in information.rows.values() for place in rows.values()}
        return set(product(experiments, information.methods))
    if name in artifacts.sizes:
        return set()
    return set(figure_lines(artifacts.figures[name], scale, configs))


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


def figure_lines(figure: FigureArtifact, scale: str, configs: Configs) -> list[tuple[str, str]]:
    """(experiment, method) of each line of a figure, in its order."""
    shown = figure_experiment(figure, scale, configs)
    split = [method.rpartition("/") for method in figure.methods]
    return [(experiment or shown, method) for experiment, _, method in split]


def panels_at(figure: FigureArtifact, scale: Scale) -> tuple[list[Panel], dict[str, str]]:
    """The figure's panels with a scale's benchmarks in the places of the paper's; and which stands for which.
    A panel of benchmarks that the scale has nothing for keeps the paper's, of which nothing has run.
    """
    panels: list[Panel] = []
    stand_ins: dict[str, str] = {}
    for panel in figure.drawn:
        first = _FIRST_BENCHMARK.get(panel.kind, len(panel.of))
        asked = {name: benchmark_at(name, scale) for name in panel.of[first:]}
        there = {name: entry for name, entry in asked.items() if entry is not None}
        if there:
            panel = panel.model_copy(update={"of": [*panel.of[:first], *dict.fromkeys(there.values())]})
        panels.append(panel)
        stand_ins |= {entry: name for name, entry in there.items() if entry != name}
    return panels, stand_ins


def seed_folders(method: Path) -> list[Path]:
    """The folders seed0, seed1, ... below a method's folder, by seed; anything else there is left out."""
    found = [path for path in method.glob("seed*") if path.name.removeprefix("seed").isdigit()]
    return sorted(found, key=lambda path: int(path.name.removeprefix("seed")))


def experiments_at(scale_name: str, wanted: list[str], configs: Configs) -> list[str]:
    """Those of `wanted` that a report at this scale shows."""
    cells = configs.scale(scale_name).cells
    return [name for name in wanted if not cells or any(cell.startswith(f"{name}/") for cell in cells)]
