"""Sample and grade every benchmark of a cell: python workflow/scripts/evaluate_cell.py CELL_FOLDER [--model
DIR].
"""

import argparse
import os
import sys
from pathlib import Path

from entrobench.backend import CPU_ENVIRONMENT
from entrobench.cells import read_cell
from entrobench.errors import run_script
from entrobench.evaluation.cell import evaluate_cell
from entrobench.paths import repository_root
from entrobench.provenance import evaluation_life, require_clean_tree, write_manifest


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, help="folder of the cell, with its cell.yaml")
    parser.add_argument("--model", type=Path, help="model to evaluate (default: the cell's own)")
    arguments = parser.parse_args()
    cell = read_cell(arguments.folder / "cell.yaml")
    if cell["device"] == "cpu":
        os.environ |= CPU_ENVIRONMENT  # before torch starts its threads
    own_model = arguments.folder / "model" if cell["trains"] else Path(cell["model"]["path"])
    require_clean_tree(cell["scale"], repository_root(), cell.get("git_commit", "unknown"))
    with evaluation_life(arguments.folder):
        evaluate_cell(cell, arguments.model or own_model, arguments.folder)
    write_manifest(arguments.folder, "evaluate", repository_root())


if __name__ == "__main__":
    sys.exit(run_script(main))
