"""Every method for a few real verl steps on the CPU, and which of them have run."""

import time
from pathlib import Path

from entrobench.cells import read_cell
from entrobench.configs import Configs
from entrobench.files import read_json, write_json
from entrobench.training.launch import launch
from entrobench.training.relay import check_relay, plan, write_relay


def run_methods(methods: list[str], experiment: str, steps: int, configs: Configs, results: Path) -> None:
    """Train `methods` (all where none is named) as relays on <paper>/<experiment> and note what each did in
    results/methods_smoke/status.json, which keeps what was noted before.

    Raises TrainingFailed for a method that does not make its steps; those before it are noted.
    """
    trained = [name for name in configs.names("methods") if configs.method(name).trains]
    folder = results / "methods_smoke"
    status_file = folder / "status.json"
    status = read_json(status_file) if status_file.exists() else {}
    for number, cell in enumerate(plan(methods or trained, experiment, configs, results)):
        run = folder / f"{time.strftime('%Y%m%d-%H%M%S')}-{number}"
        write_relay(cell, run, steps, {})
        started = time.monotonic()
        launch(run)
        for method, report in check_relay(read_cell(run / "cell.yaml"), run).items():
            status[method] = {"status": "passed", "on": experiment, "run": run.name} | report
            print(f"passed  {method:30}  {report['steps']} steps", flush=True)
        print(f"{len(cell['relay'])} methods in {time.monotonic() - started:.0f} s", flush=True)
        write_json(status_file, status)
    missing = sorted(set(trained) - set(status))
    print(f"{len(status)} of {len(trained)} methods have run; not yet: {', '.join(missing) or 'none'}")
    print(f"Status: {status_file}")
