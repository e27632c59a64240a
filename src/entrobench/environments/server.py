"""Environments from the host's side: a sandbox a pool, in it a process an episode (inside.py).

An episode is `reset(task)`, `execute(code) -> text`, `goals() -> passed of total` and its end. Whatever model
code does to its process (hangs, exits, fills memory or disk) is an EnvironmentFailed of that episode; the
next one has a new process. A sandbox that dies takes its episodes along and is started anew. When this
process ends, however it ends, so does all that it has started.
"""

import asyncio
import json
import os
import socket
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any

from entrobench.environments.worlds import WorldKind
from entrobench.errors import EntrobenchError, MissingInput, UnsupportedPlatform
from entrobench.machine.sandbox import NO_SANDBOX, call_filter, require_bwrap, sandbox_command

START_SECONDS = 120.0
# An answer that takes longer than the code may run: the process is killed
GRACE_FACTOR, GRACE_SECONDS = 2.0, 20.0
LINE_BYTES = 16 << 20
MEGABYTE = 1 << 20
SAID_BYTES = 2000


class EnvironmentFailed(EntrobenchError, RuntimeError):
    """An episode's process has died, hangs, or its world refuses the task; the episode has ended."""


@dataclass(frozen=True)
class Observation:
    """What an execution showed. is_done: the task was marked as completed."""

    text: str
    is_done: bool


@dataclass(frozen=True)
class Goals:
    """Verifiable goals of a task that are met, at its end."""

    passed: int
    total: int

    @property
    def share(self) -> float:
        """In [0, 1]; 0 for a task without goals."""
        return self.passed / self.total if self.total else 0.0

    @property
    def are_met(self) -> bool:
        """Whether all of them are."""
        return 0 < self.passed == self.total


class Episode:
    """One task in a process of its own. Each call raises EnvironmentFailed, after which there is no other."""

    def __init__(
        self, number: int, seconds: float, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        self.number = number
        self._seconds, self._reader, self._writer = seconds, reader, writer

    async def reset(self, task: str) -> None:
        """Begin a task."""
        await self._ask({"do": "reset", "task": task})

    async def execute(self, code: str) -> Observation:
        """Run code that a model wrote."""
        reply = await self._ask({"do": "execute", "code": code})
        return Observation(reply["text"], reply["is_done"])

    async def goals(self) -> Goals:
        """How far the task's goals are met."""
        reply = await self._ask({"do": "goals"})
        return Goals(reply["passed"], reply["total"])

    async def _ask(self, request: dict[str, Any]) -> dict[str, Any]:
        limit = GRACE_FACTOR * self._seconds + GRACE_SECONDS
        try:
            self._writer.write(json.dumps(request).encode("ascii") + b"\n")
            await self._writer.drain()
            line = await asyncio.wait_for(self._reader.readline(), limit)
        except TimeoutError as error:
            raise EnvironmentFailed(f"no answer to {request['do']} in {limit:g} s") from error
        except ConnectionError:
            line = b""
        except (OSError, ValueError) as error:
            raise EnvironmentFailed(f"{request['do']}: {type(error).__name__}: {error}") from error
        if not line.endswith(b"\n"):
            raise EnvironmentFailed(f"its process ended during {request['do']}")
        reply: dict[str, Any] = json.loads(line)
        if "error" in reply:
            raise EnvironmentFailed(f"{request['do']}: {reply['error']}")
        return reply

    def close(self) -> None:
        """Let go of the conversation."""
        self._writer.close()


class Server:
    """A sandbox that is running. description: what its world says of itself, such as its version."""

    def __init__(
        self, kind: WorldKind, process: "subprocess.Popen[bytes]", control: socket.socket, said: Any
    ) -> None:
        self.kind = kind
        self.description: dict[str, Any] = {}
        self._process, self._control, self._said = process, control, said
        self._opened = 0

    @classmethod
    async def start(cls, kind: WorldKind) -> "Server":
        """A server whose world is loaded. Raises MissingInput for a world whose package or data are not here,
        UnsupportedPlatform where there is no sandbox.
        """
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        said = TemporaryFile()  # noqa: SIM115  as long as the server
        process = subprocess.Popen(
            _command(kind, theirs.fileno()),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=said,
            pass_fds=(theirs.fileno(),),
            env={},
            process_group=0,
        )
        theirs.close()
        ours.setblocking(False)
        server = cls(kind, process, ours, said)
        try:
            server.description = await server._ready()
        except BaseException:
            server.stop()
            raise
        return server

    async def _ready(self) -> dict[str, Any]:
        loop = asyncio.get_running_loop()
        try:
            answer = await asyncio.wait_for(loop.sock_recv(self._control, 65536), START_SECONDS)
        except TimeoutError as error:
            raise MissingInput(f"{self.kind.name}: not ready after {START_SECONDS:g} s") from error
        if not answer:
            raise UnsupportedPlatform(
                f"bwrap cannot make a sandbox here, so that no model's code is run: {self.complaint()}\n"
                f"{NO_SANDBOX}"
            )
        message: dict[str, Any] = json.loads(answer)
        if "failed" in message:
            raise MissingInput(f"{self.kind.name}: {message['failed']}\n  {self.kind.get}".rstrip())
        return dict(message["ready"])

    def complaint(self) -> str:
        """The end of what it has written to standard error."""
        self._said.seek(0)
        return str(self._said.read()[-SAID_BYTES:].decode("utf-8", "replace").strip())

    def is_running(self) -> bool:
        """Whether episodes can be opened."""
        return self._process.poll() is None

    async def open(self) -> Episode:
        """A new process for an episode. Raises EnvironmentFailed."""
        self._opened += 1
        number = self._opened
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        try:
            with theirs:
                await self._send({"open": number}, [theirs.fileno()])
            reader, writer = await asyncio.open_connection(sock=ours, limit=LINE_BYTES)
        except OSError as error:
            ours.close()
            raise EnvironmentFailed(f"{self.kind.name}: no process for an episode: {error}") from error
        return Episode(number, self.kind.limits.seconds, reader, writer)

    async def end(self, episode: Episode) -> None:
        """Kill an episode's process."""
        episode.close()
        with suppress(OSError):
            await self._send({"kill": episode.number}, [])

    async def _send(self, message: dict[str, Any], descriptors: list[int]) -> None:
        """A datagram is whole or not sent; the socket is full only for as long as the server forks."""
        data = json.dumps(message).encode("ascii")
        while True:
            try:
                socket.send_fds(self._control, [data], descriptors)
                return
            except BlockingIOError:
                await asyncio.sleep(0.005)

    def stop(self) -> None:
        """End the sandbox and every process in it."""
        self._control.close()
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, 9)
        self._process.wait()
        self._said.close()


