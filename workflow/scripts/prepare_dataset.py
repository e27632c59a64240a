"""Prepare a real training set as verl's parquet: python workflow/scripts/prepare_dataset.py dapo_math_17k
TARGET.
"""

import argparse
import sys
from pathlib import Path

from entrobench.configs import Configs
from entrobench.data.dapo import prepare_dapo
from entrobench.errors import run_script
from entrobench.paths import real_data, repository_root


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("dataset", choices=["dapo_math_17k"])
    parser.add_argument("target", type=Path)
    parser.add_argument("--limit", type=int, help="rows of a seeded slice")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    pin = Configs(repository_root() / "configs").dataset(arguments.dataset).source
    manifest = prepare_dapo(real_data(pin["path"]), arguments.target, pin, arguments.limit, arguments.seed)
    print(
        f"{manifest['unique_prompts']} unique prompts, {manifest['rows_out']} written to {arguments.target}"
    )


if __name__ == "__main__":
    sys.exit(run_script(main))
