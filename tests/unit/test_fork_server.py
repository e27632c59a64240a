"""The fork server, with small processes in place of Ray's and vLLM's."""

import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import psutil
import pytest

pytestmark = pytest.mark.slow

SERVER = """
import sys
from pathlib import Path
from entrobench.training import fork_server
def prepare():
    import colorsys
    colorsys.marked = "imported by the server"
print(fork_server.start(Path(sys.argv[1]), prepare), flush=True)
sys.stdin.read()
"""
SERVER_WITH_RAY = """
import sys
from pathlib import Path
from entrobench.training import fork_server
fork_server.load_ray()
def prepare():
    import ray
    ray.remote(type("Worker", (), {}))  # as verl does where it is imported
print(fork_server.start(Path(sys.argv[1]), prepare), flush=True)
sys.stdin.read()
"""
# What multiprocessing runs for a process that it spawns begins like this
SPAWNED = "from multiprocessing.spawn import spawn_main; "


@pytest.fixture
def driver(request, tmp_path):
    """A process that has started a server; it ends when its standard input does."""
    process = subprocess.Popen(
        [sys.executable, "-c", getattr(request, "param", SERVER), str(tmp_path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout.readline().strip() == str(tmp_path / "python")
    yield process
    process.kill()
    process.communicate(timeout=20)  # a server that stays would hold its output open for ever


def start(folder: Path, code: str, *arguments: str, flags=(), **options) -> subprocess.Popen:
    """The stand-in for python on a piece of code."""
    command = [str(folder / "python"), *flags, "-c", SPAWNED + "\n" + textwrap.dedent(code), *arguments]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, **options)


def wait_until(condition) -> None:
    deadline = time.time() + 20
    while not condition():
        assert time.time() < deadline
        time.sleep(0.02)


def test_a_process_gets_what_it_would_have_inherited(driver, tmp_path):
    reads, writes = os.pipe()
    code = """
        import colorsys, os, sys
        print(colorsys.marked, os.getppid(), sys.argv, os.getcwd(), os.environ["MARK"])
        print(os.nice(0), os.getpgrp())
        os.write(int(sys.argv[1]), b"through an open file")
        sys.exit(7)
    """
    environment = os.environ | {"MARK": "of the client"}
    process = start(
        tmp_path, code, str(writes), "two words", cwd="/", env=environment, pass_fds=[writes],
        preexec_fn=lambda: (os.nice(3), os.setpgid(0, 0)),
    )  # fmt: skip
    output = process.communicate(timeout=30)[0].splitlines()
    server = psutil.Process(driver.pid).children()[0].pid
    arguments = ["-c", str(writes), "two words"]
    assert output[0] == f"imported by the server {server} {arguments} / of the client"
    assert output[1] == f"{os.nice(0) + 3} {process.pid}"
    assert os.read(reads, 100) == b"through an open file"
    assert process.returncode == 7
    os.close(reads)
    os.close(writes)


def test_signals_reach_the_process_and_its_end_is_reported(driver, tmp_path):
    handles = """
        import signal, sys, time
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(9))
        print("ready", flush=True)
        time.sleep(60)
    """
    process = start(tmp_path, handles)
    process.stdout.readline()
    process.send_signal(signal.SIGTERM)
    assert process.wait(20) == 9
    killed = start(tmp_path, "import os, signal; os.kill(os.getpid(), signal.SIGKILL)")
    assert killed.wait(20) == -signal.SIGKILL


@pytest.mark.parametrize("victim", ["client", "driver", "server"])
def test_nothing_outlives_its_client_or_the_driver(driver, tmp_path, victim):
    process = start(tmp_path, "import os, time; print(os.getpid(), flush=True); time.sleep(60)")
    pid = int(process.stdout.readline())
    server = psutil.Process(driver.pid).children()[0]
    {"client": process, "driver": driver, "server": server}[victim].kill()
    wait_until(lambda: not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE)
    process.wait(20)


@pytest.mark.parametrize("flags", [[], ["-B"], ["-u"], ["-B", "-Wignore", "-Xfaulthandler"]])
def test_the_interpreter_s_options_change_nothing(driver, tmp_path, flags):
    """multiprocessing passes on those of its own process: -B where PYTHONDONTWRITEBYTECODE is set."""
    code = "import sys, colorsys; print(colorsys.marked, sys.argv[1:])"
    output = start(tmp_path, code, "one", flags=flags).communicate(timeout=20)[0]
    assert output == "imported by the server ['one']\n"


def test_an_error_is_printed_and_is_exit_code_1(driver, tmp_path):
    process = start(tmp_path, "raise ValueError('said by the process')", stderr=subprocess.PIPE)
    assert "ValueError: said by the process" in process.communicate(timeout=30)[1]
    assert process.returncode == 1


def test_the_real_python_runs_what_the_server_is_not_for(driver, tmp_path):
    other = [tmp_path / "python", "-c", "import colorsys; print(hasattr(colorsys, 'marked'))"]
    assert subprocess.check_output(other, text=True) == "False\n"


def test_the_real_python_runs_where_no_server_is_left(driver, tmp_path):
    [server] = psutil.Process(driver.pid).children()
    driver.kill()
    driver.wait()
    server.wait(20)
    process = start(tmp_path, "import colorsys; print(hasattr(colorsys, 'marked'))")
    assert process.communicate(timeout=30)[0] == "False\n"


@pytest.mark.parametrize("driver", [SERVER_WITH_RAY], indirect=True)
def test_ray_s_workers_draw_each_their_own_identities(driver, tmp_path):
    """Tasks of one identity at one actor, from two workers, end that actor."""
    code = "import ray; print(ray.UniqueID.from_random().hex())"
    drawn = {start(tmp_path, code).communicate(timeout=60)[0].strip() for _ in range(3)}
    assert len(drawn) == 3
    assert "" not in drawn