class Pool:
    """At most `size` episodes of a world at once; more wait. Of one event loop. restarts: of a sandbox that
    had died.
    """

    def __init__(self, kind: WorldKind, size: int) -> None:
        self.kind, self.restarts = kind, 0
        self._room = asyncio.Semaphore(size)
        self._starting = asyncio.Lock()
        self._server: Server | None = None

    @asynccontextmanager
    async def episode(self, task: str) -> AsyncIterator[Episode]:
        """An episode of `task`, whose process is gone afterwards. Raises EnvironmentFailed."""
        async with self._room:
            server = await self.server()
            episode = await server.open()
            try:
                await episode.reset(task)
                yield episode
            finally:
                await server.end(episode)

    async def server(self) -> Server:
        """The running server, started where there is none. Raises as Server.start."""
        async with self._starting:
            if self._server is not None and not self._server.is_running():
                self._server.stop()
                self._server = None
                self.restarts += 1
            if self._server is None:
                self._server = await Server.start(self.kind)
            return self._server

    def close(self) -> None:
        """End every episode."""
        if self._server is not None:
            self._server.stop()
            self._server = None


def try_task(kind: WorldKind, task: str) -> dict[str, Any]:
    """What a world says of itself, in a sandbox of its own, once `task` could be begun.

    Raises as Server.start, and EnvironmentFailed for a task that cannot.
    """

    async def attempt() -> dict[str, Any]:
        pool = Pool(kind, 1)
        try:
            async with pool.episode(task):
                return (await pool.server()).description
        finally:
            pool.close()

    return asyncio.run(attempt())


def _command(kind: WorldKind, descriptor: int) -> list[str]:
    limits = kind.limits
    settings = {
        "world": "/world.py",
        "options": kind.options,
        "filter": call_filter(may_start_threads=True).hex(),
        "seconds": limits.seconds,
        "characters": limits.characters,
        "AS": limits.memory_mb * MEGABYTE,
        "CPU": limits.cpu_seconds,
        "FSIZE": limits.disk_mb * MEGABYTE,
    }
    inside = {Path(__file__).with_name("inside.py"): Path("/inside.py"), kind.module: Path("/world.py")}
    command = sandbox_command(
        require_bwrap(),
        dict(kind.read_only) | inside,
        dict.fromkeys(kind.writable, limits.disk_mb * MEGABYTE),
    )
    for name, value in kind.environment.items():
        command += ["--setenv", name, value]
    python = [str(kind.python), "-I", "-B", *(["-S"] if kind.is_bare else [])]
    return [*command, *python, "/inside.py", json.dumps(settings), str(descriptor)]
