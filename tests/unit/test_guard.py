"""The guard on small stand-ins for a training process: each does one thing that a real one has been seen to
do.
"""

import os
import signal
import subprocess
import sys
import textwrap
import time
from multiprocessing import shared_memory
from pathlib import Path

import psutil
import pytest

GUARD = """
import os, sys
from pathlib import Path
from entrobench.errors import TrainingFailed
from entrobench.training.guard import Limits, supervise
run_dir = Path(sys.argv[1])
stall, error = float(sys.argv[3]), float(sys.argv[4])
limits = Limits(startup=stall, stall=stall, error=error, dead_child=2.0)
try:
    supervise([sys.executable, sys.argv[2]], run_dir, limits, dict(os.environ, RUN_DIR=str(run_dir)))
except TrainingFailed as error:
    print(error)
    sys.exit(1)
except KeyboardInterrupt as error:
    print("interrupted by", error)
    sys.exit(130)
"""
PREAMBLE = """
import json, os, subprocess, sys, time
from pathlib import Path
run_dir = Path(os.environ["RUN_DIR"])
def beat(phase, step):
    (run_dir / "progress.json").write_text(json.dumps({"phase": phase, "step": step, "time": time.time()}))
"""


@pytest.fixture
def guard(tmp_path):
    """Start the guard on a script; stall and error limits in seconds."""
    started = []

    def start(script: str, stall: float = 30, error: float = 30) -> subprocess.Popen:
        path = tmp_path / "train.py"
        path.write_text(PREAMBLE + textwrap.dedent(script))
        process = subprocess.Popen(
            [sys.executable, "-c", GUARD, str(tmp_path), str(path), str(stall), str(error)],
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )  # fmt: skip
        started.append(process)
        return process

    yield start
    for process in started:
        if process.poll() is None:
            process.kill()


def wait_for(condition, seconds: float = 20) -> None:
    deadline = time.time() + seconds
    while not condition():
        assert time.time() < deadline, "the expected state was not reached"
        time.sleep(0.05)


def is_alive(pid: int) -> bool:
    return psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE


def test_a_run_that_ends_well_is_left_alone(guard):
    process = guard("beat('generate', 1); print('fine')")
    assert process.communicate(timeout=30)[0] == ""
    assert process.returncode == 0


def test_a_hang_is_ended_and_named(guard):
    process = guard("beat('update_weights', 3); time.sleep(600)", stall=3)
    output = process.communicate(timeout=40)[0]
    assert process.returncode == 1
    assert "(limit 3 s) in phase 'update_weights' of step 3" in output


def test_the_error_of_a_hanging_worker_is_reported_without_waiting_for_the_stall_limit(guard):
    script = """
    beat('update_weights', 2)
    log = '''(Worker pid=77) Traceback (most recent call last):
    (Worker pid=77)   File "worker.py", line 1, in load
    (Worker pid=77) AttributeError: 'Parameter' object has no attribute 'weight_loader'
    something else'''
    print(log, flush=True)
    time.sleep(600)
    """
    process = guard(script, stall=600, error=2)
    output = process.communicate(timeout=40)[0]
    assert process.returncode == 1
    assert "a worker failed" in output
    assert "AttributeError: 'Parameter' object has no attribute 'weight_loader'" in output
    assert "something else" not in output


def test_a_failed_run_reports_its_last_traceback(guard):
    process = guard("beat('generate', 1)\nraise ValueError('the reason')")
    output = process.communicate(timeout=30)[0]
    assert process.returncode == 1
    assert "exit code 1" in output
    assert "ValueError: the reason" in output


def test_a_dead_essential_process_ends_the_run(guard, tmp_path):
    script = """
    child = subprocess.Popen(["bash", "-c", "exec -a raylet sleep 600"])
    (run_dir / "child").write_text(str(child.pid))
    beat('generate', 5)
    time.sleep(600)
    """
    process = guard(script, stall=600)
    wait_for((tmp_path / "child").exists)
    time.sleep(13)  # the guard has to have seen it alive and settled
    os.kill(int((tmp_path / "child").read_text()), signal.SIGKILL)
    output = process.communicate(timeout=40)[0]
    assert process.returncode == 1
    assert "a process of the run has died: raylet" in output


def test_interrupt_leaves_no_process_behind_not_even_a_daemon(guard, tmp_path):
    script = """
    subprocess.Popen(["bash", "-c", "setsid sleep 600 & echo $! > %s/daemon" % run_dir])
    beat('generate', 1)
    time.sleep(600)
    """
    process = guard(script)
    wait_for((tmp_path / "daemon").exists)
    wait_for(lambda: (tmp_path / "daemon").read_text().strip() != "")
    daemon = int((tmp_path / "daemon").read_text())
    assert is_alive(daemon)
    process.send_signal(signal.SIGINT)
    assert "interrupted by SIGINT" in process.communicate(timeout=40)[0]
    assert process.returncode == 130
    assert not is_alive(daemon)


def test_shared_memory_of_the_run_is_removed_and_that_of_others_is_not(guard, tmp_path):
    script = """
    from multiprocessing import resource_tracker, shared_memory
    block = shared_memory.SharedMemory(create=True, size=4096)
    resource_tracker.unregister(block._name, "shared_memory")  # nobody tidies up, as after a kill -9
    (run_dir / "name").write_text(block.name)
    beat('generate', 1)
    time.sleep(4)
    os.kill(os.getpid(), 9)
    """
    foreign = shared_memory.SharedMemory(create=True, size=4096)
    try:
        process = guard(script)
        process.communicate(timeout=40)
        assert process.returncode == 1
        name = (tmp_path / "name").read_text()
        assert not Path("/dev/shm", name).exists()
        assert Path("/dev/shm", foreign.name).exists()
    finally:
        foreign.close()
        foreign.unlink()


def test_a_run_does_not_outlive_a_killed_guard(guard, tmp_path):
    process = guard("(run_dir / 'pid').write_text(str(os.getpid())); beat('generate', 1); time.sleep(600)")
    wait_for((tmp_path / "pid").exists)
    wait_for(lambda: (tmp_path / "pid").read_text() != "")
    child = int((tmp_path / "pid").read_text())
    process.kill()
    wait_for(lambda: not is_alive(child))


def test_the_next_run_removes_the_folder_that_a_killed_guard_left(guard, tmp_path):
    process = guard("beat('generate', 1); time.sleep(600)")
    wait_for((tmp_path / "progress.json").exists)
    left_over = Path((tmp_path / "ray_folder.txt").read_text())
    process.kill()
    process.wait()
    assert left_over.is_dir()
    time.sleep(1)  # the lock goes with the killed guard's child
    assert guard("beat('generate', 1)").wait(timeout=30) == 0
    assert not left_over.exists()
    assert not (tmp_path / "ray_folder.txt").exists()


def test_a_cell_is_not_trained_twice_at_once(guard):
    first = guard("beat('generate', 1); time.sleep(600)")
    time.sleep(2)
    second = guard("beat('generate', 1)")
    output = second.communicate(timeout=30)[0]
    assert second.returncode == 1
    assert "is being trained by another process" in output
    assert first.poll() is None
