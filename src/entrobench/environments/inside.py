"""What runs inside an environment's sandbox (server.py starts it): forks a process for each episode.

    inside.py SETTINGS FD        SETTINGS: JSON, see Settings of server.py; FD: a socket to the host

Needs the standard library alone, whatever Python the world's package lives in. The world's module (worlds/)
is imported once, here, so that an episode costs a fork. Model code runs in the forked process alone, under
limits and a filter of system calls of its own; what it breaks is that process.

On FD, a datagram each way is JSON: the host sends {"open": id} with the episode's socket, or {"kill": id};
this process sends {"ready": description} or {"failed": reason} once. On an episode's socket, a line each way
is JSON: {"do": "reset", "task": ...}, {"do": "execute", "code": ...} and {"do": "goals"} are answered with
{"text", "is_done"} or {"passed", "total"}, or with {"error": reason}.
"""

import contextlib
import ctypes
import gc
import importlib.util
import json
import os
import resource
import select
import signal
import socket
import sys
from typing import Any

LINE_BYTES = 16 << 20
REAP_SECONDS = 0.5
PR_SET_NO_NEW_PRIVS, PR_SET_SECCOMP, SECCOMP_MODE_FILTER = 38, 22, 2


def load_world(path: str) -> Any:
    """The module that defines a world."""
    spec = importlib.util.spec_from_file_location("world", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


# -- the process that forks ----------------------------------------------------------------------------------


def serve(settings: dict, control: socket.socket) -> None:
    """Answer the host until it closes its end; then end every episode."""
    try:
        world = load_world(settings["world"])
        description = world.prepare(settings["options"])
    except BaseException as error:  # noqa: BLE001  whatever the world's package raises, the host hears of it
        control.send(json.dumps({"failed": f"{type(error).__name__}: {error}"[:2000]}).encode("ascii"))
        return
    control.send(json.dumps({"ready": description}).encode("ascii"))
    gc.freeze()  # pages that are shared with every fork stay shared
    episodes: dict[int, int] = {}  # id -> process
    poll = select.poll()
    poll.register(control, select.POLLIN)
    while True:
        is_asked = bool(poll.poll(REAP_SECONDS * 1000))
        reap(episodes)
        if not is_asked:
            continue
        message, descriptors, *_ = socket.recv_fds(control, 65536, 1)
        if not message:
            break
        request = json.loads(message)
        if "open" in request:
            episodes[request["open"]] = fork_episode(world, settings, control, descriptors[0])
            os.close(descriptors[0])
        elif request["kill"] in episodes:
            os.kill(episodes[request["kill"]], signal.SIGKILL)
    for process in episodes.values():
        os.kill(process, signal.SIGKILL)


def reap(episodes: dict) -> None:
    """Forget the processes that have ended."""
    with contextlib.suppress(ChildProcessError):
        while (process := os.waitpid(-1, os.WNOHANG)[0]) != 0:
            for number in [number for number, of in episodes.items() if of == process]:
                del episodes[number]


def fork_episode(world: Any, settings: dict, control: socket.socket, descriptor: int) -> int:
    """Process number of a new process that serves one episode on `descriptor`."""
    process = os.fork()
    if process:
        return process
    status = 1
    try:
        control.close()
        restrict(settings)
        Episode(world, settings, socket.socket(fileno=descriptor)).serve()
        status = 0
    finally:
        os._exit(status)


def restrict(settings: dict) -> None:
    """The limits of an episode's process, none of which it can lift."""
    for name in ("AS", "CPU", "FSIZE"):
        limit = settings[name]
        resource.setrlimit(getattr(resource, f"RLIMIT_{name}"), (limit, limit))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_NOFILE, (256, 256))
    program = bytes.fromhex(settings["filter"])

    class Program(ctypes.Structure):
        _fields_ = (("length", ctypes.c_ushort), ("steps", ctypes.c_char_p))

    system = ctypes.CDLL(None, use_errno=True)
    for arguments in (
        (PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0),
        (
            PR_SET_SECCOMP, SECCOMP_MODE_FILTER,
            ctypes.byref(Program(len(program) // 8, program)), 0, 0,
        ),
    ):  # fmt: skip
        if system.prctl(*arguments) != 0:
            raise OSError(ctypes.get_errno(), "prctl")


# -- an episode ----------------------------------------------------------------------------------------------


class Episode:
    """One world and the host's end of its conversation."""

    def __init__(self, world: Any, settings: dict, channel: socket.socket) -> None:
        self._module, self._settings = world, settings
        self._channel, self._stream = channel, channel.makefile("rb")
        self._world: Any = None

    def serve(self) -> None:
        """Answer until the host closes its end."""
        while (line := self._stream.readline(LINE_BYTES)).endswith(b"\n"):
            try:
                reply = self._answer(json.loads(line))
            except Exception as error:  # noqa: BLE001  the world's own, which the host counts
                reply = {"error": f"{type(error).__name__}: {error}"[:2000]}
            self._channel.sendall(json.dumps(reply).encode("ascii") + b"\n")

    def _answer(self, request: dict) -> dict:
        if request["do"] == "reset":
            self._world = self._module.World(request["task"], self._settings["options"])
            return {"text": "", "is_done": False}
        if request["do"] == "execute":
            text = self._world.execute(request["code"], self._settings["seconds"])
            cut = self._settings["characters"]
            # Half a pair of surrogates is text to Python and to no one else
            clean = text[:cut].encode("utf-8", "replace").decode("utf-8")
            return {"text": clean, "is_done": self._world.is_done()}
        passed, total = self._world.goals()
        return {"passed": passed, "total": total}


if __name__ == "__main__":
    serve(json.loads(sys.argv[1]), socket.socket(fileno=int(sys.argv[2])))
