"""Tool-N1 anew from xLAM-60k and ToolACE, as verl's parquet: rebuild_tool_n1.py TARGET."""

import argparse
import sys
from pathlib import Path

from entrobench.configs import Configs
from entrobench.data.tool_n1 import rebuild_tool_n1
from entrobench.errors import run_script
from entrobench.paths import real_data, repository_root


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("target", type=Path)
    parser.add_argument("--limit", type=int, help="rows of a seeded slice")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    pin = Configs(repository_root() / "configs").dataset("tool_n1_rebuilt").source
    toolace = [real_data(path) for path in pin["toolace"]]
    manifest = rebuild_tool_n1(real_data(pin["xlam"]), toolace, given.target, pin, given.limit, given.seed)
    print(f"{manifest['rows_out']} rows written to {given.target}, dropped: {manifest['dropped']}")


if __name__ == "__main__":
    sys.exit(run_script(main))
