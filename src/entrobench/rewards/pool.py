"""A few reused grading processes, each with a hard time limit and a memory limit.

Any number of threads may ask at once; each waits for a free process, and its time counts from when a process
takes the comparison up. A process that misses the limit is killed and started anew at the next request.
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
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from importlib.util import find_spec
from pathlib import Path

from entrobench.errors import ConfigError, MissingInput
from entrobench.rewards.answer_grade import Verdict
from entrobench.rewards.rules import Rule

TIME_LIMIT_SECONDS = 5.0
START_LIMIT_SECONDS = 120.0
MAX_DECIDED = 20_000
# The limit is of processor time, where the system tells it; of wall time it is this many times as much
STARVED_FACTOR = 6
PACKAGES_VARIABLE = "ENTROBENCH_GRADER_PACKAGES"
PROCESSES_VARIABLE = "ENTROBENCH_GRADER_PROCESSES"


@dataclass(frozen=True)
class Verdicts:
    """What a process said, and the seconds that it took, waiting for a free process not included."""

    primary: Verdict
    second: Verdict
    seconds: float
    is_final: bool = True  # whether another attempt would end the same way


class _TimeUp(TimeoutError):
    """The process had all its processor time: it would need as long again."""


class _Asked:
    """A comparison under way; others that want the same one wait for it."""

    def __init__(self) -> None:
        self.is_done = threading.Event()
        self.verdicts: Verdicts | None = None


class GraderPool:
    """`size` processes, each started when it is first needed."""

    def __init__(self, size: int) -> None:
        self.workers = [_Worker() for _ in range(size)]
        self._idle: queue.LifoQueue[_Worker] = queue.LifoQueue()
        for worker in self.workers:
            self._idle.put(worker)
        # A group of completions repeats its answers
        self._decided: dict[tuple[str, str, Rule], Verdicts] = {}
        self._asked: dict[tuple[str, str, Rule], _Asked] = {}
        self._lock = threading.Lock()

    def compare(self, answer: str, gold: str, rule: Rule) -> Verdicts:
        """Both verdicts. `error` for a grader that did not answer in TIME_LIMIT_SECONDS or died; the second
        is not asked after the first failed so. A time-out is remembered like a verdict, and what is asked
        several times at once is compared once. Raises MissingInput when the graders are not installed.
        """
        key = (answer, gold, rule)
        while True:
            with self._lock:
                kept = self._decided.get(key)
                asked = self._asked.get(key)
                if kept is None and asked is None:
                    mine = self._asked[key] = _Asked()
                    break
            if kept is not None:
                return kept
            assert asked is not None
            asked.is_done.wait()
            if asked.verdicts is not None:  # None: it was interrupted
                return replace(asked.verdicts, seconds=0.0)
        try:
            mine.verdicts = verdicts = self._ask(answer, gold, rule)
        finally:
            with self._lock:
                del self._asked[key]
                if mine.verdicts is not None and mine.verdicts.is_final:
                    if len(self._decided) >= MAX_DECIDED:
                        self._decided.clear()
                    self._decided[key] = replace(mine.verdicts, seconds=0.0)
            mine.is_done.set()
        return verdicts

    def _ask(self, answer: str, gold: str, rule: Rule) -> Verdicts:
        worker = self._idle.get()
        try:
            return worker.compare(answer, gold, rule)
        finally:
            self._idle.put(worker)

    def forget(self) -> None:
        """Drop the verdicts kept, for a measurement of the processes themselves."""
        with self._lock:
            self._decided.clear()

    def stop(self) -> None:
        """End all processes; a later request starts them anew."""
        for worker in self.workers:
            worker.stop()


class _Worker:
    """One process. A plain child with pipes: multiprocessing would import the caller's main module again,
    which in verl's reward workers is Ray's.
    """

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        self._buffer = b""

    def compare(self, answer: str, gold: str, rule: Rule) -> Verdicts:
        limit = TIME_LIMIT_SECONDS
        request = {
            "answer": answer,
            "gold": gold,
            "rule": asdict(rule),
            "alarm": math.ceil(STARVED_FACTOR * limit) + 5,
        }
        line = json.dumps(request).encode("ascii") + b"\n"
        started = time.monotonic()
        verdicts: list[str] = []
        is_time_up = False
        for _ in ("first", "again if the process died, which need not be this answer's doing"):
            try:
                stdin = self._running().stdin
                assert stdin is not None
                started, verdicts = time.monotonic(), []
                stdin.write(line)
                for _ in ("primary", "second"):
                    verdicts.append(self._line(limit))
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
        primary, second = [*verdicts, "error", "error"][:2]
        is_final = is_time_up or "error" not in (primary, second)
        return Verdicts(primary, second, time.monotonic() - started, is_final)  # type: ignore[arg-type]

    def _running(self) -> "subprocess.Popen[bytes]":
        """The process, started if there is none. Raises MissingInput if it cannot be."""
        if self._process is not None and self._process.poll() is None:
            return self._process
        self.stop()
        packages = grader_packages()
        source = str(Path(__file__).resolve().parents[2])
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-m", "entrobench.rewards.worker", str(packages)],
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


def grader_packages() -> Path:
    """The folder of packages for the grading process alone (ENTROBENCH_GRADER_PACKAGES, default
    grader-packages/ in the environment). Raises MissingInput when a grader is not installed: every answer
    would be an error, every reward 0.
    """
    for module, package in (("math_verify", "math-verify==0.9.0"), ("lm_eval", "lm-eval==0.4.13")):
        if find_spec(module) is None:
            raise MissingInput(f"{package.partition('=')[0]} is not installed; type: pip install {package}")
    override = os.environ.get(PACKAGES_VARIABLE)
    folder = Path(override) if override else Path(sys.prefix) / "grader-packages"
    if not (folder / "antlr4").is_dir():
        raise MissingInput(
            f"{folder} holds no antlr4: expected antlr4-python3-runtime 4.11.0, which the grading process "
            f"needs apart from the environment's 4.9.\n"
            f"  Type: bash workflow/scripts/setup.sh, or set {PACKAGES_VARIABLE}"
        )
    return folder


def pool_size() -> int:
    """ENTROBENCH_GRADER_PROCESSES, else a quarter of the CPUs of this process, at least 2 and at most 4."""
    text = os.environ.get(PROCESSES_VARIABLE)
    if text is None:
        return min(4, max(2, len(os.sched_getaffinity(0)) // 4))
    if not text.isdecimal() or not 1 <= int(text) <= 256:
        raise ConfigError(f"{PROCESSES_VARIABLE}: expected a number from 1 to 256, found {text!r}")
    return int(text)


_pool: GraderPool | None = None
_making = threading.Lock()


def pool() -> GraderPool:
    """This process's pool."""
    global _pool
    with _making:
        if _pool is None:
            _pool = GraderPool(pool_size())
        return _pool


def _forget() -> None:
    """In a forked child: the parent's processes are not the child's, their pipes must not be shared."""
    global _pool, _making
    _pool, _making = None, threading.Lock()


def _stop() -> None:
    if _pool is not None:
        _pool.stop()


os.register_at_fork(after_in_child=_forget)
atexit.register(_stop)
