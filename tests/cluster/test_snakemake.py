"""Snakemake through SLURM: a killed controller, a failing job, many jobs at once. Jobs without content."""

import os
import shutil
import subprocess
import time
from pathlib import Path

import pytest
from slurm import Cluster

TINY = Path(__file__).parent / "tiny" / "Snakefile"
pytestmark = pytest.mark.timeout(180)


@pytest.fixture
def work(tmp_path: Path) -> Path:
    shutil.copy(TINY, tmp_path)
    (tmp_path / "marks").mkdir()
    return tmp_path


def executions(work: Path) -> dict[str, list[str]]:
    """Job -> what it has noted: a `start` and an `end` per execution."""
    return {path.name: path.read_text().split() for path in (work / "marks").iterdir()}


def counted(folder: Path) -> dict[str, str]:
    """Environment in which every call of squeue and sacct leaves a line in <folder>/<command>.calls."""
    folder.mkdir()
    for name in ("squeue", "sacct"):
        real = shutil.which(name)
        script = folder / name
        script.write_text(f'#!/bin/sh\necho "$@" >> {folder}/{name}.calls\nexec {real} "$@"\n')
        script.chmod(0o755)
    return {"PATH": f"{folder}:{os.environ['PATH']}"}


def run(*command: str) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def calls(folder: Path) -> list[str]:
    return [line for path in folder.glob("*.calls") for line in path.read_text().splitlines()]


def test_failing_job_is_tried_three_times_and_then_ends_clearly(queue: Cluster, start, work: Path) -> None:
    controller = start(work, "done/never")
    assert controller.wait(120) == 1
    # 1 + 2 retries of the profile; a retry inside each SLURM job would make more of it
    assert executions(work) == {"fails": ["start"] * 3}
    assert "the disk is full" in controller.text(), "the job's own log is shown"
    assert not queue.jobs()


def test_killed_controller_goes_on_and_runs_nothing_twice(queue: Cluster, start, work: Path) -> None:
    # 4 jobs: when the controller is killed two run (one has ended before it is back), two wait
    arguments = ["many", "--config", "jobs=4", "seconds=12"]
    first = start(work, *arguments)
    queue.wait_until(lambda: len(executions(work)) >= 2, 60, "two jobs running")
    first.kill()
    left = queue.jobs()
    assert left, "SLURM's jobs outlive the controller"
    second = start(work, *arguments, "--unlock")
    assert second.wait(30) == 0
    third = start(work, *arguments)
    assert third.wait(120) == 0, third.text()
    assert "submitted by an earlier controller" in third.text()
    assert executions(work) == {str(number): ["start", "end"] for number in range(4)}


def test_a_job_with_other_settings_is_cancelled_and_submitted_anew(queue: Cluster, start, work: Path) -> None:
    first = start(work, "many", "--config", "seconds=100", "settings=a")
    queue.wait_until(lambda: executions(work) == {"0": ["start"]}, 60, "the job running")
    queue.wait_until(lambda: "settings=a" in run("squeue", "--Format=Comment:|"), 20, "its settings in SLURM")
    first.kill()
    arguments = ["many", "--config", "seconds=1", "settings=b"]
    assert start(work, *arguments, "--unlock").wait(30) == 0
    second = start(work, *arguments)
    assert second.wait(120) == 0, second.text()
    assert "with other settings; that job is cancelled" in second.text()
    assert executions(work) == {"0": ["start", "start", "end"]}


def test_jobs_that_ended_without_a_controller_are_not_run_again(queue: Cluster, start, work: Path) -> None:
    arguments = ["many", "--config", "jobs=2", "seconds=4"]
    first = start(work, *arguments)
    queue.wait_until(lambda: len(executions(work)) == 2, 60, "two jobs running")
    first.kill()
    queue.wait_until(lambda: not queue.jobs(), 60, "both jobs done")
    assert start(work, *arguments, "--unlock").wait(30) == 0
    assert start(work, *arguments).wait(60) == 0
    assert executions(work) == {str(number): ["start", "end"] for number in range(2)}


def test_cells_get_the_nodes_and_gpus_that_they_ask_for(queue: Cluster, start, work: Path) -> None:
    controller = start(work, "done/two_nodes", "done/one_gpu")
    assert controller.wait(120) == 0, controller.text()
    all_eight = "0,1,2,3,4,5,6,7"
    assert (work / "done/two_nodes").read_text() == f"node1 {all_eight}\nnode2 {all_eight}\n"
    node, gpu = (work / "done/one_gpu").read_text().split()
    assert node in ("node1", "node2")
    assert gpu in list("01234567")


def test_200_jobs_without_a_storm_of_status_calls(queue: Cluster, start, work: Path, tmp_path: Path) -> None:
    folder = tmp_path / "bin"
    environment = counted(folder)
    started = time.monotonic()
    # Held in the queue, as on a busy cluster: to run, each would start Snakemake twice on these cores
    queue.run("scontrol", "update", "PartitionName=cpu", "State=DOWN")
    try:
        controller = start(work, "many", "--jobs", "200", "--config", "jobs=200", **environment)
        queue.wait_until(lambda: len(queue.jobs()) == 200, 100, "200 jobs in the queue")
        queued = time.monotonic() - started
        before = len(calls(folder))
        time.sleep(30)
        waited = len(calls(folder)) - before
    finally:
        controller.kill()
        queue.clear()
        queue.run("scontrol", "update", "PartitionName=cpu", "State=UP")
    print(f"200 jobs queued in {queued:.0f} s with {before} status calls; {waited} calls in 30 s of waiting")
    assert not executions(work)
    # One call asks about all jobs, at most one every few seconds, whatever their number
    assert before <= 5 + queued / 3
    assert waited <= 6
