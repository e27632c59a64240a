"""A run that is killed goes on from its newest checkpoint. Needs verl and vLLM."""

import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path

import pandas as pd
import psutil

from entrobench.files import read_json
from entrobench.gpu_check.small_run import cell_to_train, write

STEPS = 5
KILLED_AFTER = 2  # steps
LAUNCH = "import sys, pathlib, entrobench.training.launch as l; l.launch(pathlib.Path(sys.argv[1]))"


def check_resume() -> dict[str, float]:
    """The step that the second life began from.

    Raises AssertionError where a step is lost or made twice, TrainingFailed where the run fails.
    """
    from entrobench.training.launch import launch

    with tempfile.TemporaryDirectory() as folder:
        run_dir = write(cell_to_train(Path(folder), STEPS), Path(folder))
        _kill_after_some_steps(run_dir)
        launch(run_dir)
        curve = pd.read_parquet(run_dir / "metrics.parquet")
        lives = read_json(run_dir / "train.done.json")["lives"]
    assert curve["step"].tolist() == list(range(1, STEPS + 1)), f"steps {curve['step'].tolist()}"
    ends = [life["exit"] for life in lives]
    assert ends == ["killed", "finished"], f"lives ended so: {', '.join(ends)}"
    assert lives[1]["from_step"] >= KILLED_AFTER - 1, f"it went on from step {lives[1]['from_step']}"
    return {
        "killed after step": float(lives[0]["to_step"]),
        "went on from step": float(lives[1]["from_step"]),
    }


def _kill_after_some_steps(run_dir: Path) -> None:
    """Start the run and kill all its processes at once, its guard too."""
    metrics = run_dir / "metrics.jsonl"
    run = subprocess.Popen([sys.executable, "-c", LAUNCH, str(run_dir)])
    while not (metrics.exists() and metrics.read_text().count("\n") >= KILLED_AFTER):
        assert run.poll() is None, f"the run ended by itself, exit code {run.returncode}"
        time.sleep(0.05)
    for process in [*psutil.Process(run.pid).children(recursive=True), psutil.Process(run.pid)]:
        with suppress(psutil.NoSuchProcess):
            process.kill()
    run.wait()
