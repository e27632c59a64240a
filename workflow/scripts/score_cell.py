"""Compute scores.csv from a cell's samples: python workflow/scripts/score_cell.py CELL_FOLDER."""

import argparse
import sys
from pathlib import Path

from entrobench.cells import read_cell
from entrobench.errors import run_script
from entrobench.evaluation.samples import clean_samples, read_samples, score
from entrobench.files import read_json, write_atomic


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "folder", type=Path, help="folder of the cell, with cell.yaml and eval/*/samples.jsonl"
    )
    parser.add_argument(
        "--contamination",
        type=Path,
        help="folder of contamination.csv (results/data): also write scores_clean.csv, without problems that "
        "stand in the cell's training set",
    )
    arguments = parser.parse_args()
    folder = arguments.folder
    cell = read_cell(folder / "cell.yaml")
    evaluated = read_json(folder / "eval.done.json")["benchmarks"]
    samples = {name: read_samples(folder / "eval" / name / "samples.jsonl") for name in evaluated}
    write_atomic(folder / "scores.csv", score(samples, cell["in_domain"]).to_csv(index=False))
    if arguments.contamination is not None:
        clean = clean_samples(samples, cell["dataset"]["name"], arguments.contamination)
        write_atomic(folder / "scores_clean.csv", score(clean, cell["in_domain"]).to_csv(index=False))


if __name__ == "__main__":
    sys.exit(run_script(main))
