"""A whole cell through SLURM without images, at smoke scale with eight steps: real verl, vLLM, checkpoints.

In images: test_docs.py.
"""

import json
import os
import re
import shutil
import subprocess
from pathlib import Path

import pandas as pd
import pytest
import yaml
from slurm import Cluster

PROJECT = Path(__file__).parents[2]
CELL = "results/short/papo/7b-math/dapo/seed0"
pytestmark = pytest.mark.timeout(900)


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A copy of the project with a site.yaml and a scale `short`: smoke with few steps and one benchmark."""
    folder = tmp_path / "checkout"
    listing = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard"],
        cwd=PROJECT,
        check=True,
        capture_output=True,
        text=True,
    )
    for name in listing.stdout.splitlines():
        if (PROJECT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(PROJECT / name, folder / name)
    scale = yaml.safe_load((PROJECT / "configs/scales/smoke.yaml").read_text())
    scale |= {"scale": "short", "benchmarks": {"math500": "smoke_easy"}, "recording": None}
    scale["verl"]["trainer.total_training_steps"]["value"] = 8
    scale["verl"]["trainer.save_freq"]["value"] = 2
    scale["evaluation"]["n_samples"] = 2
    (folder / "configs/scales/short.yaml").write_text(yaml.safe_dump(scale))
    site = {"slurm": {"partition": "gpu", "cpu_partition": "cpu"}, "use_images": False}
    (folder / "configs/site.yaml").write_text(yaml.safe_dump(site))
    return folder


def test_a_cell_in_the_environment_resumes_after_scancel(queue: Cluster, start, checkout: Path) -> None:
    path = f"{checkout / 'src'}:{os.environ.get('PYTHONPATH', '')}"
    environment = {"ENTROBENCH_ROOT": str(checkout), "PYTHONPATH": path}
    controller = start(checkout, f"{CELL}/scores.csv", **environment)
    folder = checkout / CELL
    mark = folder / "checkpoints/latest_checkpointed_iteration.txt"
    queue.wait_until(lambda: mark.exists() or controller.process.poll() is not None, 500, "a checkpoint")
    assert mark.exists(), controller.text()[-8000:]
    [job] = queue.jobs()
    # Snakemake sees the cancelled job and submits it again
    queue.run("scancel", job)
    assert controller.wait(500) == 0, controller.text()[-8000:]
    # Training, sampling and scores at least
    assert len(re.findall(r"submitted with SLURM jobid", controller.text())) >= 3
    assert pd.read_parquet(folder / "metrics.parquet")["step"].tolist() == list(range(1, 9)), (
        "every step once"
    )
    assert "smoke_easy" in set(pd.read_csv(folder / "scores.csv")["benchmark"])
    done = json.loads((folder / "train.done.json").read_text())
    assert re.fullmatch(r"global_step_\d+", done["resumed_from"]), "from a checkpoint, not from the beginning"
