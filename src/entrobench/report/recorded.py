"""What figures read of one run: its curve, recorded tokens, scores, evaluated checkpoints."""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import pandas as pd

from entrobench.errors import CorruptFile
from entrobench.evaluation.milestones import CHECKPOINTS
from entrobench.files import read_csv, read_parquet

# Columns that every curve has; others are of some methods
OF_EVERY_CELL = ("step", "reward", "entropy", "response_length")
CUMULATIVE = "cumulative_entropy"


def tokens_of(runs: Iterable["Recorded"]) -> pd.DataFrame | None:
    """Recorded tokens of several runs, with the number of the run as `run`; None without one.

    sequence is another one in each run.
    """
    frames = [run.tokens.assign(run=number) for number, run in enumerate(runs) if run.tokens is not None]
    if not frames:
        return None
    tokens = pd.concat(frames, ignore_index=True)
    tokens["sequence"] += tokens["run"] * 2**32
    return tokens


@dataclass(frozen=True)
class Recorded:
    """The folder of one seed of a cell. Each part is None where it was not made; a damaged one raises
    CorruptFile, naming the file.
    """

    folder: Path

    @cached_property
    def curve(self) -> pd.DataFrame | None:
        """metrics.parquet."""
        path = self.folder / "metrics.parquet"
        if not path.exists():
            return None
        curve = read_parquet(path)
        if missing := sorted(set(OF_EVERY_CELL) - set(curve.columns)):
            raise CorruptFile(f"{path} lacks the columns {missing}. Delete it and train the cell again.")
        return curve

    @cached_property
    def tokens(self) -> pd.DataFrame | None:
        """token_stats.parquet; None also for one without a token."""
        path = self.folder / "token_stats.parquet"
        tokens = read_parquet(path) if path.exists() else None
        return None if tokens is None or tokens.empty else tokens

    @cached_property
    def interventions(self) -> pd.DataFrame | None:
        """Replaced tokens of all benchmarks (evaluation/intervention.py)."""
        frames = [read_parquet(path) for path in sorted((self.folder / "interventions").glob("*.parquet"))]
        return pd.concat(frames, ignore_index=True) if frames else None

    @cached_property
    def scores(self) -> pd.DataFrame | None:
        """scores.csv."""
        path = self.folder / "scores.csv"
        return read_csv(path) if path.exists() else None

    @cached_property
    def checkpoints(self) -> pd.DataFrame | None:
        """Scores of evaluated checkpoints: a row a step with the value of each benchmark, and the entropy of
        the step and the sum of all steps' until then.
        """
        path = self.folder / CHECKPOINTS
        if self.curve is None or not path.exists():
            return None
        scores = read_csv(path).drop_duplicates(["step", "benchmark"])
        table = scores.pivot(index="step", columns="benchmark", values="value")
        entropy = self.curve.set_index("step")["entropy"]
        table["entropy"] = entropy.reindex(table.index)
        table[CUMULATIVE] = entropy.cumsum().reindex(table.index)
        return table.reset_index()
