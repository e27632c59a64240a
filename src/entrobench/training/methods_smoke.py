"""Every method for a few real verl steps on the CPU, and which of them have run."""

import math
import time
from pathlib import Path
from typing import Any

from entrobench.cells import CellId, resolve, write_cell
from entrobench.configs import Configs
from entrobench.errors import TrainingFailed
from entrobench.files import read_json, read_jsonl, write_json
from entrobench.paths import repository_root
from entrobench.training.launch import launch_sessions

# Settings of shapers that would keep them idle in so few steps
HURRY: dict[str, dict[str, Any]] = {
    "papo_polarity": {"warmup_steps": 2},
    "position": {"first_step": 1, "last_step": None},
}


def run_methods(methods: list[str], experiment: str, steps: int, configs: Configs, results: Path) -> None:
    """Train `methods` (all where none is named) on <paper>/<experiment> for a few steps and note what each
    did in results/methods_smoke/status.json, which keeps what was noted before.

    Raises TrainingFailed for methods that do not make their steps; the others are noted.
    """
    trained = [name for name in configs.names("methods") if configs.method(name).trains]
    folder = results / "methods_smoke"
    status_file = folder / "status.json"
    status = read_json(status_file) if status_file.exists() else {}
    run = folder / time.strftime("%Y%m%d-%H%M%S")
    started = time.monotonic()
    chosen = methods or trained
    for method in chosen:
        cell = short_cell(method, experiment, steps, configs, results)
        write_cell(cell, run / method / "cell.yaml", repository_root())
    try:
        launch_sessions([run / method for method in chosen], run / "sessions")
    finally:
        for method in chosen:
            if (run / method / "train.done.json").exists():
                report = check_curve(run / method, steps)
                status[method] = {"status": "passed", "on": experiment, "run": run.name} | report
                print(f"passed  {method:30}  {steps} steps", flush=True)
        write_json(status_file, status)
    print(f"{len(chosen)} methods in {time.monotonic() - started:.0f} s", flush=True)
    missing = sorted(set(trained) - set(status))
    print(f"{len(status)} of {len(trained)} methods have run; not yet: {', '.join(missing) or 'none'}")
    print(f"Status: {status_file}")


def short_cell(method: str, experiment: str, steps: int, configs: Configs, results: Path) -> dict[str, Any]:
    """The cell of `method` on <paper>/<experiment> at smoke scale, of a few steps. Raises UnknownName,
    ConfigError.
    """
    cell = resolve(str(CellId.parse(f"{experiment}/{method}/seed0", configs)), "smoke", configs, results)
    cell["verl"] |= {
        "actor_rollout_ref.actor.optim.lr": 1e-5,
        "trainer.total_training_steps": steps,
        "trainer.save_freq": steps,
    }
    if cell["shaper"] is not None:
        cell["shaper"]["settings"] |= HURRY.get(cell["shaper"]["name"], {})
    return cell | {"recording": None}


def check_curve(folder: Path, steps: int) -> dict[str, Any]:
    """What a run of so many steps did: steps, grad_norm, actor. Raises TrainingFailed for one not whole."""
    rows = read_jsonl(folder / "metrics.jsonl")
    finite = [row for row in rows if math.isfinite(row["grad_norm"]) and math.isfinite(row["entropy"])]
    if len(finite) != steps:
        raise TrainingFailed(
            f"{folder}: {len(rows)} of {steps} steps, {len(finite)} of them with finite gradient and "
            f"entropy. See {folder / 'train.log'}."
        )
    return {
        "steps": steps,
        "grad_norm": [row["grad_norm"] for row in rows],
        "actor": {key: rows[-1][f"actor/{key}"] for key in ("clip_ratio_high", "entropy_coeff")},
    }
