"""The launcher inside real SLURM jobs: two nodes with Ray on both, a lost node, the time limit."""

import json
import multiprocessing
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from actor_update import parameters_after_a_step
from slurm import Cluster
from support import make_model

HERE = Path(__file__).parent
pytestmark = pytest.mark.timeout(240)


def submit(
    work: Path, nodes: int, minutes: int, notice: int, command: list[str], requeue: bool = True
) -> str:
    """Submit a job that runs the launcher; its id. What it says is in <work>/job.log."""
    python = [sys.executable, str(HERE / "in_job.py"), str(work / "run"), str(nodes), str(notice), *command]
    (work / "run").mkdir()
    options = [f"--nodes={nodes}", f"--ntasks={nodes}", "--ntasks-per-node=1", "--cpus-per-task=4"]
    options += [f"--time={minutes}", f"--output={work}/job.log", "--open-mode=append", "--parsable"]
    options += ["--requeue" if requeue else "--no-requeue", "--gres=gpu:h100:1", "--mem=8000"]
    # As Snakemake's jobs: SIGUSR1 is not for the shell
    script = f"trap '' USR1; {' '.join(python)}"
    done = subprocess.run(
        ["sbatch", *options, f"--wrap={script}"], check=True, capture_output=True, text=True
    )
    return done.stdout.strip()


def said(work: Path) -> str:
    log = work / "job.log"
    return log.read_text(errors="replace") if log.exists() else ""


def ended(cluster: Cluster, job: str) -> bool:
    return job not in cluster.jobs()


def test_two_nodes_join_one_ray_and_compute_together(queue: Cluster, tmp_path: Path) -> None:
    result = tmp_path / "result.json"
    job = submit(tmp_path, 2, 5, 30, [str(HERE / "on_two_nodes.py"), str(result), "0"])
    queue.wait_until(lambda: ended(queue, job), 120, "the end of the job")
    assert result.exists(), said(tmp_path)
    found = json.loads(result.read_text())
    assert found["nodes"] == 2
    assert sorted(found["places"]) == [["node1", "10.77.0.1"], ["node2", "10.77.0.2"]]
    assert found["totals"] == [3.0, 3.0]  # ranks 0 and 1 bring 1 and 2
    logs = tmp_path / "run" / "logs" / "nodes"
    assert "Running command on head node" in (logs / "node1.log").read_text()
    assert "Ray runtime started" in (logs / "node2.log").read_text()
    for pid in queue.nodes.values():
        left = subprocess.run(
            ["nsenter", "-t", str(pid), "-m", "-p", "ps", "-eo", "args"], capture_output=True, text=True
        )
        assert "raylet" not in left.stdout, "Ray has stopped"


def test_an_update_sharded_over_two_nodes_is_that_of_one_process(queue: Cluster, tmp_path: Path) -> None:
    model, result = tmp_path / "model", tmp_path / "result.json"
    make_model(model)
    job = submit(tmp_path, 2, 5, 30, [str(HERE / "on_two_nodes.py"), str(result), "0", str(model)])
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        expected = pool.apply(parameters_after_a_step, (model,))
    queue.wait_until(lambda: ended(queue, job), 200, "the end of the job")
    assert result.exists(), said(tmp_path)
    for parameters in torch.load(result.with_suffix(".pt"), weights_only=True):
        for name, parameter in expected.items():
            assert torch.allclose(parameters[name], parameter, rtol=0, atol=2e-6), name


def test_lost_node_ends_the_job_with_its_log(queue: Cluster, tmp_path: Path) -> None:
    result = tmp_path / "result.json"
    job = submit(tmp_path, 2, 5, 30, [str(HERE / "on_two_nodes.py"), str(result), "120"])
    queue.wait_until(lambda: result.exists() or ended(queue, job), 120, "both nodes at work")
    assert result.exists(), said(tmp_path)
    kill = ["nsenter", "-t", str(queue.nodes["node2"]), "-m", "-p", "pkill", "-KILL", "raylet"]
    subprocess.run(kill, check=True)  # in the node's own namespace of processes
    queue.wait_until(lambda: ended(queue, job), 60, "the end of the job")
    assert "TrainingFailed: node2 was lost in mid-training" in said(tmp_path)
    assert "Checkpoints are intact" in said(tmp_path)


