"""Starts the training process of a cell or of a session, under the guard, in its device's environment."""

import os
import secrets
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from entrobench.cells import read_training_cell
from entrobench.errors import TrainingFailed, Unfinished
from entrobench.machine.backend import CPU_ENVIRONMENT, choose_backend
from entrobench.machine.site import Site, site_or_none
from entrobench.paths import repository_root
from entrobench.provenance.redaction import is_secret_name
from entrobench.runs.finished import is_trained, restore
from entrobench.runs.run_files import Lives, Progress
from entrobench.training.guard import Limits, supervise
from entrobench.training.session import make_session, runs_of, sessions_of

VERL_ON_CPU = {
    "VERL_PLATFORM": "cpu",
    "VERL_USE_EXTERNAL_MODULES": "entrobench.training.cpu_platform",
}
ENVIRONMENT = {
    "RAY_USAGE_STATS_ENABLED": "0",
    # Workers that start before the run's job have not its environment, and none is ever used
    "RAY_prestart_worker_first_driver": "0",
    "TQ_LOGGING_LEVEL": "ERROR",  # one warning per sequence and step otherwise
    "HYDRA_FULL_ERROR": "1",
    "TOKENIZERS_PARALLELISM": "false",
    "HF_HUB_OFFLINE": "1",
}
FRUITLESS_LIVES = 3
# Ray gives its node 30 s to come up and has no setting for it: too short where others use the cores
RAY_STARTS = 3
RAY_CAME_TOO_LATE = "The current node timed out during startup"


def launch(run_dir: Path) -> None:
    """Train the cell in `run_dir`; returns when train.done.json is written.

    Raises Unfinished when the run was stopped by SIGTERM or SIGUSR1 and the same command would go on;
    TrainingFailed, UnsupportedPlatform, or an input error; KeyboardInterrupt on SIGINT.
    """
    cell = read_training_cell(run_dir / "cell.yaml")
    if restore(run_dir, cell):
        return
    print(f"training {cell['cell']} ({cell['scale']}); log: {run_dir / 'train.log'}", flush=True)
    try:
        _supervise(run_dir, cell)
    except Unfinished as error:
        _require_progress(run_dir, error)
        raise Unfinished(f"{cell['cell']}: {error}") from None


def launch_sessions(folders: Sequence[Path], parent: Path) -> None:
    """Train the cells in `folders`, as many in one session as their settings let; what is trained is kept.
    Sessions' logs go below `parent`.

    A cell that fails costs itself and a new start: those after it are trained. Raises TrainingFailed with all
    that failed, Unfinished, an input error, KeyboardInterrupt on SIGINT.
    """
    cells = {folder: read_training_cell(folder / "cell.yaml") for folder in folders}
    left = [folder for folder in cells if not restore(folder, cells[folder])]
    failures: list[str] = []
    for group in sessions_of(left):
        while group:
            session = make_session(parent, group)
            try:
                _train_session(session, [cells[folder] for folder in group])
            except TrainingFailed as error:
                if Progress(session).run().resolve() == session.resolve():  # it has come to no cell
                    raise
                failed = next(folder for folder in group if not is_trained(folder, cells[folder]))
                print(f"{cells[failed]['cell']}: {error}", flush=True)
                failures.append(f"{cells[failed]['cell']}: {str(error).splitlines()[0]}")
                group.remove(failed)
            group = [folder for folder in group if not is_trained(folder, cells[folder])]
    if failures:
        raise TrainingFailed(
            f"{len(failures)} of {len(cells)} cells failed, the others are trained:\n  "
            + "\n  ".join(failures)
        )


def _train_session(folder: Path, cells: list[dict[str, Any]]) -> None:
    names = ", ".join(cell["cell"] for cell in cells)
    print(
        f"training {len(cells)} cells, one after the other: {names}; log: {folder / 'train.log'}", flush=True
    )
    for run in runs_of(folder):
        log = run / "train.log"
        log.unlink(missing_ok=True)
        log.symlink_to(os.path.relpath(folder.resolve() / "train.log", run))
    _supervise(folder, cells[0])


def _supervise(folder: Path, cell: dict[str, Any]) -> None:
    """Train what stands in `folder`, a cell's or a session's; cell: the first."""
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
    command = [sys.executable, "-m", "entrobench.training.run", str(folder)]
    limits = guard_limits(cell, site_or_none(repository_root() / "configs"))
    for start in range(1, RAY_STARTS + 1):
        try:
            return supervise(command, folder, limits, environment)
        except TrainingFailed as error:
            if start == RAY_STARTS or RAY_CAME_TOO_LATE not in str(error):
                raise
            print(
                f"entrobench: Ray did not start in its 30 s: once more ({start + 1} of {RAY_STARTS})",
                flush=True,
            )


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
