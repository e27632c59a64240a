"""The first page of docs/cluster.md, followed as it stands by an ordinary user, to a cell with scores.

In images, trained on two nodes, through the profile that users have. What is edited is what a user edits
(site.yaml), the length of the run and its nodes, and how often SLURM is asked. In mid-training comes the
signal that the launcher sends ahead of a time limit too: the run goes on in the same job.
"""

import json
import os
import re
import shlex
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest
import yaml
from slurm import Cluster

from entrobench.images.sif import image_file, lock_file, read_lock, record

PROJECT = Path(__file__).parents[2]
USER = "entrobench-docs"
AS_USER = [shutil.which("runuser") or "runuser", "--user", USER, "--"]
CELL = "results/smoke/papo/7b-math/dapo/seed0"
# How a machine reaches its package index
OF_THE_MACHINE = re.compile(r"^(PIP_|UV_|SSL_|REQUESTS_CA)|_proxy$", re.IGNORECASE)
pytestmark = pytest.mark.timeout(1200)


@pytest.fixture
def home() -> Iterator[Path]:
    """The home of an ordinary user that is there for this test only."""
    if shutil.which("apptainer") is None:
        pytest.skip("no apptainer; containers/install-apptainer.sh installs it")
    missing = [name for name in ("train", "evaluate", "report") if not image_file(name, "cpu", None).exists()]
    if missing:
        pytest.skip(f"not built: {', '.join(missing)}; type: make images DEVICE=cpu")
    subprocess.run(["useradd", "--create-home", USER], check=True)
    # Where udev runs, everybody may; without it nobody but root can mount an image
    fuse = Path("/dev/fuse")
    mode = fuse.stat().st_mode
    fuse.chmod(0o666)
    yield Path("/home") / USER
    fuse.chmod(mode)
    subprocess.run(["pkill", "-9", "-u", USER], check=False)
    subprocess.run(["userdel", "--remove", "--force", USER], capture_output=True, check=True)


@pytest.fixture
def published(home: Path) -> Path:
    """A folder of published images, and a project whose lock records them."""
    folder = home / "published"
    (folder / "images").mkdir(parents=True)
    for name in ("train", "evaluate", "report"):
        image = image_file(name, "cpu", None)
        try:
            os.link(image, folder / "images" / image.name)
        except OSError:
            shutil.copy(image, folder / "images")
    project = folder / "project"
    subprocess.run(["git", "clone", "--quiet", str(PROJECT), str(project)], check=True)
    for image, entry in read_lock(lock_file()).images.items():
        record(image, entry, project / "containers/images.lock.yaml")
    edit(project / "configs/scales/smoke.yaml", "trainer.total_training_steps: {value: 32}", 8)
    # No checkpoint but the one that the signal asks for
    edit(project / "configs/scales/smoke.yaml", "trainer.save_freq: {value: 8}", 100)
    scale = project / "configs/scales/smoke.yaml"
    scale.write_text(scale.read_text().replace("verl:\n", "verl:\n  trainer.nnodes: {value: 2}\n", 1))
    edit(project / "configs/scales/smoke.yaml", "n_samples: 8", 2)
    profile = project / "workflow/profiles/slurm/config.yaml"
    edit(profile, "max-status-checks-per-second: 0.2", 1)
    edit(profile, "slurm-resume-init-seconds-before-status-checks: 60", 6)
    edit(profile, "slurm-resume-status-attempts: 10", 3)
    edit(profile, "latency-wait: 60", 10)
    # There is no accounting here
    profile.write_text(profile.read_text() + "slurm-resume-status-command: squeue\n")
    git = ["git", "-C", str(project), "-c", "user.name=x", "-c", "user.email=x"]
    subprocess.run([*git, "commit", "--quiet", "--all", "--message", "Published"], check=True)
    subprocess.run(["chown", "--recursive", USER, str(project)], check=True)
    return folder


def edit(path: Path, setting: str, value: int) -> None:
    """Give a setting that stands in a file another value."""
    text = path.read_text()
    assert setting in text, f"{path} has no {setting}"
    path.write_text(text.replace(setting, re.sub(r"[\d.]+(\}?)$", rf"{value}\1", setting)))