STEPS = """
# Stands for a training run: one step a second, a checkpoint when it is asked to stop.
import signal, sys, time
from pathlib import Path
run, last = Path(sys.argv[1]), int(sys.argv[2])
tracker = run / "checkpoints" / "latest_checkpointed_iteration.txt"
tracker.parent.mkdir(exist_ok=True)
asked = []
signal.signal(signal.SIGUSR1, lambda *_: asked.append(1))
first = int(tracker.read_text()) if tracker.exists() else 0
for step in range(first + 1, last + 1):
    time.sleep(1)
    with (run / "steps").open("a") as steps:
        steps.write(f"{step}\\n")
    if asked:
        if len(sys.argv) == 3:
            tracker.write_text(str(step))
        sys.exit(75)
(run / "done").touch()
"""


@pytest.fixture
def steps(tmp_path: Path) -> str:
    path = tmp_path / "steps.py"
    path.write_text(STEPS)
    return str(path)


def test_time_limit_makes_a_checkpoint_and_requeues(queue: Cluster, tmp_path: Path, steps: str) -> None:
    # A limit of 60 s, notice 40 s ahead: the first job is asked after 20 of 30 steps, the second goes on
    job = submit(tmp_path, 1, 1, 40, [steps, str(tmp_path / "run"), "30"])
    queue.wait_until(lambda: (tmp_path / "run" / "done").exists(), 120, "the last step")
    queue.wait_until(lambda: ended(queue, job), 30, "the end of the job")
    assert f"job {job} goes on from where it was" in said(tmp_path)
    numbers = [int(line) for line in (tmp_path / "run" / "steps").read_text().split()]
    assert numbers == list(range(1, 31)), "every step once"


def test_signal_makes_a_checkpoint_and_requeues(queue: Cluster, tmp_path: Path, steps: str) -> None:
    job = submit(tmp_path, 1, 5, 30, [steps, str(tmp_path / "run"), "15"])
    queue.wait_until(lambda: (tmp_path / "run" / "steps").exists(), 30, "the first step")
    queue.run("scancel", "--signal=USR1", "--full", job)
    queue.wait_until(lambda: (tmp_path / "run" / "done").exists(), 60, "the last step")
    assert f"job {job} goes on from where it was" in said(tmp_path)
    numbers = [int(line) for line in (tmp_path / "run" / "steps").read_text().split()]
    assert numbers == list(range(1, 16))


def test_no_requeue_leaves_it_to_snakemake(queue: Cluster, tmp_path: Path, steps: str) -> None:
    job = submit(tmp_path, 1, 5, 30, [steps, str(tmp_path / "run"), "100"], requeue=False)
    queue.wait_until(lambda: (tmp_path / "run" / "steps").exists(), 30, "the first step")
    queue.run("scancel", "--signal=USR1", "--full", job)
    queue.wait_until(lambda: ended(queue, job), 30, "the end of the job")
    assert "Snakemake submits it again" in said(tmp_path)
    assert "ExitCode=75:0" in queue.run("scontrol", "show", "job", job)


def test_job_too_short_for_a_checkpoint_is_no_endless_chain(
    queue: Cluster, tmp_path: Path, steps: str
) -> None:
    job = submit(tmp_path, 1, 5, 30, [steps, str(tmp_path / "run"), "100", "saves nothing"])
    queue.wait_until(lambda: (tmp_path / "run" / "steps").exists(), 30, "the first step")
    queue.run("scancel", "--signal=USR1", "--full", job)
    queue.wait_until(lambda: ended(queue, job), 30, "the end of the job")
    assert "was too short for one checkpoint" in said(tmp_path)


def test_scancel_ends_the_run_for_good(queue: Cluster, tmp_path: Path, steps: str) -> None:
    job = submit(tmp_path, 1, 5, 30, [steps, str(tmp_path / "run"), "100"])
    queue.wait_until(lambda: (tmp_path / "run" / "steps").exists(), 30, "the first step")
    queue.run("scancel", job)
    queue.wait_until(lambda: ended(queue, job), 30, "the end of the job")
    time.sleep(8)  # longer than a requeued job waits
    assert ended(queue, job)
    assert "goes on" not in said(tmp_path)
