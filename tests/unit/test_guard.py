"""The guard on small stand-ins for a training process: each does one thing that a real one has been seen to
do.
"""

import json
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

pytestmark = pytest.mark.slow

GUARD = """
import os, sys
from pathlib import Path
from entrobench.errors import TrainingFailed, Unfinished
from entrobench.training.guard import Limits, supervise
run_dir = Path(sys.argv[1])
stall, error, stop = (float(limit) for limit in sys.argv[3:6])
limits = Limits(startup=stall, stall=stall, error=error, stop=stop, dead_child=2.0)
try:
    supervise([sys.executable, sys.argv[2]], run_dir, limits, dict(os.environ, RUN_DIR=str(run_dir)))
except TrainingFailed as error:
    print(error)
    sys.exit(1)
except Unfinished as error:
    print("Unfinished:", error, flush=True)
    sys.exit(75)
except KeyboardInterrupt as error:
    print("interrupted by", error)
    sys.exit(130)
"""
PREAMBLE = """
import json, os, subprocess, sys, time
from pathlib import Path
run_dir = Path(os.environ["RUN_DIR"])
def beat(phase, step):
    write("progress.json", {"phase": phase, "step": step, "time": time.time()})
def write(name, value):
    (run_dir / "new").write_text(json.dumps(value))
    (run_dir / "new").rename(run_dir / name)
"""