def first_page() -> list[str]:
    """The commands of the first block of docs/cluster.md."""
    block = (PROJECT / "docs/cluster.md").read_text().split("```")[1]
    return [line.split("  #")[0].rstrip() for line in block.strip().splitlines()]


def site_of(published: Path) -> str:
    site = yaml.safe_load((PROJECT / "configs/site.example.yaml").read_text())
    site["slurm"] |= {"partition": "gpu", "cpu_partition": "cpu", "prologue": ["export PROLOGUE=seen"]}
    # The names of nodes resolve to nothing here
    site |= {"images_from": f"file://{published}/images", "interface": "eth0"}
    return yaml.safe_dump(site)


def test_the_first_page_leads_an_ordinary_user_to_a_cell(queue: Cluster, home: Path, published: Path) -> None:
    lines = []
    for line in first_page():
        lines.append(line.replace("<this repository>", str(published / "project")))
        if line.startswith("cp configs/site.example.yaml"):
            lines.append(f"printf %s {shlex.quote(site_of(published))} > configs/site.yaml")
        if line.startswith("snakemake"):
            lines.insert(-1, "date +%s > ../submitting")
    script = home / "first-page.sh"
    script.write_text("\n".join(["set -ex", *lines, ""]))
    machine = {name: value for name, value in os.environ.items() if OF_THE_MACHINE.search(name)}
    path = "/opt/apptainer/usr/bin:/usr/local/bin:/usr/bin:/bin"
    environment = machine | {"HOME": str(home), "PATH": path, "LC_ALL": "C.UTF-8"}
    log = home / "first-page.log"
    with log.open("wb") as stream:
        began = time.time()
        page = subprocess.Popen(
            [*AS_USER, "bash", str(script)],
            cwd=home, env=environment, stdout=stream, stderr=stream, stdin=subprocess.DEVNULL,
        )  # fmt: skip
    cell = home / "entrobench" / CELL
    curve = cell / "metrics.jsonl"
    queue.wait_until(lambda: curve.exists() or page.poll() is not None, 800, "a step")
    assert curve.exists(), log.read_text()[-8000:]
    print(f"to the first submission: {int((home / 'submitting').read_text()) - began:.0f} s")
    [job] = queue.jobs()
    queue.run("scancel", "--signal=USR1", "--full", job)
    assert page.wait(800) == 0, log.read_text()[-8000:]
    lives = json.loads((cell / "train.done.json").read_text())["lives"]
    assert [life["exit"] for life in lives] == ["stopped by SIGUSR1", "finished"]
    assert {life["job"] for life in lives} == {job}, "requeued, not submitted again"
    assert 0 < lives[1]["from_step"] < 8
    # Each node holds half of the weights and of the moments, and generates with all of the weights
    assert len(list((cell / "checkpoints/global_step_8/actor").glob("model_world_size_2_rank_*.pt"))) == 2
    trained = pd.read_parquet(cell / "metrics.parquet")
    assert trained["step"].tolist() == list(range(1, 9)), "every step once"
    assert (trained["token_stats/log_prob_mismatch_max"] < 1e-4).all()
    assert (trained["training/rollout_probs_diff_max"] < 1e-3).all()
    assert "smoke_easy" in set(pd.read_csv(cell / "scores.csv")["benchmark"])
    assert cell.owner() == USER
    runs = json.loads((cell / "manifest.json").read_text())["runs"]
    commit = subprocess.run(
        ["git", "-C", str(published / "project"), "-c", "safe.directory=*", "rev-parse", "HEAD"],
        check=True, capture_output=True, text=True,
    ).stdout.strip()  # fmt: skip
    for kind, image in (("train", "train-cpu"), ("evaluate", "evaluate-cpu")):
        assert runs[kind]["code"]["commit"] == commit, "an image has no git"
        assert runs[kind]["image"] == read_lock(lock_file()).images[image].sha256
    assert not Path(f"/tmp/entrobench-{job}").exists(), "a job leaves no folder of its own"
    again = f"source .venv/bin/activate; {first_page()[-1]} -n; git status --short"
    said = subprocess.run(
        [*AS_USER, "bash", "-c", again],
        cwd=home / "entrobench", env=environment, check=True, capture_output=True, text=True,
    )  # fmt: skip
    assert "Nothing to be done" in said.stdout + said.stderr
    assert "\n M " not in said.stdout, "the checkout is clean"
