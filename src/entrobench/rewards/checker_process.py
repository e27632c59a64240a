"""A child process of call_checkers.py, with limits of time and memory, started at the first request."""

import atexit
import json
import os
import select
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from entrobench.errors import MissingInput
from entrobench.rewards import call_checkers
from entrobench.rewards.answer_grade import Verdict

TIME_LIMIT_SECONDS = 10.0  # of wall time; a check takes a tenth of a millisecond
START_LIMIT_SECONDS = 120.0


class CheckerProcess:
    """One checker. Any number of threads may ask; they are answered one by one.

    name: of a checker of call_checkers.py. folder: says where it lies, at each start; it raises MissingInput
    or PinMismatch where it is not there.
    """

    def __init__(self, name: str, folder: Callable[[], Path]) -> None:
        self.name, self._folder = name, folder
        self._process: subprocess.Popen[bytes] | None = None
        self._lock = threading.Lock()
        atexit.register(self.stop)
        os.register_at_fork(after_in_child=self._forget)

    def verdict(self, **request: Any) -> Verdict:
        """The checker's verdict on a request; `error` where it raised, died or missed the time limit.

        Raises what `folder` raises.
        """
        line = json.dumps(request | {"alarm": 3 * int(TIME_LIMIT_SECONDS)}).encode("ascii") + b"\n"
        with self._lock:
            answer = self._ask(line)
        return "error" if answer is None else "correct" if answer else "incorrect"

    def _ask(self, line: bytes) -> Any:
        for _ in ("first", "again if the process died, which need not be this request's doing"):
            process = self._running()
            assert process.stdin is not None
            try:
                process.stdin.write(line)
                return self._answer(process, TIME_LIMIT_SECONDS)
            except TimeoutError:
                self.stop()
                return None
            except OSError:
                self.stop()
            except BaseException:  # interrupted: the answer to this request must not meet the next one
                self.stop()
                raise
        return None

    def _running(self) -> "subprocess.Popen[bytes]":
        if self._process is not None and self._process.poll() is None:
            return self._process
        self.stop()
        folder = self._folder()
        child = [sys.executable, "-I", "-S", "-B", call_checkers.__file__, self.name, str(folder)]
        self._process = subprocess.Popen(
            child,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            bufsize=0,
        )
        try:
            ready = self._answer(self._process, START_LIMIT_SECONDS)
        except OSError as error:
            ready = str(error) or type(error).__name__
        if ready != "ready":
            self.stop()
            raise MissingInput(f"the checker {self.name} in {folder} cannot be loaded: {ready}")
        return self._process

    @staticmethod
    def _answer(process: "subprocess.Popen[bytes]", seconds: float) -> Any:
        """The next line of the process. Raises TimeoutError, or BrokenPipeError where it has ended."""
        assert process.stdout is not None
        poll = select.poll()  # select() refuses descriptors above 1,023
        poll.register(process.stdout, select.POLLIN)
        deadline, line = time.monotonic() + seconds, b""
        while not line.endswith(b"\n"):
            if not poll.poll(max(deadline - time.monotonic(), 0) * 1000):
                raise TimeoutError(f"no answer in {seconds:g} s")
            read = process.stdout.read(4096)
            if not read:
                raise BrokenPipeError("the process ended")
            line += read
        return json.loads(line)

    def _forget(self) -> None:
        """In a forked child: the process is the parent's, its pipes must not be shared."""
        self._process, self._lock = None, threading.Lock()

    def stop(self) -> None:
        """Kill the process, if there is one."""
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.wait()
            for stream in (process.stdin, process.stdout):
                with suppress(OSError):
                    stream.close()  # type: ignore[union-attr]
