"""`entrobench run`: cells on a machine with GPUs and no scheduler, as a dry run shows them."""

import os
import re
import subprocess
import sys

import pytest
from command_line import entrobench

from entrobench.cells import resolve
from entrobench.cluster import python
from entrobench.cluster.launch import shown_command
from entrobench.configs import Configs
from entrobench.machine.site import Paths, Site, Slurm
from entrobench.paths import repository_root

pytestmark = pytest.mark.slow
ROOT = repository_root()
CELL = "papo/7b-math/papo_polarity/seed0"


def test_a_dry_run_shows_jobs_gpus_and_commands_without_slurm_or_gpu(tmp_path):
    command = [sys.executable, "-m", "entrobench.cli", "run", CELL, "--scale", "mini", "--gpus", "8"]
    done = subprocess.run(
        [*command, "--dry-run", "--results", str(tmp_path)],
        cwd=ROOT, env=os.environ | {"CUDA_VISIBLE_DEVICES": ""}, capture_output=True, text=True, check=True,
    )  # fmt: skip
    said = done.stdout + done.stderr
    for job in ("Getting qwen2_5_0_5b", "Preparing math500", f"Training {CELL}", f"Sampling {CELL}"):
        assert job in said
    assert f"entrobench launch {CELL} --scale mini --results {tmp_path} --settings " in said
    shown = said.partition("On 8 GPUs of this machine")[2]
    assert re.findall(r"(train|sample) \S+: GPUs (\d+)", shown) == [("train", "1"), ("sample", "1")]
    assert not (tmp_path / "mini").exists()


def test_the_command_names_image_and_folders(tmp_path, monkeypatch):
    monkeypatch.setattr(python, "_locked", lambda image: "0" * 64)
    site = Site(slurm=Slurm(partition=""), paths=Paths(images="/images"))
    cell = resolve(CELL, "mini", Configs(ROOT / "configs"), tmp_path)
    shown = shown_command(cell, tmp_path / "mini" / CELL, site, "train")
    assert " apptainer --silent exec " in shown
    assert "--nv" in shown
    assert f"/images/train-cuda.sif python -m entrobench.cli train {CELL} --scale mini" in shown
    assert "/images/evaluate-cuda.sif" in shown_command(cell, tmp_path / "mini" / CELL, site, "sample")
    monkeypatch.undo()
    missing = shown_command(cell, tmp_path / "mini" / CELL, site, "train")
    assert missing.startswith(
        "not yet: /images/train-cuda.sif does not exist. Type: make images IMAGES=train"
    )


def test_without_a_gpu_the_advice_is_a_dry_run(monkeypatch, capsys):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert entrobench("run", CELL, "--scale", "mini") == 1
    assert "--gpus 8 --dry-run" in capsys.readouterr().err
