"""Starts the training process of a cell under the guard, in the environment that its device needs."""

import os
import sys
from pathlib import Path

from entrobench.backend import CPU_ENVIRONMENT, choose_backend, require_compiler
from entrobench.cells import read_cell
from entrobench.errors import ConfigError
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


def launch(run_dir: Path) -> None:
    """Train the cell in `run_dir`; returns when train.done.json is written.

    Raises TrainingFailed, UnsupportedPlatform, or an input error; KeyboardInterrupt on SIGINT or SIGTERM.
    """
    cell = read_cell(run_dir / "cell.yaml")
    if not cell["trains"]:
        raise ConfigError(f"{cell['cell']} is the untrained base model: there is nothing to train")
    environment = os.environ | ENVIRONMENT
    # A Ray that runs elsewhere on this machine, or a job's own, is not ours to join
    environment.pop("RAY_ADDRESS", None)
    if cell["device"] == "cpu":
        environment |= CPU_ENVIRONMENT | VERL_ON_CPU
        if choose_backend() == "vllm":
            require_compiler()
        else:
            environment["ENTROBENCH_ROLLOUT"] = "hf_cpu"
    command = [sys.executable, "-m", "entrobench.training.run", str(run_dir)]
    print(f"training {cell['cell']} ({cell['scale']}); log: {run_dir / 'train.log'}", flush=True)
    supervise(command, run_dir, Limits(**cell["guard"]), environment)
