"""configs/papers/<paper>/artifacts.yaml: what the tables and figures of a paper are rendered from."""

from pathlib import Path

from entrobench.configs import Configs, Strict, load_yaml

# The row of a table that shows the untrained model
BASE_ROW = "Base"


class TableArtifact(Strict):
    """A table: row -> method, model -> experiment, column -> benchmark, all named as in the paper."""

    title: str
    published: str
    rows: dict[str, str]
    models: dict[str, str]
    columns: dict[str, str]


class FigureArtifact(Strict):
    """A figure of training curves: its methods, and the experiment that the paper shows."""

    title: str
    methods: list[str]
    experiment: str


class Artifacts(Strict):
    """All artifacts of a paper."""

    table1: TableArtifact
    figure5: FigureArtifact


def load_artifacts(paper: str, configs: Configs) -> Artifacts:
    """Read a paper's artifacts.yaml. Raises UnknownName, or ConfigError for a paper without one."""
    configs.protocol(paper)
    return load_yaml(configs.root / "papers" / paper / "artifacts.yaml", Artifacts)


def has_artifacts(paper: str, configs: Configs) -> bool:
    """Whether a report of this paper can be rendered."""
    return (configs.root / "papers" / paper / "artifacts.yaml").exists()


def seed_folders(method: Path) -> list[Path]:
    """The folders seed0, seed1, ... below a method's folder, by seed; anything else there is left out."""
    found = [path for path in method.glob("seed*") if path.name.removeprefix("seed").isdigit()]
    return sorted(found, key=lambda path: int(path.name.removeprefix("seed")))


def experiments_at(scale_name: str, wanted: list[str], configs: Configs) -> list[str]:
    """Those of `wanted` that a report at this scale shows."""
    cells = configs.scale(scale_name).cells
    return [name for name in wanted if not cells or any(cell.startswith(f"{name}/") for cell in cells)]
