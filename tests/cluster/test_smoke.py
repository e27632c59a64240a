"""A whole cell through SLURM, at smoke scale with four steps: real verl, real vLLM, real checkpoints.

Data and tiny model are made once and shared by the tests of this file.
"""

import json
import os
import re
import shutil
import subprocess
import time
from pathlib import Path

import pandas as pd
import pytest
import yaml
from slurm import Cluster

from entrobench.images.sif import image_file

PROJECT = Path(__file__).parents[2]
CELL = "papo/7b-math/papo_polarity/seed0"
DAPO = "papo/7b-math/dapo/seed0"
GRPO = "papo/7b-math/grpo/seed0"
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
    write_short_scale(folder, steps=4, save_every=2)
    return folder


def write_short_scale(folder: Path, steps: int, save_every: int) -> None:
    scale = yaml.safe_load((PROJECT / "configs/scales/smoke.yaml").read_text())
    scale["scale"] = "short"
    scale["benchmarks"] = {"math500": "smoke_easy"}
    scale["verl"]["trainer.total_training_steps"]["value"] = steps
    scale["verl"]["trainer.save_freq"]["value"] = save_every
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


def metrics(folder: Path, cell: str) -> list[int]:
    return pd.read_parquet(folder / "results/short" / cell / "metrics.parquet")["step"].tolist()


@pytest.mark.parametrize("where", ["image", "venv"])
def test_smoke_dag_of_one_cell(queue: Cluster, start, checkout: Path, where: str) -> None:
    write_site(checkout, cpu_images() if where == "image" else None)
    write_short_scale(checkout, steps=4, save_every=2)
    shutil.rmtree(checkout / "results/short" / CELL, ignore_errors=True)
    target = f"results/short/{CELL}/scores.csv"
    started = time.monotonic()
    controller = start(checkout, target, **environment(checkout))
    assert controller.wait(840) == 0, controller.text()[-8000:]
    # Data, model, training, evaluation and scores; cell.yaml is made by the controller itself
    submitted = re.findall(r"submitted with SLURM jobid", controller.text())
    print(f"{len(submitted)} jobs in {time.monotonic() - started:.0f} s")
    assert len(submitted) >= 3
    assert metrics(checkout, CELL) == [1, 2, 3, 4]
    scores = pd.read_csv(checkout / target)
    assert "smoke_easy" in set(scores["benchmark"])


@pytest.fixture
def train(queue: Cluster, start, checkout: Path):
    """train(cell, save_every, mark): start eight steps of training through SLURM and wait until the run has
    made the file `mark`; the run's folder, the controller and the job.
    """

    def start_training(cell: str, save_every: int, mark: str):
        write_site(checkout, None)
        write_short_scale(checkout, steps=8, save_every=save_every)
        folder = checkout / "results/short" / cell
        controller = start(checkout, f"results/short/{cell}/train.done.json", **environment(checkout))
        queue.wait_until(lambda: (folder / mark).exists() or controller.process.poll() is not None, 500, mark)
        assert (folder / mark).exists(), controller.text()[-8000:]
        [job] = queue.jobs()
        return folder, controller, job

    return start_training


def test_scancel_in_mid_training_then_resume(queue: Cluster, train, checkout: Path) -> None:
    folder, controller, job = train(DAPO, 2, "checkpoints/latest_checkpointed_iteration.txt")
    queue.run("scancel", job)
    # Snakemake sees the cancelled job and submits it again
    assert controller.wait(500) == 0, controller.text()[-8000:]
    done = json.loads((folder / "train.done.json").read_text())
    assert re.fullmatch(r"global_step_\d+", done["resumed_from"]), "from a checkpoint, not from the beginning"
    assert metrics(checkout, DAPO) == list(range(1, 9)), "every step once"


def test_signalled_training_goes_on_in_the_same_job(queue: Cluster, train, checkout: Path) -> None:
    # The signal is what the launcher sends ahead of the time limit too; no checkpoint but the one it asks for
    folder, controller, job = train(GRPO, 100, "metrics.jsonl")
    queue.run("scancel", "--signal=USR1", "--full", job)
    assert controller.wait(500) == 0, controller.text()[-8000:]
    done = json.loads((folder / "train.done.json").read_text())
    assert [life["exit"] for life in done["lives"]] == ["stopped by SIGUSR1", "finished"]
    assert {life["job"] for life in done["lives"]} == {job}, "requeued, not submitted again"
    assert 0 < done["lives"][1]["from_step"] < 8
    assert metrics(checkout, GRPO) == list(range(1, 9)), "every step once"
