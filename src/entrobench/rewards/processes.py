"""Reused grading processes, each with a hard time limit: an answer that hangs its grader costs one process.

Any number of threads may ask at once; each waits for a free process, and its time counts from when a process
takes the request up. A process that misses the limit is killed and started anew at the next request.
"""

import atexit
import json
import math
import os
import queue
import select
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from entrobench.errors import ConfigError, MissingInput

START_LIMIT_SECONDS = 120.0
# The limit is of processor time, where the system tells it; of wall time it is this many times as much
STARVED_FACTOR = 6
PROCESSES_VARIABLE = "ENTROBENCH_GRADER_PROCESSES"


@dataclass(frozen=True)
class Replies:
    """The lines that a process wrote before it missed the limit, died or was done, and the seconds that it
    took, waiting for a free process not included. is_time_up: it had all its processor time, and would need
    as long again.
    """

    lines: list[str]
    seconds: float
    is_time_up: bool = False


class _TimeUp(TimeoutError):
    """The process had all its processor time."""


class ProcessPool:
    """`size` processes that run `module` (see serving.py), each started when it is first needed.

    arguments: what stands behind the module on the command line; asked when a process starts.
    """

    def __init__(self, size: int, module: str, arguments: Callable[[], list[str]]) -> None:
        self.workers = [_Worker(module, arguments) for _ in range(size)]
        self._idle: queue.LifoQueue[_Worker] = queue.LifoQueue()
        for worker in self.workers:
            self._idle.put(worker)

    def ask(self, request: dict[str, Any], n_replies: int, seconds: float) -> Replies:
        """Up to n_replies lines, `seconds` for each. Raises MissingInput when the grader is not installed."""
        worker = self._idle.get()
        try:
            return worker.ask(request, n_replies, seconds)
        finally:
            self._idle.put(worker)

    def stop(self) -> None:
        """End all processes; a later request starts them anew."""
        for worker in self.workers:
            worker.stop()


class _Worker:
    """One process. A plain child with pipes: multiprocessing would import the caller's main module again,
    which in verl's reward workers is Ray's.
    """

    def __init__(self, module: str, arguments: Callable[[], list[str]]) -> None:
        self._module, self._arguments = module, arguments
        self._process: subprocess.Popen[bytes] | None = None
        self._buffer = b""

    def ask(self, request: dict[str, Any], n_replies: int, seconds: float) -> Replies:
        alarm = math.ceil(STARVED_FACTOR * seconds) + 5
        line = json.dumps(request | {"alarm": alarm}).encode("ascii") + b"\n"
        started = time.monotonic()
        lines: list[str] = []
        is_time_up = False
        for _ in ("first", "again if the process died, which need not be this answer's doing"):
            try:
                stdin = self._running().stdin
                assert stdin is not None
                started, lines = time.monotonic(), []
                stdin.write(line)
                for _ in range(n_replies):
                    lines.append(self._line(seconds))
                break
            except TimeoutError as error:
                is_time_up = isinstance(error, _TimeUp)
                self.stop()
                break
            except MissingInput:  # an OSError by descent
                raise
            except OSError:
                self.stop()
            except BaseException:  # interrupted: the answer to this request must not meet the next one
                self.stop()
                raise
        return Replies(lines, time.monotonic() - started, is_time_up)

    def _running(self) -> "subprocess.Popen[bytes]":
        """The process, started if there is none. Raises MissingInput if it cannot be."""
        if self._process is not None and self._process.poll() is None:
            return self._process
        self.stop()
        arguments = self._arguments()
        source = str(Path(__file__).resolve().parents[2])
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-m", self._module, *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            bufsize=0,
            env=os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, [source, os.getenv("PYTHONPATH")]))},
        )
        try:
            ready = self._line(START_LIMIT_SECONDS)
        except (BrokenPipeError, TimeoutError) as error:
            ready = str(error) or f"no answer in {START_LIMIT_SECONDS:g} s"
        if ready != "ready":
            self.stop()
            raise MissingInput(
                f"the graders cannot be loaded: {ready}\n  Type: bash workflow/scripts/setup.sh"
            )
        return self._process

    def _line(self, seconds: float) -> str:
        assert self._process is not None
        assert self._process.stdout is not None
        descriptor = self._process.stdout.fileno()
        poll = select.poll()  # select() refuses descriptors above 1,023, which a Ray worker has
        poll.register(descriptor, select.POLLIN)
        used = self._cpu_seconds()
        deadline, last = time.monotonic() + seconds, time.monotonic() + STARVED_FACTOR * seconds
        while b"\n" not in self._buffer:
            now = time.monotonic()
            if not poll.poll(max(deadline - now, 0) * 1000):
                # On a crowded machine a process that got no processor time has not had its time yet
                left = seconds - (self._cpu_seconds() - used)
                if left <= 0.05 * seconds:
                    raise _TimeUp
                if now >= last:
                    raise TimeoutError
                deadline = min(time.monotonic() + left, last)
                continue
            read = os.read(descriptor, 4096)
            if not read:
                raise BrokenPipeError("the grading process ended")
            self._buffer += read
        line, _, self._buffer = self._buffer.partition(b"\n")
        return line.decode("ascii")

    def _cpu_seconds(self) -> float:
        """Processor time of the process so far; 0 once it is gone."""
        assert self._process is not None
        try:
            fields = (
                Path(f"/proc/{self._process.pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
            )
        except OSError:
            return 0.0
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def stop(self) -> None:
        """Kill the process, if there is one."""
        process, self._process, self._buffer = self._process, None, b""
        if process is not None:
            process.kill()
            process.wait()
            for stream in (process.stdin, process.stdout):
                with suppress(OSError):
                    stream.close()  # type: ignore[union-attr]


def pool_size() -> int:
    """ENTROBENCH_GRADER_PROCESSES, else a quarter of the CPUs of this process, at least 2 and at most 4."""
    text = os.environ.get(PROCESSES_VARIABLE)
    if text is None:
        return min(4, max(2, len(os.sched_getaffinity(0)) // 4))
    if not text.isdecimal() or not 1 <= int(text) <= 256:
        raise ConfigError(f"{PROCESSES_VARIABLE}: expected a number from 1 to 256, found {text!r}")
    return int(text)


P = TypeVar("P", bound=ProcessPool)
_pools: dict[type, ProcessPool] = {}
_making = threading.Lock()


def shared_pool(kind: type[P], make: Callable[[], P]) -> P:
    """This process's pool of a kind."""
    with _making:
        if kind not in _pools:
            _pools[kind] = make()
        return _pools[kind]  # type: ignore[return-value]


def _forget() -> None:
    """In a forked child: the parent's processes are not the child's, their pipes must not be shared."""
    global _making
    _making = threading.Lock()
    _pools.clear()


def _stop() -> None:
    for pool in _pools.values():
        pool.stop()


os.register_at_fork(after_in_child=_forget)
atexit.register(_stop)
