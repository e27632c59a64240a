"""The best checkpoint of a cell, from which another training goes on (REPO, Section 5.3)."""

from pathlib import Path
from typing import Any

from entrobench.cells import BEST_MODEL, read_training_cell
from entrobench.errors import MissingInput
from entrobench.evaluation.milestones import BEST, SELECTION
from entrobench.evaluation.run import checkpoint_model
from entrobench.evaluation.scores import IN_DOMAIN
from entrobench.files import read_csv, read_json, write_json

FILE = "best.json"
ALONE = "the only one that was evaluated"


def choose_best(folder: Path) -> dict[str, Any]:
    """Make `best` the model of the checkpoint with the highest in-domain accuracy of those that were
    evaluated, the last one included, and say in best.json which it is.

    Where no checkpoint along the way was evaluated, the last one is the only candidate. Raises MissingInput
    for a cell that is not scored or whose checkpoint is gone.
    """
    cell = read_training_cell(folder / "cell.yaml")
    last = int(read_json(folder / "train.done.json")["steps"])
    chosen: dict[str, Any] = {"step": last, "rule": ALONE, "candidates": str(last)}
    if (folder / SELECTION).exists():
        rows = read_csv(folder / SELECTION)
        rows = rows[rows["rule"] == BEST]
        if (rows["benchmark"] == IN_DOMAIN).any():
            rows = rows[rows["benchmark"] == IN_DOMAIN]
        row = rows.iloc[0]
        chosen = {"step": int(row["step"]), "rule": BEST, "candidates": str(row["candidates"])}
        chosen |= {"benchmark": str(row["benchmark"]), "value": float(row["value"])}
    elif cell.get("evaluated_milestones"):
        raise MissingInput(
            f"{folder / SELECTION} is missing: checkpoints of steps {cell['evaluated_milestones']} are "
            f"candidates, too. Type: entrobench score {folder}"
        )
    model = folder / "model" if chosen["step"] == last else checkpoint_model(cell, folder, chosen["step"])
    link = folder / BEST_MODEL
    link.unlink(missing_ok=True)
    link.symlink_to(model.relative_to(folder))
    write_json(folder / FILE, chosen | {"model": str(model.relative_to(folder))})
    return chosen
