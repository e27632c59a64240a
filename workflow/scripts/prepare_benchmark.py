"""Prepare a real benchmark as canonical problems: python workflow/scripts/prepare_benchmark.py math500
TARGET.
"""

import argparse
import sys
from pathlib import Path

from entrobench.configs import Configs
from entrobench.data.benchmarks import prepare_benchmark
from entrobench.errors import run_script
from entrobench.paths import real_data, repository_root


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("benchmark")
    parser.add_argument("target", type=Path)
    parser.add_argument("--limit", type=int, help="problems of a seeded slice")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    pin = Configs(repository_root() / "configs").benchmark(arguments.benchmark).source
    source = real_data(pin["path"])
    prepare_benchmark(arguments.benchmark, source, arguments.target, pin, arguments.limit, arguments.seed)


if __name__ == "__main__":
    sys.exit(run_script(main))