@pytest.fixture
def guard(tmp_path):
    """Start the guard on a script; limits in seconds."""
    started = []

    def start(script: str, stall: float = 30, error: float = 30, stop: float = 30) -> subprocess.Popen:
        path = tmp_path / "train.py"
        path.write_text(PREAMBLE + textwrap.dedent(script))
        process = subprocess.Popen(
            [sys.executable, "-c", GUARD, str(tmp_path), str(path), str(stall), str(error), str(stop)],
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


def pid_in(path: Path) -> int:
    """The number that a process writes into a file; waits for it."""
    wait_for(lambda: path.exists() and path.read_text().strip() != "")
    return int(path.read_text())


def kill_guard(process: subprocess.Popen) -> None:
    process.kill()
    process.wait()
    time.sleep(1)  # the lock goes with the killed guard's child


def is_alive(pid: int) -> bool:
    return psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE


def test_a_run_that_ends_well_is_left_alone(guard):
    process = guard("beat('generate', 1); print('fine')")
    assert process.communicate(timeout=30)[0] == ""
    assert process.returncode == 0


def test_logs_of_earlier_lives_stay(guard, tmp_path):
    for life in ("first", "second", "third"):
        assert guard(f"print('{life}')").wait(timeout=30) == 0
    logs = ("train.1.log", "train.2.log", "train.log")
    assert [(tmp_path / name).read_text().strip() for name in logs] == ["first", "second", "third"]


def test_what_the_run_has_to_tell_is_told(guard):
    script = """
    print("entrobench: resuming from global_step_4", flush=True)
    sys.stdout.write("something of verl's\\n(TaskRunner pid=7) entrobench: cut ")
    sys.stdout.flush()
    time.sleep(2)
    print("in two")
    """
    output = guard(script).communicate(timeout=30)[0]
    assert output == "entrobench: resuming from global_step_4\nentrobench: cut in two\n"


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
    child = pid_in(tmp_path / "child")
    time.sleep(13)  # the guard has to have seen it alive and settled
    os.kill(child, signal.SIGKILL)
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
    daemon = pid_in(tmp_path / "daemon")
    assert is_alive(daemon)
    process.send_signal(signal.SIGINT)
    assert "interrupted by SIGINT" in process.communicate(timeout=40)[0]
    assert process.returncode == 130
    assert not is_alive(daemon)


def test_shared_memory_of_the_run_is_removed_and_that_of_others_is_not(guard, tmp_path):
    script = """
    from multiprocessing import get_context, resource_tracker, shared_memory
    block = shared_memory.SharedMemory(create=True, size=4096)
    lock = get_context("spawn").Lock()
    # Nobody tidies up, as after a kill -9
    resource_tracker.unregister(block._name, "shared_memory")
    resource_tracker.unregister(lock._semlock.name, "semaphore")
    (run_dir / "names").write_text(f"{block.name} sem.{lock._semlock.name[1:]}")
    beat('generate', 1)
    time.sleep(4)
    os.kill(os.getpid(), 9)
    """
    foreign = shared_memory.SharedMemory(create=True, size=4096)
    try:
        process = guard(script)
        process.communicate(timeout=40)
        assert process.returncode == 1
        for name in (tmp_path / "names").read_text().split():
            assert not Path("/dev/shm", name).exists()
        assert Path("/dev/shm", foreign.name).exists()
    finally:
        foreign.close()
        foreign.unlink()


def test_a_run_does_not_outlive_a_killed_guard(guard, tmp_path):
    process = guard("(run_dir / 'pid').write_text(str(os.getpid())); beat('generate', 1); time.sleep(600)")
    child = pid_in(tmp_path / "pid")
    process.kill()
    wait_for(lambda: not is_alive(child))


def test_the_next_run_removes_the_folder_that_a_killed_guard_left(guard, tmp_path):
    process = guard("beat('generate', 1); time.sleep(600)")
    wait_for((tmp_path / "progress.json").exists)
    left_over = Path((tmp_path / "ray_folder.txt").read_text())
    kill_guard(process)
    assert left_over.is_dir()
    assert guard("beat('generate', 1)").wait(timeout=30) == 0
    assert not left_over.exists()
    assert not (tmp_path / "ray_folder.txt").exists()


def test_a_cell_is_not_trained_twice_at_once(guard, tmp_path):
    first = guard("beat('generate', 1); time.sleep(600)")
    wait_for((tmp_path / "progress.json").exists)  # which the run writes once the lock is held
    second = guard("beat('generate', 1)")
    output = second.communicate(timeout=30)[0]
    assert second.returncode == 1
    assert "is being trained by another process" in output
    assert first.poll() is None


# -- stopping ------------------------------------------------------------------------------------------------

# A run that makes a step in a moment, and its last one, of 1000, when it is asked to stop
STEPS = """
from entrobench.runs.run_files import Curve, Lives, StopRequest
Lives(run_dir).begin(0)
for step in range(1, 1000):
    beat("generate", step)
    time.sleep(0.3)
    Curve(run_dir).append(step, {"reward": 0.0, "entropy": 0.0, "timing_s/step": 0.3})
    if StopRequest(run_dir).is_asked():
        StopRequest(run_dir).answer(step, 1000)
        sys.exit(75)
"""
# A run that does not notice
DEAF = """
from entrobench.runs.run_files import Lives
Lives(run_dir).begin(4)
beat("generate", 5)
time.sleep(600)
"""


def wait_for_a_step(folder):
    metrics = folder / "metrics.jsonl"
    wait_for(lambda: metrics.exists() and "\n" in metrics.read_text())


def last_life(folder):
    return json.loads((folder / "lives.jsonl").read_text().splitlines()[-1])


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1])
def test_a_signal_lets_the_run_finish_its_step(guard, tmp_path, number):
    process = guard(STEPS)
    wait_for_a_step(tmp_path)
    time.sleep(1)
    process.send_signal(number)
    output = process.communicate(timeout=30)[0]
    assert process.returncode == 75
    step = len((tmp_path / "metrics.jsonl").read_text().splitlines())
    name = signal.Signals(number).name
    line = f"Unfinished: stopped by {name} after step {step} of 1000, with a checkpoint."
    assert output.splitlines()[-1].startswith(line)
    assert f"{name}: finishing step" in output
    life = last_life(tmp_path)
    assert (life["exit"], life["from_step"], life["to_step"]) == (f"stopped by {name}", 0, step)


def test_a_run_that_stops_ahead_of_the_end_of_its_job_is_unfinished(guard, tmp_path):
    itself = "if step == 2: StopRequest(run_dir).ask('the end of the job')"
    process = guard(STEPS.replace("    time.sleep(0.3)\n", f"    {itself}\n"))
    output = process.communicate(timeout=30)[0]
    assert process.returncode == 75
    line = "Unfinished: stopped by the end of its job after step 2 of 1000, with a checkpoint."
    assert output.splitlines()[-1].startswith(line)
    assert last_life(tmp_path)["exit"] == "stopped by the end of its job"


def test_a_run_without_a_step_is_stopped_at_once(guard, tmp_path):
    process = guard("beat('start Ray and vLLM', 0); time.sleep(600)")
    wait_for((tmp_path / "progress.json").exists)
    process.send_signal(signal.SIGUSR1)
    output = process.communicate(timeout=15)[0]
    assert process.returncode == 75
    assert "stopped by SIGUSR1 before its first step: nothing is lost" in output


