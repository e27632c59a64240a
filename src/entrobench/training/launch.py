"""Starts the training process of a cell under the guard, in the environment that its device needs."""

import os
import secrets
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

from entrobench.cells import read_training_cell
from entrobench.errors import TrainingFailed, Unfinished
from entrobench.machine.backend import CPU_ENVIRONMENT, choose_backend
from entrobench.machine.site import Site, site_or_none
from entrobench.paths import repository_root
from entrobench.provenance.redaction import is_secret_name
from entrobench.runs.finished import restore
from entrobench.runs.run_files import Lives
from entrobench.training.guard import Limits, supervise

VERL_ON_CPU = {
    "VERL_PLATFORM": "cpu",
    "VERL_USE_EXTERNAL_MODULES": "entrobench.training.cpu_platform",
}
ENVIRONMENT = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "TQ_LOGGING_LEVEL": "ERROR",  # one warning per sequence and step otherwise
    "HYDRA_FULL_ERROR": "1",
    "TOKENIZERS_PARALLELISM": "false",
    "HF_HUB_OFFLINE": "1",
}
FRUITLESS_LIVES = 3


def launch(run_dir: Path) -> None:
    """Train the cell in `run_dir`; returns when train.done.json is written.

    Raises Unfinished when the run was stopped by SIGTERM or SIGUSR1 and the same command would go on;
    TrainingFailed, UnsupportedPlatform, or an input error; KeyboardInterrupt on SIGINT.
    """
    cell = read_training_cell(run_dir / "cell.yaml")
    if restore(run_dir, cell):
        return
    # Training needs no secret but Ray's own between nodes; its processes write logs that are shown to others
    inherited = {k: v for k, v in os.environ.items() if k.startswith("RAY_") or not is_secret_name(k)}
    environment = inherited | ENVIRONMENT
    # A Ray that runs elsewhere on this machine, or a job's own, is not ours to join
    environment.pop("RAY_ADDRESS", None)
    if "ENTROBENCH_RAY_ADDRESS" not in environment:
        # Ray would keep a token in the user's home, for every Ray of that user; an image has no home
        environment |= {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}
    if cell["device"] == "cpu":
        environment = {"OMP_NUM_THREADS": "1"} | environment | CPU_ENVIRONMENT | VERL_ON_CPU
        if choose_backend() != "vllm":
            environment["ENTROBENCH_ROLLOUT"] = "hf_cpu"
    command = [sys.executable, "-m", "entrobench.training.run", str(run_dir)]
    print(f"training {cell['cell']} ({cell['scale']}); log: {run_dir / 'train.log'}", flush=True)
    limits = guard_limits(cell, site_or_none(repository_root() / "configs"))
    try:
        supervise(command, run_dir, limits, environment)
    except Unfinished as error:
        _require_progress(run_dir, error)
        raise Unfinished(f"{cell['cell']}: {error}") from None


def guard_limits(cell: dict[str, Any], site: Site | None) -> Limits:
    """The cell's limits; where a site is known, its scheduler's notice decides how long a stop may take."""
    limits = Limits(**cell["guard"])
    if site is None:
        return limits
    return replace(limits, stop=site.slurm.stop_seconds)


def _require_progress(run_dir: Path, stopped: Unfinished) -> None:
    """Raise TrainingFailed in place of Unfinished when jobs end again and again before a checkpoint: a chain
    of jobs would go on for ever.
    """
    fruitless = Lives(run_dir).fruitless()
    if fruitless >= FRUITLESS_LIVES:
        raise TrainingFailed(
            f"{run_dir}: {stopped}\n  This was job {fruitless} in a row that began from the same step and "
            f"made no checkpoint.\n  Give a job more time (slurm.max_minutes in configs/site.yaml) or notice "
            f"(slurm.signal_seconds: longer than one step and a checkpoint), then run the same command again."
        ) from stopped
