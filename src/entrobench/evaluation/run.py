"""The evaluation of one cell as a process of its own: its environment, its life, its manifest."""

import os
from pathlib import Path

from entrobench.cells import read_cell
from entrobench.evaluation.cell import evaluate_cell
from entrobench.machine.backend import CPU_ENVIRONMENT
from entrobench.paths import repository_root
from entrobench.provenance.manifest import evaluation_life, write_manifest


def run_evaluation(folder: Path, model: Path | None = None) -> None:
    """Evaluate the cell in `folder`, by default its own model; leaves eval.done.json and manifest.json.

    Raises as evaluate_cell.
    """
    cell = read_cell(folder / "cell.yaml")
    if cell["device"] == "cpu":
        os.environ |= CPU_ENVIRONMENT  # before torch starts its threads
    own_model = folder / "model" if cell["trains"] else Path(cell["model"]["path"])
    with evaluation_life(folder):
        evaluate_cell(cell, model or own_model, folder)
    write_manifest(folder, "evaluate", repository_root())
