"""GPUs that the jobs of a machine without a scheduler share: no two jobs have the same, none is lost."""

import os
import signal
import subprocess
import sys
import threading
import time

import pytest

from entrobench.errors import UnsupportedPlatform
from entrobench.machine.devices import leased, machine_gpus

IDS = ["0", "1", "2", "3"]
HOLD = """
import sys, time
from entrobench.machine.devices import leased
with leased(int(sys.argv[1]), sys.argv[2:]) as gpus:
    print(",".join(gpus), flush=True)
    time.sleep(60)
"""


@pytest.fixture(autouse=True)
def own_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)


def other_job(number):
    """Another process that holds so many, and which these are."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(number), *IDS], stdout=subprocess.PIPE, text=True
    )
    return process, process.stdout.readline().strip().split(",")


def test_two_jobs_have_no_gpu_in_common_and_a_killed_one_holds_none():
    other, theirs = other_job(3)
    try:
        with leased(1, IDS) as ours:
            assert set(ours) | set(theirs) == set(IDS)
    finally:
        other.send_signal(signal.SIGKILL)
        other.wait()
    with leased(4, IDS) as ours:
        assert ours == IDS


def test_a_job_waits_for_gpus_and_says_so(monkeypatch, capsys):
    monkeypatch.setattr("entrobench.machine.devices.POLL_SECONDS", 0.05)
    other, _ = other_job(3)
    end = threading.Timer(0.5, other.kill)
    end.start()
    began = time.monotonic()
    with leased(2, IDS) as ours:
        assert len(ours) == 2
    assert time.monotonic() - began > 0.3
    other.wait()
    assert capsys.readouterr().out.count("waiting for 2 of the GPUs 0, 1, 2, 3") == 1


def test_more_gpus_than_there_are_is_refused():
    with (
        pytest.raises(UnsupportedPlatform, match=r"wants 8 GPUs; this machine has 4 \(0, 1, 2, 3\)"),
        leased(8, IDS),
    ):
        pass


def test_the_gpus_of_the_machine_are_those_that_the_caller_may_use(monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2, 5")
    assert machine_gpus() == ["2", "5"]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert machine_gpus() == []
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES")
    monkeypatch.setattr("entrobench.machine.devices.gpus", lambda: [{}, {}])
    assert machine_gpus() == ["0", "1"]
    assert "CUDA_VISIBLE_DEVICES" not in os.environ
