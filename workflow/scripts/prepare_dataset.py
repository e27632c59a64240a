"""Prepare a real training set as verl's parquet: python workflow/scripts/prepare_dataset.py dapo_math_17k
TARGET.
"""

import argparse
import sys
from pathlib import Path

from entrobench.configs import Configs
from entrobench.data.training_sets import prepare_training_set
from entrobench.errors import run_script
from entrobench.paths import repository_root


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("dataset")
    parser.add_argument("target", type=Path)
    parser.add_argument("--limit", type=int, help="rows of a seeded slice")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    config = Configs(repository_root() / "configs").dataset(arguments.dataset)
    manifest = prepare_training_set(config, arguments.target, arguments.limit, arguments.seed)
    for drop in manifest["dropped"]:
        print(f"dropped {drop['rows']}: {drop['reason']}")
    print(f"{manifest['rows_in']} rows, {manifest['rows_out']} written to {arguments.target}")


if __name__ == "__main__":
    sys.exit(run_script(main))