def test_a_run_that_cannot_stop_in_time_is_ended(guard, tmp_path):
    process = guard(DEAF, stall=600, stop=3)
    wait_for((tmp_path / "progress.json").exists)
    process.send_signal(signal.SIGUSR1)
    output = process.communicate(timeout=30)[0]
    assert process.returncode == 75
    assert "in step 5, before it could make a checkpoint: 3 s were not enough. The same command" in output
    assert last_life(tmp_path)["exit"] == "stopped by SIGUSR1"


def test_a_second_signal_ends_the_run_at_once_but_an_echo_of_the_first_does_not(guard, tmp_path):
    process = guard(DEAF, stall=600, stop=600)
    wait_for((tmp_path / "progress.json").exists)
    process.send_signal(signal.SIGUSR1)
    time.sleep(1)
    process.send_signal(signal.SIGTERM)
    time.sleep(5)
    assert process.poll() is None, "one request, sent to several processes"
    process.send_signal(signal.SIGTERM)
    output = process.communicate(timeout=30)[0]
    assert process.returncode == 75
    assert "a second signal, SIGTERM, came" in output


def test_ctrl_c_ends_a_stopping_run_as_ever(guard, tmp_path):
    process = guard(DEAF, stall=600, stop=600)
    wait_for((tmp_path / "progress.json").exists)
    process.send_signal(signal.SIGTERM)
    wait_for((tmp_path / "stop.json").exists)
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=30)
    assert process.returncode == 130
    assert last_life(tmp_path)["exit"] == "interrupted"


def test_a_run_that_finishes_while_it_is_asked_to_stop_is_finished(guard, tmp_path):
    process = guard("beat('generate', 9); time.sleep(4)")
    wait_for((tmp_path / "progress.json").exists)
    process.send_signal(signal.SIGUSR1)
    process.communicate(timeout=30)
    assert (tmp_path / "stop.json").exists(), "it was asked"
    assert process.returncode == 0


def test_a_run_whose_processes_got_the_signal_too_is_unfinished_not_failed(guard, tmp_path):
    process = guard(DEAF, stall=600)
    wait_for((tmp_path / "progress.json").exists)
    (child,) = psutil.Process(process.pid).children()
    process.send_signal(signal.SIGTERM)
    child.send_signal(signal.SIGTERM)
    output = process.communicate(timeout=30)[0]
    assert process.returncode == 75
    assert "before it could make a checkpoint: training ended with exit code -15" in output


def test_usr1_to_every_process_reaches_the_guard_only(guard, tmp_path):
    process = guard(STEPS)
    wait_for_a_step(tmp_path)
    for child in psutil.Process(process.pid).children(recursive=True):
        child.send_signal(signal.SIGUSR1)
    process.send_signal(signal.SIGUSR1)
    output = process.communicate(timeout=30)[0]
    assert process.returncode == 75
    assert ", with a checkpoint." in output


def test_an_earlier_request_does_not_stop_the_next_run(guard, tmp_path):
    (tmp_path / "stop.json").write_text('{"signal": "SIGUSR1", "step": 3, "total": 9}')
    process = guard("assert not (run_dir / 'stop.json').exists(); beat('generate', 1)")
    assert process.wait(timeout=30) == 0


def test_the_end_of_a_pipe_does_not_end_the_run(guard, tmp_path):
    process = guard(STEPS)
    wait_for_a_step(tmp_path)
    process.stdout.close()  # as when `| tee log` gets the signal as well
    time.sleep(2)
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=30) == 75
    assert last_life(tmp_path)["exit"] == "stopped by SIGTERM"


def test_lives_of_a_killed_guard_and_of_a_failed_run_are_closed(guard, tmp_path):
    process = guard(STEPS)
    wait_for_a_step(tmp_path)
    kill_guard(process)
    failing = STEPS.replace("begin(0)", "begin(1)").replace("time.sleep(0.3)", "raise ValueError('reason')")
    process = guard(failing)
    process.communicate(timeout=30)
    assert process.returncode == 1
    killed, failed = map(json.loads, (tmp_path / "lives.jsonl").read_text().splitlines())
    assert killed["exit"] == "killed"
    assert killed["to_step"] >= 1
    assert failed["exit"] == "failed: training ended with exit code 1: ValueError: reason"
