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
import platform
import select
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import cache
from pathlib import Path
from typing import IO, Any, Literal

from entrobench.errors import ConfigError, MissingInput, UnsupportedPlatform

WALL_SECONDS = 30.0
# For the end of a sandbox whose program has ended: one that is killed is left to the system's init to clean
# up
GRACE_SECONDS = 0.5
MAX_REPORT_BYTES = 4096

Outcome = Literal["passed", "failed", "not started"]

# Architecture of the kernel's audit interface, and the numbers of the calls that make processes and threads
# (clone, fork, vfork, clone3), enter namespaces (unshare, setns) or memory beyond the limit (shmget)
_SYSTEM_CALLS = {
    "x86_64": (0xC000003E, (56, 57, 58, 435, 272, 308, 29)),
    "aarch64": (0xC00000B7, (220, 435, 97, 268, 194)),
}
_X32_CALLS = 0x40000000


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
    machine = platform.machine()
    if sys.platform != "linux" or machine not in _SYSTEM_CALLS:
        raise UnsupportedPlatform(
            f"no sandbox for a model's code here: expected Linux on {' or '.join(_SYSTEM_CALLS)}, found "
            f"{sys.platform} on {machine}. Nothing is run."
        )
    if shutil.which("bwrap") is None:
        raise MissingInput(
            "bwrap (bubblewrap) is not installed; a model's code is run in its sandbox or not at all.\n"
            "  Debian and Ubuntu: apt-get install bubblewrap. Fedora: dnf install bubblewrap"
        )
    test = "def check(candidate): assert candidate(1) == 2"
    report = _run(["def f(x): return x + 1"], "", test, "f")
    if report != ["started", "passed"]:
        raise UnsupportedPlatform(
            f"bwrap cannot make a sandbox here, so that no model's code is run: {_complaint()}\n"
            "  It needs user namespaces. As root type: sysctl user.max_user_namespaces=15000\n"
            "  and, where these settings exist, sysctl kernel.unprivileged_userns_clone=1\n"
            "  or sysctl kernel.apparmor_restrict_unprivileged_userns=0"
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
    with _file(json.dumps(job).encode("ascii")) as stdin, _file(_filter()) as calls, channel:
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
    bwrap = shutil.which("bwrap")
    assert bwrap is not None
    prefix = Path(sys.base_prefix)
    python = prefix / "bin" / f"python{sys.version_info.major}.{sys.version_info.minor}"
    arguments = ["--unshare-all", "--unshare-user", "--die-with-parent", "--new-session", "--cap-drop", "ALL"]
    arguments += [
        "--clearenv",
        "--ro-bind",
        "/usr",
        "/usr",
        "--ro-bind-try",
        "/etc/ld.so.cache",
        "/etc/ld.so.cache",
    ]
    for folder in map(Path, ("/bin", "/lib", "/lib32", "/lib64")):
        if folder.is_symlink():
            arguments += ["--symlink", os.readlink(folder), str(folder)]
        elif folder.is_dir():
            arguments += ["--ro-bind", str(folder), str(folder)]
    if not prefix.is_relative_to("/usr"):
        arguments += ["--ro-bind", str(prefix), str(prefix)]
    arguments += ["--ro-bind", str(Path(__file__).with_name("in_sandbox.py")), "/in_sandbox.py"]
    arguments += ["--remount-ro", "/", "--chdir", "/", "--seccomp", str(filter_descriptor)]
    return [bwrap, *arguments, str(python), "-I", "-S", "-B"]


@cache
def _filter() -> bytes:
    """The system call filter, a classic BPF program: the calls of _SYSTEM_CALLS fail with EPERM.

    An instruction is code, jump if true, jump if false, operand (linux/filter.h, linux/seccomp.h).
    """
    architecture, calls = _SYSTEM_CALLS[platform.machine()]
    load, equal, at_least, give = 0x20, 0x15, 0x35, 0x06
    kill, refuse, allow = 0x80000000, 0x00050001, 0x7FFF0000
    steps = [(load, 0, 0, 4), (equal, 1, 0, architecture), (give, 0, 0, kill), (load, 0, 0, 0)]
    steps += [(at_least, len(calls) + 1, 0, _X32_CALLS)]
    steps += [(equal, len(calls) - position, 0, call) for position, call in enumerate(calls)]
    steps += [(give, 0, 0, allow), (give, 0, 0, refuse)]
    return b"".join(struct.pack("HBBI", *step) for step in steps)


def _complaint() -> str:
    """What bwrap prints where it cannot make a sandbox."""
    with _file(_filter()) as calls:
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
