"""Processes of a run on the CPU start as forks of one that has imported everything.

A run has a dozen processes, Ray's workers and vLLM's. Each would import torch, transformers, verl and vLLM
anew: ten seconds of a core each, more than a small training itself. So the driver forks, its imports done and
Ray not started, a server that forks those processes where fork_client.py asks for them. A process gets what
it would have inherited: arguments, environment, folder, open files, process group, niceness. The server ends
with the driver; a process of it ends with its client.
"""

import atexit
import ctypes
import fcntl
import importlib
import json
import multiprocessing
import os
import random
import runpy
import selectors
import shlex
import signal
import socket
import sys
import threading
import traceback
import types
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, NoReturn

from entrobench.machine.imports import large_imports
from entrobench.training import fork_client

MAX_DESCRIPTORS = 250


def load_ray() -> None:
    """Import ray so that forks of this process can be workers.

    Its library reads some variables once. And once it has drawn a random number, all forks draw the same, the
    identities of their tasks among them; before Ray starts only declarations of actors' classes do that.
    """
    for_workers = {"RAY_JOB_ID": fork_client.RAY_JOB, "RAY_RAYLET_PID": str(os.getpid())}
    os.environ |= for_workers
    importlib.import_module("ray")
    for name in for_workers:
        del os.environ[name]
    ray_actor: Any = importlib.import_module("ray.actor")
    class_id = ray_actor.ActorClassID
    ray_actor.ActorClassID = types.SimpleNamespace(from_random=lambda: class_id(os.urandom(class_id.size())))


def start(folder: Path, prepare: Callable[[], None]) -> Path | None:
    """Start the server and return an executable to use in place of `python`; None where none can be executed.

    folder: for the executable and the server's socket; short, as a socket's path has to be. prepare: what the
    server alone is to import.
    """
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(folder / "fork.sock"))
    listener.listen(64)
    executable = _write_executable(folder)
    if not os.access(executable, os.X_OK):  # a file system without executables
        return None
    _flush()
    driver = os.getpid()
    if os.fork() == 0:
        _run_and_exit(lambda: _serve(listener, executable, prepare, driver))
    listener.close()
    return executable


def _write_executable(folder: Path) -> Path:
    command = [sys.executable, "-I", "-S", fork_client.__file__, str(folder / "fork.sock")]
    executable = folder / "python"
    executable.write_text(f'#!/bin/sh\nexec {shlex.join(command)} "$@"\n', encoding="utf-8")
    executable.chmod(0o755)
    return executable


# -- the server ----------------------------------------------------------------------------------------------


class _Server:
    """Forks processes and watches them: tells a client how its process ended, kills that of a killed one."""

    def __init__(self, listener: socket.socket) -> None:
        self.listener = listener
        self.clients: dict[int, socket.socket] = {}
        self.selector = selectors.DefaultSelector()
        self.ended, wakeup = socket.socketpair()
        for end in (self.ended, wakeup):
            end.setblocking(False)
        self.wakeup = wakeup
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.set_wakeup_fd(wakeup.fileno(), warn_on_full_buffer=False)
        self.selector.register(listener, selectors.EVENT_READ, self._accept)
        self.selector.register(self.ended, selectors.EVENT_READ, self._report_ended)

    def run(self) -> None:
        while True:
            for key, _ in self.selector.select():
                key.data()

    def _accept(self) -> None:
        connection, _ = self.listener.accept()
        try:
            request, descriptors = _receive(connection)
        except (OSError, ValueError):
            connection.close()  # the client has been killed
            return
        _flush()
        pid = os.fork()
        if pid == 0:
            self._leave(connection)
            _run_and_exit(lambda: _become(request, descriptors))
        for descriptor in descriptors:
            os.close(descriptor)
        self.clients[pid] = connection
        self.selector.register(connection, selectors.EVENT_READ, lambda: self._end_of_client(pid))
        _tell(connection, pid)

    def _leave(self, connection: socket.socket) -> None:
        """What a fork must not hold: a client hears of the end of its process by the connection."""
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        self.selector.close()
        for inherited in (self.listener, self.ended, self.wakeup, connection, *self.clients.values()):
            inherited.close()

    def _report_ended(self) -> None:
        with suppress(BlockingIOError):
            self.ended.recv(4096)
        with suppress(ChildProcessError):
            while (found := os.waitpid(-1, os.WNOHANG))[0]:
                if connection := self._forget(found[0]):
                    _tell(connection, os.waitstatus_to_exitcode(found[1]))
                    connection.close()

    def _end_of_client(self, pid: int) -> None:
        if connection := self._forget(pid):
            connection.close()
            os.kill(pid, signal.SIGKILL)

    def _forget(self, pid: int) -> socket.socket | None:
        connection = self.clients.pop(pid, None)
        if connection is not None:
            self.selector.unregister(connection)
        return connection


