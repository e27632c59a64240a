"""Stands in for `python` where a run starts its processes: has the fork server start them, imports done.

Run as `python -I -S fork_client.py SOCKET ARGUMENTS`, with the arguments that python would have got. It stays
as long as the process that it asked for: it passes signals on, and ends as that one ends. What the server is
not for, the real Python runs. It imports little and nothing of this project: it starts in milliseconds.
"""

import json
import os
import select
import signal
import socket
import sys
from contextlib import suppress

# The only job of a run's own Ray. Ray's library reads it from the environment when it is loaded, once.
RAY_JOB = "01000000"
RAY_WORKER = ("/ray/_private/workers/setup_worker.py", "/ray/_private/workers/default_worker.py")
SPAWNED = "from multiprocessing.spawn import spawn_main;"
PASSED_ON = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT)


def is_served(arguments: list[str]) -> bool:
    """Whether these arguments of python start a Ray worker of the run or a process of multiprocessing."""
    rest = without_options(arguments)
    if rest[:1] == ["-c"]:
        return rest[1].startswith(SPAWNED)
    is_worker = bool(rest) and rest[0].endswith(RAY_WORKER)
    return is_worker and os.environ.get("RAY_JOB_ID") == RAY_JOB


def without_options(arguments: list[str]) -> list[str]:
    """What follows the interpreter's options. multiprocessing passes on those of its own process, such as -B
    where PYTHONDONTWRITEBYTECODE is set; the server has been started with the same ones.
    """
    count = 0
    while count < len(arguments) and arguments[count].startswith("-") and arguments[count] != "-c":
        count += 1
    return arguments[count:]


def ask(path: str, arguments: list[str]) -> socket.socket:
    """A connection to the server, which has got all that the process is to inherit. Raises OSError."""
    connection = socket.socket(socket.AF_UNIX)
    connection.connect(path)
    descriptors = [int(name) for name in os.listdir("/proc/self/fd") if _is_inherited(int(name))]
    request = {
        "arguments": arguments,
        "environment": dict(os.environ),
        "folder": os.getcwd(),
        "group": os.getpgrp(),
        "niceness": os.nice(0),
        "descriptors": descriptors,
    }
    text = json.dumps(request).encode()
    socket.send_fds(connection, [len(text).to_bytes(8, "big")], descriptors)
    connection.sendall(text)
    return connection


def _is_inherited(descriptor: int) -> bool:
    try:
        return os.get_inheritable(descriptor)
    except OSError:
        return False  # that of the listing itself


def accompany(connection: socket.socket) -> int:
    """Wait for the process; its exit code, or minus the signal that ended it."""
    woken, waker = socket.socketpair()
    for end in (woken, waker, connection):
        end.setblocking(False)
    arrived: list[int] = []
    for number in PASSED_ON:
        if signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, lambda signum, _: arrived.append(signum))
    # A signal that comes just before the wait ends the wait: without this it would be heard after it
    signal.set_wakeup_fd(waker.fileno(), warn_on_full_buffer=False)
    answers = b""
    while answers.count(b"\n") < 2:
        select.select([connection, woken], [], [])
        with suppress(BlockingIOError):
            woken.recv(64)
        with suppress(BlockingIOError):
            read = connection.recv(64)
            if not read:
                break
            answers += read
        pid = _first_number(answers)
        while pid and arrived:
            _send(pid, arrived.pop(0))
    pid, *code = [int(line) for line in answers.splitlines()] or [0]
    if not code:
        if pid:  # the server has been killed, and with it what it was to watch
            _send(pid, signal.SIGKILL)
        return 1
    return code[0]


def _first_number(answers: bytes) -> int:
    """The process's id, once its line is whole; 0 before."""
    line, end, _ = answers.partition(b"\n")
    return int(line) if end else 0


def _send(pid: int, signum: int) -> None:
    with suppress(ProcessLookupError):
        os.kill(pid, signum)


def end_as(code: int) -> None:
    """End this process with that exit code, or by that signal."""
    if code < 0:
        if -code != signal.SIGKILL:
            signal.signal(-code, signal.SIG_DFL)
        os.kill(os.getpid(), -code)
    os._exit(code)


def main() -> None:
    """Ask the server, or run the real Python."""
    path, arguments = sys.argv[1], sys.argv[2:]
    if is_served(arguments):
        try:
            connection = ask(path, arguments)
        except OSError:
            pass
        else:
            end_as(accompany(connection))
    os.execv(sys.executable, [sys.executable, *arguments])


if __name__ == "__main__":
    main()
