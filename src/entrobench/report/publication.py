"""configs/papers/<paper>/publication.yaml and results/published/<paper>/<table>.csv: what a paper prints.

A table's CSV has a row for each number: model, row and column as printed, metric, value (as text, with the
digits that are printed), spread (what stands after ±), bold (yes, no, or empty where our copy does not tell),
unit (percent, share, nats, ...), source.
"""

from decimal import Decimal
from typing import Literal

import pandas as pd
from pydantic import Field

from entrobench.configs import Configs, Strict, load_yaml
from entrobench.errors import CorruptFile
from entrobench.paths import published_folder

COLUMNS = ["model", "row", "column", "metric", "value", "spread", "bold", "unit", "source"]


class PublishedTable(Strict):
    """A printed table.

    setup: what its runs have in common and those of other tables have not, where the paper says so; rows of
    one name are compared within it. sampled: column -> (problems, samples of each), which a value is the
    share of. seeds: training runs that a value is the mean of; None where that is not stated. means: column
    -> columns whose mean it is. bold: what bold type stands for. same_start: a column, and one of its changes
    since a start that all rows of a model share. compared: the paper's method -> what it is held against.
    """

    title: str
    setup: str = ""
    sampled: dict[str, tuple[int, int]] = Field(default_factory=dict)
    seeds: int | None = 1
    means: dict[str, list[str]] = Field(default_factory=dict)
    bold: Literal["highest"] | None = None
    same_start: tuple[str, str] | None = None
    compared: dict[str, str] = Field(default_factory=dict)


class Gain(Strict):
    """Gains that the text states of a row, column -> points. over: a row, `second best`, `baselines` (all
    other rows but the base model), or nothing where the text does not name it.
    """

    place: str
    table: str
    model: str
    row: str
    over: str = ""
    stated: dict[str, Decimal]


class Contradiction(Strict):
    """Two places of a paper that cannot both be right, and what follows."""

    places: tuple[str, str]
    finding: str


class Publication(Strict):
    """publication.yaml of a paper. without_values: name -> title of tables whose numbers our copy lacks."""

    tables: dict[str, PublishedTable]
    without_values: dict[str, str] = Field(default_factory=dict)
    gains: list[Gain] = Field(default_factory=list)
    contradictions: list[Contradiction] = Field(default_factory=list)

    def table(self, name: str) -> PublishedTable:
        """A table; of one whose numbers our copy lacks the title alone. Raises KeyError for no table."""
        return self.tables.get(name) or PublishedTable(title=self.without_values[name])

    def values(self, paper: str, name: str) -> pd.DataFrame:
        """See printed_values; of a table whose numbers our copy lacks an empty one."""
        return printed_values(paper, name) if name in self.tables else pd.DataFrame(columns=COLUMNS)


def load_publication(paper: str, configs: Configs) -> Publication:
    """A paper's publication.yaml. Raises UnknownName, ConfigError."""
    configs.protocol(paper)
    return load_yaml(configs.root / "papers" / paper / "publication.yaml", Publication)


def points_of(unit: str) -> int:
    """What a number of this unit is multiplied with to be one of 100."""
    return 100 if unit == "share" else 1


def printed_values(paper: str, table: str) -> pd.DataFrame:
    """A table's CSV, all as text. Raises CorruptFile, MissingInput."""
    path = published_folder() / paper / f"{table}.csv"
    try:
        frame = pd.read_csv(path, dtype=str, keep_default_na=False)
    except (OSError, pd.errors.ParserError, pd.errors.EmptyDataError, UnicodeDecodeError) as error:
        raise CorruptFile(f"{path}: {error}. It is part of the project: git checkout -- {path}") from error
    if list(frame.columns) != COLUMNS:
        raise CorruptFile(f"{path}: expected the columns {COLUMNS}, found {list(frame.columns)}")
    return frame