def _serve(listener: socket.socket, executable: Path, prepare: Callable[[], None], driver: int) -> None:
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG
    if os.getppid() != driver:  # it died before that, and no signal comes any more
        return
    server = _Server(listener)
    with large_imports():  # memory that no collection touches stays shared, too
        prepare()
    multiprocessing.set_executable(str(executable))
    server.run()


def _receive(connection: socket.socket) -> tuple[dict[str, Any], list[int]]:
    header, descriptors, _, _ = socket.recv_fds(connection, 8, MAX_DESCRIPTORS)
    with connection.makefile("rb") as stream:
        request = json.loads(stream.read(int.from_bytes(header, "big")))
    return request, descriptors


def _tell(connection: socket.socket, number: int) -> None:
    with suppress(OSError):
        connection.sendall(f"{number}\n".encode())


# -- a process -----------------------------------------------------------------------------------------------


def _run_and_exit(run: Callable[[], None]) -> NoReturn:
    """Run, then end this process as the interpreter would; the stack below belongs to the parent."""
    code = 1
    try:
        run()
        code = 0
    except SystemExit as error:
        code = error.code if isinstance(error.code, int) else int(error.code is not None)
    except BaseException:  # noqa: BLE001  as the interpreter does
        traceback.print_exc()
    finally:
        with suppress(BaseException):
            threading._shutdown()  # type: ignore[attr-defined]
            atexit._run_exitfuncs()
            _flush()
        os._exit(code)


def _flush() -> None:
    """Before a fork, or what waits in a buffer is written twice; before an end, or it is lost."""
    sys.stdout.flush()
    sys.stderr.flush()


def _become(request: dict[str, Any], descriptors: list[int]) -> None:
    """Take over what the client has passed on, and run its arguments as `python` would."""
    _place(descriptors, request["descriptors"])
    os.chdir(request["folder"])
    with suppress(PermissionError):  # of another session
        os.setpgid(0, request["group"])
    os.nice(request["niceness"] - os.nice(0))
    os.environ.clear()
    os.environ.update(request["environment"])
    _renew()
    if "-u" in request["arguments"] or os.environ.get("PYTHONUNBUFFERED"):
        sys.stdout.reconfigure(write_through=True)  # type: ignore[union-attr]
    arguments = fork_client.without_options(request["arguments"])
    if arguments[0] == "-c":
        _run_code(arguments)
    else:
        sys.argv = arguments
        sys.path[0] = str(Path(arguments[0]).parent)
        runpy.run_path(arguments[0], run_name="__main__")


def _run_code(arguments: list[str]) -> None:
    sys.argv = ["-c", *arguments[2:]]
    sys.path[0] = ""
    main = types.ModuleType("__main__")
    sys.modules["__main__"] = main
    exec(arguments[1], vars(main))


def _place(received: list[int], wanted: list[int]) -> None:
    """Give each received descriptor the number that it had in the client."""
    free = max([0, *received, *wanted]) + 1
    # First out of the way: a wanted number may be that of another received one
    held = [fcntl.fcntl(descriptor, fcntl.F_DUPFD_CLOEXEC, free) for descriptor in received]
    for descriptor in received:
        os.close(descriptor)
    for descriptor, number in zip(held, wanted, strict=True):
        os.dup2(descriptor, number, inheritable=True)
        os.close(descriptor)


def _renew() -> None:
    """What imported modules have drawn or read once, anew: random states, and copies of the environment."""
    random.seed()
    if numpy := sys.modules.get("numpy"):
        numpy.random.seed()
    if raylet := sys.modules.get("ray._raylet"):
        raylet.Config.initialize("")
        _set_titles_by(raylet)
    if (torch := sys.modules.get("torch")) and (threads := os.environ.get("OMP_NUM_THREADS", "")).isdigit():
        torch.set_num_threads(int(threads))


def _set_titles_by(raylet: Any) -> None:
    """vLLM names its processes, for the guard among others, with a package that finds the title's place in
    memory by the environment, which is another now; Ray's own copy of it has found it.
    """
    with suppress(ImportError):
        import setproctitle

        setproctitle.setproctitle = raylet.setproctitle
