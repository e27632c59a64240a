"""Whole cells through SLURM, at smoke scale with eight steps: real verl, real vLLM, real checkpoints.

Data and tiny model are made once and shared by the tests of this file.
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

from entrobench.images.sif import image_file

PROJECT = Path(__file__).parents[2]
PAPO = "papo/7b-math/papo_polarity/seed0"
DAPO = "papo/7b-math/dapo/seed0"
pytestmark = pytest.mark.timeout(900)


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the project with a site.yaml and a scale `short`: smoke with few steps and one benchmark."""
    folder = tmp_path_factory.mktemp("checkout")
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
    return folder


def write_short_scale(folder: Path, steps: int, save_every: int, nodes: int) -> None:
    scale = yaml.safe_load((PROJECT / "configs/scales/smoke.yaml").read_text())
    scale["scale"] = "short"
    scale["benchmarks"] = {"math500": "smoke_easy"}
    scale["verl"]["trainer.total_training_steps"]["value"] = steps
    scale["verl"]["trainer.save_freq"]["value"] = save_every
    scale["verl"]["trainer.nnodes"] = {"value": nodes}
    scale["evaluation"]["n_samples"] = 2
    scale["recording"] = None
    (folder / "configs/scales/short.yaml").write_text(yaml.safe_dump(scale))


def write_site(folder: Path, images: Path | None) -> None:
    site = {"slurm": {"partition": "gpu", "cpu_partition": "cpu"}, "use_images": images is not None}
    if images is not None:
        site["paths"] = {"images": str(images)}
    (folder / "configs/site.yaml").write_text(yaml.safe_dump(site))


def cpu_images() -> Path:
    """The folder of the images that a cell at smoke scale runs in; skips without Apptainer or one of them."""
    if shutil.which("apptainer") is None:
        pytest.skip("no apptainer; containers/install-apptainer.sh installs it")
    files = [image_file(name, "cpu", None) for name in ("train", "evaluate", "report")]
    missing = [file.name for file in files if not file.exists()]
    if missing:
        pytest.skip(f"not built: {', '.join(missing)}; type: make images DEVICE=cpu")
    return files[0].parent


def environment(folder: Path) -> dict[str, str]:
    inherited = os.environ.get("PYTHONPATH", "")
    return {"ENTROBENCH_ROOT": str(folder), "PYTHONPATH": f"{folder / 'src'}:{inherited}"}


@pytest.fixture
def run_cell(queue: Cluster, start, checkout: Path):
    """run_cell(cell, images, save_every, mark, nodes): start eight steps of training, a process on each node,
    and the evaluation in SLURM and wait until the training has made the file `mark`; the cell's folder, the
    controller and the job.
    """

    def run(cell: str, images: Path | None, save_every: int, mark: str, nodes: int = 1):
        write_site(checkout, images)
        write_short_scale(checkout, steps=8, save_every=save_every, nodes=nodes)
        folder = checkout / "results/short" / cell
        # What the other test has made stays, though it was made in an image or without one
        arguments = [f"results/short/{cell}/scores.csv", "--rerun-triggers", "mtime"]
        # The interface between the nodes: their names resolve to nothing here
        controller = start(checkout, *arguments, **environment(checkout), GLOO_SOCKET_IFNAME="eth0")
        queue.wait_until(lambda: (folder / mark).exists() or controller.process.poll() is not None, 500, mark)
        assert (folder / mark).exists(), controller.text()[-8000:]
        [job] = queue.jobs()
        return folder, controller, job

    return run


def check_cell(folder: Path, controller) -> None:
    """The controller ends well; every step was made once, and the cell is evaluated."""
    assert controller.wait(500) == 0, controller.text()[-8000:]
    # Training, sampling and scores at least; cell.yaml is made by the controller itself
    assert len(re.findall(r"submitted with SLURM jobid", controller.text())) >= 3
    assert pd.read_parquet(folder / "metrics.parquet")["step"].tolist() == list(range(1, 9)), (
        "every step once"
    )
    assert "smoke_easy" in set(pd.read_csv(folder / "scores.csv")["benchmark"])


def test_a_cell_on_two_nodes_in_images_goes_on_after_a_signal_in_the_same_job(
    queue: Cluster, run_cell
) -> None:
    # The signal is what the launcher sends ahead of the time limit too; no checkpoint but the one it asks for
    folder, controller, job = run_cell(PAPO, cpu_images(), 100, "metrics.jsonl", nodes=2)
    queue.run("scancel", "--signal=USR1", "--full", job)
    check_cell(folder, controller)
    lives = json.loads((folder / "train.done.json").read_text())["lives"]
    assert [life["exit"] for life in lives] == ["stopped by SIGUSR1", "finished"]
    assert {life["job"] for life in lives} == {job}, "requeued, not submitted again"
    assert 0 < lives[1]["from_step"] < 8
    # Each node holds half of the weights and of the moments, and generates with all of the weights
    assert len(list((folder / "checkpoints/global_step_8/actor").glob("model_world_size_2_rank_*.pt"))) == 2
    curve = pd.read_parquet(folder / "metrics.parquet")
    assert (curve["token_stats/log_prob_mismatch_max"] < 1e-4).all()
    assert (curve["training/rollout_probs_diff_max"] < 1e-3).all()


def test_a_cell_in_the_environment_resumes_after_scancel(queue: Cluster, run_cell) -> None:
    folder, controller, job = run_cell(DAPO, None, 2, "checkpoints/latest_checkpointed_iteration.txt")
    # Snakemake sees the cancelled job and submits it again
    queue.run("scancel", job)
    check_cell(folder, controller)
    done = json.loads((folder / "train.done.json").read_text())
    assert re.fullmatch(r"global_step_\d+", done["resumed_from"]), "from a checkpoint, not from the beginning"
