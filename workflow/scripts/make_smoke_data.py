"""Generate the smoke task: python workflow/scripts/make_smoke_data.py results/smoke."""

import argparse
import sys
from pathlib import Path

from entrobench.data.smoke import BENCHMARKS, DATASET, write_benchmark, write_training_set
from entrobench.errors import run_script


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, help="results folder of the scale")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    for name in BENCHMARKS:
        write_benchmark(arguments.folder / "benchmarks" / f"{name}.jsonl", name, arguments.seed)
    write_training_set(arguments.folder / "data" / DATASET / "train.parquet", arguments.seed)


if __name__ == "__main__":
    sys.exit(run_script(main))
