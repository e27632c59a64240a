"""One throw-away cluster for all tests here; they skip, with the reason, where none can be started."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from slurm import Cluster, running_cluster, why_not

PROJECT = Path(__file__).parents[2]


@pytest.fixture(scope="session")
def cluster() -> Iterator[Cluster]:
    """Two nodes, node1 and node2, with eight fake GPUs each; this machine is the login node."""
    if reason := why_not():
        pytest.skip(reason)
    if subprocess.run(
        [sys.executable, "-c", "import snakemake_executor_plugin_slurm"], check=False
    ).returncode:
        pytest.fail(
            "snakemake-executor-plugin-slurm is not installed. Type: rm .venv/.installed; make cluster-test"
        )
    with running_cluster() as found:
        yield found


@pytest.fixture
def queue(cluster: Cluster) -> Iterator[Cluster]:
    """The cluster with an empty queue, before and after the test."""
    cluster.clear()
    yield cluster
    cluster.clear()


class Controller:
    """A Snakemake process on the login node. output: file with what it says."""

    def __init__(self, folder: Path, arguments: list[str], environment: dict[str, str], name: str) -> None:
        self.output = folder / f"{name}.log"
        with self.output.open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "snakemake", *arguments],
                cwd=folder,
                env=environment,
                stdout=log,
                stderr=log,
                stdin=subprocess.DEVNULL,
                start_new_session=True,
            )

    def kill(self) -> None:
        """kill -9, as by the out-of-memory killer of a login node."""
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def wait(self, seconds: float) -> int:
        """Exit status. Fails the test when it takes longer."""
        try:
            return self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            self.kill()
            pytest.fail(f"Snakemake did not end within {seconds:.0f} s:\n{self.text()[-6000:]}")

    def text(self) -> str:
        """What it has said."""
        return self.output.read_text(encoding="utf-8", errors="replace")


@pytest.fixture
def start(tmp_path: Path) -> Iterator:  # type: ignore[type-arg]
    """start(folder, *arguments, **environment): Snakemake with the ci profile; ended after the test."""
    running: list[Controller] = []

    def start_controller(folder: Path, *arguments: str, **environment: str) -> Controller:
        profile = ["--profile", str(PROJECT / "workflow/profiles/ci"), "--nocolor"]
        # SLURM's jobs inherit this: no bytecode would cost each of them seconds
        inherited = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
        # Nor do they activate the environment that this Python is of
        inherited["PATH"] = f"{Path(sys.executable).parent}:{inherited['PATH']}"
        controller = Controller(
            folder, [*profile, *arguments], inherited | environment, f"snakemake{len(running)}"
        )
        running.append(controller)
        return controller

    yield start_controller
    for controller in running:
        if controller.process.poll() is None:
            controller.kill()
