"""Prepare a real benchmark as canonical problems: python workflow/scripts/prepare_benchmark.py math500
TARGET.
"""

import argparse
import sys
from pathlib import Path

from entrobench.configs import Configs
from entrobench.data.benchmarks import prepare_benchmark
from entrobench.errors import run_script
from entrobench.paths import repository_root


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("benchmark")
    parser.add_argument("target", type=Path)
    parser.add_argument("--limit", type=int, help="problems of a seeded slice")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    config = Configs(repository_root() / "configs").benchmark(arguments.benchmark)
    manifest = prepare_benchmark(config, arguments.target, arguments.limit, arguments.seed)
    print(f"{manifest['problems']} problems, {manifest['problems_out']} written to {arguments.target}")


if __name__ == "__main__":
    sys.exit(run_script(main))
