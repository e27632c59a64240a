"""Get a published model at its pinned revision: python workflow/scripts/fetch_model.py qwen2_5_7b FOLDER."""

import argparse
import sys
from pathlib import Path

from entrobench.configs import Configs
from entrobench.errors import run_script
from entrobench.models.hub import fetch_model
from entrobench.paths import repository_root


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", help="name of a file in configs/models")
    parser.add_argument("folder", type=Path, help="where the model is written")
    arguments = parser.parse_args()
    fetch_model(Configs(repository_root() / "configs").model(arguments.model), arguments.folder)


if __name__ == "__main__":
    sys.exit(run_script(main))
