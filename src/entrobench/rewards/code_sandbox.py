"""Runs a program that a model wrote against tests, in bubblewrap (bwrap), or not at all.

Two fresh sandboxes a program, one for the program and one for the tests (in_sandbox.py says why). Each has
user, process, network and IPC namespaces of its own, no capability, /usr and this Python read-only, nothing
else: no home, no /etc, no /proc, no /dev, no place to write, an empty environment. in_sandbox.py sets the
limits of processor time, memory, files and output there before it runs anything; a system call filter
forbids new processes and threads, because the limit of processes does not bind root. The wall time is
limited here.
"""

import json
import os
import select
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import cache
from pathlib import Path
from typing import IO, Any, Literal

from entrobench.errors import ConfigError, UnsupportedPlatform
from entrobench.machine.sandbox import (
    NO_SANDBOX,
    call_filter,
    require_bwrap,
    sandbox_command,
    this_python,
)

WALL_SECONDS = 30.0
# For the end of a sandbox whose program has ended: one that is killed is left to the system's init to clean
# up
GRACE_SECONDS = 0.5
MAX_REPORT_BYTES = 4096

Outcome = Literal["passed", "failed", "not started"]


def run_checked(sources: list[str], prompt: str, test: str, entry_point: str) -> Outcome:
    """Run `sources` one after the other, then the function `check` of `test` on their `entry_point`.

    prompt: what stands beside the tests, such as helper functions. A program that ends, hangs or exceeds a
    limit has failed. Raises MissingInput or UnsupportedPlatform where there is no sandbox, ConfigError for
    tests that do not run by themselves.
    """
    require_sandbox()
    report = _run(sources, prompt, test, entry_point)
    if "started" not in report:
        return "not started"
    end = report[-1]
    if end.startswith("gold "):
        raise ConfigError(f"gold: its tests do not run: {end.removeprefix('gold ')}")
    return "passed" if end == "passed" else "failed"


@cache
def require_sandbox() -> None:
    """Raise MissingInput or UnsupportedPlatform unless programs can be run in a sandbox here."""
    require_bwrap()
    test = "def check(candidate): assert candidate(1) == 2"
    report = _run(["def f(x): return x + 1"], "", test, "f")
    if report != ["started", "passed"]:
        raise UnsupportedPlatform(
            f"bwrap cannot make a sandbox here, so that no model's code is run: {_complaint()}\n{NO_SANDBOX}"
        )


def _run(sources: list[str], prompt: str, test: str, entry_point: str) -> list[str]:
    """The lines that the checks reported before their end or the time limit."""
    ours, theirs = socket.socketpair()
    program = {"sources": sources, "entry_point": entry_point}
    checks = {"prompt": prompt, "test": test, "entry_point": entry_point}
    with ExitStack() as stack:
        stack.enter_context(_sandboxed("candidate", program, theirs, subprocess.DEVNULL))
        process = stack.enter_context(_sandboxed("checks", checks, ours, subprocess.PIPE))
        assert process.stdout is not None
        return _read(process.stdout, WALL_SECONDS).decode("utf-8", "replace").splitlines()


@contextmanager
def _sandboxed(
    role: str, job: dict[str, Any], channel: socket.socket, stdout: int
) -> Iterator["subprocess.Popen[bytes]"]:
    """A role in its sandbox, which is gone with all that runs in it when the context ends."""
    with _file(json.dumps(job).encode("ascii")) as stdin, _file(call_filter()) as calls, channel:
        process = subprocess.Popen(
            [*_command(calls.fileno()), "/in_sandbox.py", role, str(channel.fileno())],
            stdin=stdin,
            stdout=stdout,
            stderr=subprocess.DEVNULL,
            pass_fds=(calls.fileno(), channel.fileno()),
            env={},
            process_group=0,
        )
    try:
        yield process
    finally:
        _end(process)


def _end(process: "subprocess.Popen[bytes]") -> None:
    """Wait for bwrap, or kill it and all that runs in it: --die-with-parent, and before bwrap has come to
    that, its process group.
    """
    try:
        process.wait(GRACE_SECONDS)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    if process.stdout is not None:
        process.stdout.close()


def _command(filter_descriptor: int) -> list[str]:
    """bwrap and this Python, without its site-packages."""
    python, prefix = this_python()
    inside = {prefix: prefix, Path(__file__).with_name("in_sandbox.py"): Path("/in_sandbox.py")}
    bwrap = sandbox_command(require_bwrap(), inside, filter_descriptor=filter_descriptor)
    return [*bwrap, str(python), "-I", "-S", "-B"]


def _complaint() -> str:
    """What bwrap prints where it cannot make a sandbox."""
    with _file(call_filter()) as calls:
        command = [*_command(calls.fileno()), "-c", "pass"]
        tried = subprocess.run(
            command, capture_output=True, pass_fds=(calls.fileno(),), env={}, timeout=WALL_SECONDS
        )
    printed = tried.stderr.decode("utf-8", "replace").strip()
    return printed[-500:] or f"it ended with status {tried.returncode}"


@contextmanager
def _file(content: bytes) -> Iterator[IO[bytes]]:
    """A file without a name, to be read from its start."""
    with tempfile.TemporaryFile() as file:
        file.write(content)
        file.seek(0)
        yield file


def _read(stream: IO[bytes], seconds: float) -> bytes:
    """What comes until the end of the stream or the time limit."""
    poll = select.poll()
    poll.register(stream, select.POLLIN)
    deadline, found = time.monotonic() + seconds, b""
    while poll.poll(max(deadline - time.monotonic(), 0) * 1000):
        read = os.read(stream.fileno(), MAX_REPORT_BYTES)
        found += read
        if not read or len(found) > MAX_REPORT_BYTES:
            break
    return found
