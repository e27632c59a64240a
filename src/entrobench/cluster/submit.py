"""`entrobench submit TARGET`: the estimate, the site's limits, then Snakemake with the SLURM profile."""

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from entrobench.cells import CellId, devices_of
from entrobench.configs import Configs
from entrobench.cost.estimate import Estimate
from entrobench.cost.text import over_limits
from entrobench.errors import LimitExceeded, MissingInput
from entrobench.machine.site import Site
from entrobench.runs.checkpoints import require_world_size

SLURM, WORKSTATION, LOCAL = (Path("workflow/profiles") / name for name in ("slurm", "workstation", "local"))


def check_limits(estimate: Estimate, site: Site, go: bool) -> None:
    """Raise LimitExceeded when the estimate is above the site's limits and `go` was not said."""
    over = over_limits(estimate, site)
    if over and not go:
        raise LimitExceeded(
            f"{estimate.target}: {'; '.join(over)} (limits in configs/site.yaml). Nothing was submitted.\n"
            f"  To submit it type the same command with --go; in make: GO=--go"
        )


def check_checkpoints(cells: Sequence[CellId], scale: str, configs: Configs, results: Path) -> None:
    """Raise ConfigError for a cell whose checkpoints were written by another number of GPUs than it has."""
    for cell in cells:
        nodes, gpus = devices_of(cell, configs.scale(scale), configs)
        require_world_size(results / scale / str(cell) / "checkpoints", nodes * max(gpus, 1))


def snakemake_command(
    cells: Sequence[CellId], scale: str, results: Path, profile: Path, options: Sequence[str]
) -> list[str]:
    """The Snakemake call that trains and evaluates these cells."""
    scores = [str(results / scale / str(cell) / "scores.csv") for cell in cells]
    config = ["--config", f"scale={scale}", f"results={results}"]
    return [
        sys.executable, "-m", "snakemake", "--profile", str(profile), *options, *config, "--", *scores,
    ]  # fmt: skip


def run_snakemake(command: Sequence[str], root: Path) -> int:
    """Run Snakemake in the checkout, with this environment's programs first; its exit status.

    Raises MissingInput where the profile is missing.
    """
    profile = root / command[command.index("--profile") + 1] / "config.yaml"
    if not profile.exists():
        raise MissingInput(f"{profile} does not exist: this is no whole checkout")
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"
    return subprocess.run(command, cwd=root, env=os.environ | {"PATH": path}, check=False).returncode
