"""Sets aside what is stale of cells, or what is asked for, so that the next run makes it again.

Nothing is deleted: what is set aside stands in the cell's folder, below replaced.<time>.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from entrobench.cells import CellId
from entrobench.provenance.code import stale
from entrobench.runs.finished import DONE_FILE
from entrobench.runs.identity import LEFT_BEHIND, set_aside

EVALUATION = ("eval", "eval.done.json", "interventions", "scores.csv", "checkpoints.csv", "selection.csv")
TRAINING = (*LEFT_BEHIND, DONE_FILE, "metrics.parquet", "metrics.ahead.json", "model", *EVALUATION)


@dataclass(frozen=True)
class Renewal:
    """What is made again of a cell, and why. names: what is set aside of its folder."""

    cell: CellId
    folder: Path
    reasons: list[str]
    names: Sequence[str]

    def set_aside(self) -> Path:
        """Do it; the folder that it is in now."""
        return set_aside(self.folder, self.names)


def renewals(
    cells: Sequence[CellId], scale: str, results: Path, training: bool, evaluation: bool
) -> Iterator[Renewal]:
    """Of cells that have something: their stale steps, and all that is asked for. A training that is made
    again takes its evaluation with it.
    """
    for cell in cells:
        folder = results / scale / str(cell)
        reasons = {step: [f"{step}: {text}" for text in texts] for step, texts in stale(folder).items()}
        if training and (folder / DONE_FILE).exists():
            reasons.setdefault("training", ["training: asked for"])
        if evaluation and (folder / "eval.done.json").exists():
            reasons.setdefault("evaluation", ["evaluation: asked for"])
        if reasons:
            names = TRAINING if "training" in reasons else EVALUATION
            yield Renewal(cell, folder, [text for texts in reasons.values() for text in texts], names)
