"""Run every method, or those named, for a few real verl steps on the CPU; write and print their status."""

import argparse
import time
from pathlib import Path

from entrobench.cells import read_cell
from entrobench.configs import Configs
from entrobench.errors import run_script
from entrobench.files import read_json, write_json
from entrobench.paths import repository_root
from entrobench.training.launch import launch
from entrobench.training.relay import check_relay, plan, write_relay


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("methods", nargs="*", help="names of configs/methods; all when none is given")
    parser.add_argument("--experiment", default="papo/7b-math")
    parser.add_argument("--steps", type=int, default=3)
    parser.add_argument("--results", type=Path, default=Path("results"))
    arguments = parser.parse_args()
    configs = Configs(repository_root() / "configs")
    trained = [name for name in configs.names("methods") if configs.method(name).trains]
    folder = arguments.results / "methods_smoke"
    status_file = folder / "status.json"
    status = read_json(status_file) if status_file.exists() else {}
    for number, cell in enumerate(
        plan(arguments.methods or trained, arguments.experiment, configs, arguments.results)
    ):
        run = folder / f"{time.strftime('%Y%m%d-%H%M%S')}-{number}"
        write_relay(cell, run, arguments.steps, {})
        started = time.monotonic()
        launch(run)
        for method, report in check_relay(read_cell(run / "cell.yaml"), run).items():
            status[method] = {"status": "passed", "on": arguments.experiment, "run": run.name} | report
            print(f"passed  {method:30}  {report['steps']} steps", flush=True)
        print(f"{len(cell['relay'])} methods in {time.monotonic() - started:.0f} s", flush=True)
        write_json(status_file, status)
    missing = sorted(set(trained) - set(status))
    print(f"{len(status)} of {len(trained)} methods have run; not yet: {', '.join(missing) or 'none'}")
    print(f"Status: {status_file}")


if __name__ == "__main__":
    raise SystemExit(run_script(main))
