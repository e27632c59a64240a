"""Render a paper's table, figure and page: python workflow/scripts/render_report.py papo --scale smoke."""

import argparse
import sys
from pathlib import Path

from entrobench.configs import Configs
from entrobench.errors import run_script
from entrobench.paths import repository_root
from entrobench.report.build import build_report


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("paper")
    parser.add_argument("--scale", default="smoke")
    parser.add_argument("--results", type=Path, default=Path("results"))
    arguments = parser.parse_args()
    configs = Configs(repository_root() / "configs")
    build_report(arguments.paper, arguments.scale, configs, arguments.results)


if __name__ == "__main__":
    sys.exit(run_script(main))
