"""Watches a training run and cleans up after it.

verl does not notice an exception in a vLLM worker during a weight update: it waits for ever. So the run is a
child of this process, which ends it when it shows no sign of life, when a process that it needs has died, or
on Ctrl-C, and reports the worker's own error. Processes, shared memory and Ray's folder of this run are
removed by pid and by name as they were seen to belong to it; nothing else is touched. Checkpoints stay.

SIGTERM and SIGUSR1, which a scheduler sends ahead of a time limit or of preemption, let the run finish its
step, make a checkpoint and end (stop.json, runs.run_files.StopRequest); what it cannot do in time is ended.
"""

import ctypes
import fcntl
import itertools
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any

import psutil

from entrobench.cells import read_cell
from entrobench.errors import EntrobenchError, MissingInput, TrainingFailed, Unfinished
from entrobench.files import read_json, read_jsonl, write_atomic
from entrobench.runs.run_files import Lives, Progress, StopRequest
from entrobench.training.session import runs_of

POLL_SECONDS = 1.0
RAY_FOLDER_PREFIX = "entrobench-"
# Age from which a process counts as one that the run needs
SETTLED_SECONDS = 10.0
SHARED_MEMORY = Path("/dev/shm")
# Times that a segment is looked for among what the run's processes map, before it counts as somebody else's
LOOKS = 10
STOP_SIGNALS = (signal.SIGTERM, signal.SIGUSR1)
# A scheduler may send the same request to a shell and to its children: signals this close together are one
SAME_REQUEST_SECONDS = 5.0
GO_ON = "The same command goes on from the newest checkpoint."
# Processes without which verl cannot go on. Ray and vLLM set these names.
ESSENTIAL = re.compile(r"raylet$|gcs_server$|^ray::WorkerDict|^ray::TaskRunner|^ray::vLLM|^VLLM::")


@dataclass(frozen=True)
class Limits:
    """Seconds without a sign of life after which a run is ended.

    startup: before the first training step (imports, Ray, vLLM, compilation). stall: between two phases of a
    step. error: between two phases once a traceback stands in the log. dead_child: after an essential process
    has gone. stop: not silence but all the time that a run has, once asked, to finish its step and make a
    checkpoint.
    """

    startup: float
    stall: float
    error: float
    stop: float = 600.0
    dead_child: float = 20.0


class _Signals:
    """The requests to stop that have come, as (time, name)."""

    def __init__(self) -> None:
        self.requests: list[tuple[float, str]] = []

    def note(self, signum: int, frame: FrameType | None) -> None:
        now = time.time()
        if not self.requests or now - self.requests[-1][0] > SAME_REQUEST_SECONDS:
            self.requests.append((now, signal.Signals(signum).name))


@dataclass
class _Run:
    """What has been seen of the run so far."""

    log: Path
    signals: _Signals
    started: float = field(default_factory=time.time)
    not_ours: frozenset[int] = field(default_factory=lambda: frozenset(p.pid for p in _descendants()))
    processes: dict[int, psutil.Process] = field(default_factory=dict)
    essential: dict[int, str] = field(default_factory=dict)
    shared_memory: set[int] = field(default_factory=set)  # inodes
    looks: Counter[int] = field(default_factory=Counter)  # inode -> number
    missing_since: float | None = None


def supervise(command: list[str], run_dir: Path, limits: Limits, environment: dict[str, str]) -> None:
    """Run `command` (a training process that writes run_dir/progress.json) to its end; its output goes to
    train.log. That of earlier lives of the run stays, as train.1.log and so on. run_dir: of a cell or of a
    session.

    Raises TrainingFailed with the worker's error when the run fails, hangs, or loses a process; Unfinished
    after SIGTERM or SIGUSR1, with the checkpoint that it goes on from; KeyboardInterrupt on SIGINT. In every
    case all processes of the run have ended when this returns.
    """
    runs = runs_of(run_dir)
    with ExitStack() as stack:
        for folder in dict.fromkeys([run_dir, *runs]):
            stack.enter_context(_exclusive(folder))
        signals = stack.enter_context(_handled_signals())
        stack.enter_context(_life(run_dir, runs, signals))
        ray_dir = stack.enter_context(_ray_folder(run_dir))
        _become_subreaper()
        StopRequest(run_dir).clear()
        run = _Run(run_dir / "train.log", signals)
        _set_aside(run.log)
        with run.log.open("wb") as log:
            child = subprocess.Popen(
                command,
                stdout=log,
                stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL,
                env=environment | {"ENTROBENCH_RAY_DIR": str(ray_dir)},
                start_new_session=True,
                preexec_fn=_prepare_child,
            )
        try:
            _watch(child, run, run_dir, limits)
        finally:
            _clean_up(run)


def _set_aside(log: Path) -> None:
    if log.exists():
        names = (log.with_name(f"train.{number}.log") for number in itertools.count(1))
        log.rename(next(name for name in names if not name.exists()))


def _watch(child: subprocess.Popen[bytes], run: _Run, run_dir: Path, limits: Limits) -> None:
    reporter = _StepReporter(run_dir)
    while child.poll() is None:
        time.sleep(POLL_SECONDS)
        _look_at_processes(run)
        reporter.report()
        if run.signals.requests:
            _pursue_stop(run, run_dir, limits)
        reason = _reason_to_end(run, run_dir, limits)
        if reason is not None:
            raise _ended(run, run_dir, reason)
    reporter.report()
    if child.returncode != 0:
        raise _ended(run, run_dir, f"training ended with exit code {child.returncode}")


def _pursue_stop(run: _Run, run_dir: Path, limits: Limits) -> None:
    """Ask the run to stop, once; raise Unfinished when there is nothing to wait for, or no time left."""
    asked, name = run.signals.requests[0]
    request = StopRequest(run_dir)
    _, step, _ = _last_sign_of_life(run, run_dir)
    if not request.is_asked():
        if step == 0:
            raise Unfinished(f"stopped by {name} before its first step: nothing is lost. {GO_ON}")
        request.ask(name)
        _say(f"{name}: finishing step {step}, then a checkpoint, within {limits.stop:.0f} s")
    if len(run.signals.requests) > 1:
        raise _ended(run, run_dir, f"a second signal, {run.signals.requests[1][1]}, came")
    if time.time() - asked > limits.stop:
        raise _ended(run, run_dir, f"{limits.stop:.0f} s were not enough")


def _ended(run: _Run, run_dir: Path, reason: str) -> EntrobenchError:
    """What to raise for a run that has ended, or is to be ended, because of `reason`."""
    answer = StopRequest(run_dir).answered()
    name = _stopped_by(run.signals)
    if answer is not None:
        return Unfinished(
            f"stopped by {name} after step {answer[0]} of {answer[1]}, with a checkpoint. {GO_ON}"
        )
    if not run.signals.requests:
        return TrainingFailed(f"{reason}{_cause(run.log)}\n{_error_report(run.log)}")
    _, step, _ = _last_sign_of_life(run, run_dir)
    report = f"\n{_error_report(run.log)}" if _last_traceback(run.log) else f" {GO_ON}"
    return Unfinished(
        f"stopped by {name} in step {step}, before it could make a checkpoint: {reason}.{report}"
    )


def _stopped_by(signals: _Signals) -> str:
    """The signal that came, or the run itself: see runs.save_clock."""
    return signals.requests[0][1] if signals.requests else "the end of its job"


def _reason_to_end(run: _Run, run_dir: Path, limits: Limits) -> str | None:
    now = time.time()
    phase, step, last_sign = _last_sign_of_life(run, run_dir)
    silent = now - last_sign
    limit = limits.startup if step == 0 else limits.stall
    if silent > limit:
        return f"no progress for {silent:.0f} s (limit {limit:.0f} s) in phase '{phase}' of step {step}"
    if step > 0 and silent > limits.error and _last_traceback(run.log):
        return f"a worker failed and nothing has moved for {silent:.0f} s in phase '{phase}' of step {step}"
    gone = [name for pid, name in run.essential.items() if not _is_alive(run.processes[pid])]
    if not gone:
        run.missing_since = None
        return None
    run.missing_since = run.missing_since or now
    if now - run.missing_since > limits.dead_child and silent > limits.dead_child:
        return f"a process of the run has died: {', '.join(sorted(gone))}"
    return None


def _last_sign_of_life(run: _Run, run_dir: Path) -> tuple[str, int, float]:
    try:
        progress = read_json(run_dir / "progress.json")
    except MissingInput:
        return "start", 0, run.started
    if progress["time"] < run.started:
        return "start", 0, run.started  # left by an earlier attempt
    return progress["phase"], progress["step"], progress["time"]


# -- processes -----------------------------------------------------------------------------------------------


def _descendants() -> list[psutil.Process]:
    return psutil.Process().children(recursive=True)


def _look_at_processes(run: _Run) -> None:
    """Remember each process of the run and the shared memory it holds: after a crash nobody else knows."""
    ours = [process for process in _descendants() if process.pid not in run.not_ours]
    if _is_there_unknown_memory(run):
        run.shared_memory.update(*(_shared_memory_of(process.pid) for process in ours))
    for process in ours:
        run.processes.setdefault(process.pid, process)
        try:
            name = _title(process)
            # A short-lived fork that has not called exec carries its parent's title
            is_fork = _role(name) == _role(_title(process.parent()))
            is_settled = time.time() - process.create_time() > SETTLED_SECONDS
        except (psutil.Error, OSError):
            continue  # it has ended since it was listed
        if ESSENTIAL.search(name) and is_settled and not is_fork:
            run.essential.setdefault(process.pid, name)


def _is_there_unknown_memory(run: _Run) -> bool:
    """Reading what twenty processes map is most of a look's cost: each second a twentieth of a core."""
    there = {entry.inode() for entry in os.scandir(SHARED_MEMORY)} if SHARED_MEMORY.is_dir() else set()
    unknown = {inode for inode in there - run.shared_memory if run.looks[inode] < LOOKS}
    run.looks.update(unknown)
    return bool(unknown)


def _title(process: psutil.Process | None) -> str:
    return (process.cmdline() or [process.name()])[0] if process else ""


def _role(title: str) -> str:
    """A title without the method that a Ray actor is in: ray::WorkerDict.update_actor -> ray::WorkerDict."""
    return title.partition(".")[0]


def _shared_memory_of(pid: int) -> set[int]:
    """Inodes of the shared memory that a process maps, none of one that has ended; a semaphore has another
    name in its folder.
    """
    try:
        maps = Path(f"/proc/{pid}/maps").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return set()
    return {int(line.split(maxsplit=5)[4]) for line in maps.splitlines() if f" {SHARED_MEMORY}/" in line}


def _is_alive(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.Error:
        return False


def _clean_up(run: _Run) -> None:
    _look_at_processes(run)
    for send in (psutil.Process.terminate, psutil.Process.kill):
        # Listed anew each time: children of a killed process are handed to this one (subreaper)
        targets = [p for p in _descendants() if p.pid not in run.not_ours and _is_alive(p)]
        for process in targets:
            _ignore_gone(send, process)
        psutil.wait_procs(targets, timeout=8)
    in_use = set().union(*(_shared_memory_of(pid) for pid in psutil.pids()))
    _remove_shared_memory(run.shared_memory - in_use)


def _remove_shared_memory(inodes: set[int]) -> None:
    for entry in os.scandir(SHARED_MEMORY) if inodes else ():
        if entry.inode() in inodes:
            Path(entry.path).unlink(missing_ok=True)


def _ignore_gone(action: Callable[[psutil.Process], Any], process: psutil.Process) -> None:
    with suppress(psutil.NoSuchProcess):
        action(process)


def _prctl(option: int, value: int) -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(option, value, 0, 0, 0)


def _become_subreaper() -> None:
    _prctl(36, 1)  # PR_SET_CHILD_SUBREAPER: orphans of the run become children of this process


def _prepare_child() -> None:
    _prctl(1, signal.SIGTERM)  # PR_SET_PDEATHSIG: the run does not outlive a guard that was killed
    # Inherited by all of the run: a SIGUSR1 that a scheduler sends to every process is for the guard only
    signal.signal(signal.SIGUSR1, signal.SIG_IGN)


# -- what the user sees --------------------------------------------------------------------------------------


def _say(text: str) -> None:
    """Print a line. When the reader of a pipe (`| tee log`) has been ended, the run goes on without it."""
    try:
        print(text, flush=True)
    except BrokenPipeError:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        for stream in (1, 2) if os.path.sameopenfile(1, 2) else (1,):
            os.dup2(nowhere, stream)


class _StepReporter:
    """Prints each phase of the start, one line per finished step, and what the run has to tell the user: the
    lines of its log that begin with `entrobench: `.
    """

    def __init__(self, run_dir: Path) -> None:
        self.run_dir = run_dir
        self.runs = runs_of(run_dir)
        self.started = time.time()
        self.phase = ""
        self.log_read = 0
        self.transports: set[str] = set()
        self._follow(self.runs[0])

    def _follow(self, run: Path) -> None:
        self.run = run
        self.step = self._last_step()
        self.total = self._total_steps()

    def _total_steps(self) -> int | None:
        """Of the whole run; None where nothing says it."""
        try:
            return int(read_cell(self.run / "cell.yaml")["verl"]["trainer.total_training_steps"])
        except (EntrobenchError, KeyError):
            return None

    def _left(self, rows: list[dict[str, Any]]) -> str:
        """How long the steps that are left take, at the mean of the last ten."""
        known = [row for row in rows if row["step"] <= self.step and "timing_s/step" in row]
        seconds = [row["timing_s/step"] for row in known[-10:]]
        if self.total is None or self.total <= self.step or not seconds:
            return ""
        left = (self.total - self.step) * sum(seconds) / len(seconds)
        return f", about {left / 60:.0f} min left" if left >= 60 else f", about {left:.0f} s left"

    def _rows(self) -> list[dict[str, Any]]:
        try:
            return read_jsonl(self.run / "metrics.jsonl")
        except EntrobenchError:
            return []  # not there yet, or its last line is being written

    def _last_step(self) -> int:
        return max((row["step"] for row in self._rows()), default=0)

    def report(self) -> None:
        elapsed = f"{time.time() - self.started:5.0f} s"
        self._report_notes()
        try:
            progress = read_json(self.run_dir / "progress.json")
        except EntrobenchError:
            return
        if progress["step"] == 0 and progress["time"] >= self.started and progress["phase"] != self.phase:
            self.phase = progress["phase"]
            self._follow(self.run)  # a resumed run cuts its curve, another run sets the earlier one aside
            _say(f"[{elapsed}] {self.phase}")
        self._report_steps(elapsed)
        run = Path(progress.get("run", self.run))
        if run != self.run and run in self.runs:
            self._follow(run)
            name = read_cell(run / "cell.yaml")["cell"]
            _say(f"[{elapsed}] {name}, {self.runs.index(run) + 1} of {len(self.runs)}")
            self._report_steps(elapsed)

    def _report_steps(self, elapsed: str) -> None:
        rows = self._rows()
        for row in rows:
            # A row that was kept ahead of a kill has no time
            if row["step"] > self.step and "timing_s/step" in row:
                self.step = row["step"]
                of_all = f" of {self.total}" if self.total is not None else ""
                weights = f"  omega_neg {row['omega_neg']:.4f}" if "omega_neg" in row else ""
                _say(
                    f"[{elapsed}] step {self.step}{of_all}: reward {row['reward']:.3f}  entropy "
                    f"{row['entropy']:.4f}{weights}  {row['timing_s/step']:.1f} s{self._left(rows)}"
                )

    def _report_notes(self) -> None:
        with (self.run_dir / "train.log").open("rb") as log:
            log.seek(self.log_read)
            new = log.read()
        whole = new[: new.rfind(b"\n") + 1]  # the rest of its last line comes with the next look
        self.log_read += len(whole)
        for line in _plain_lines(whole.decode("utf-8", "replace")):
            if line.startswith("entrobench: "):
                _say(line)
            elif (transport := _TRANSPORT.search(line)) and transport[1] not in self.transports:
                self.transports.add(transport[1])
                slow = transport[1] == "Socket"
                _say(
                    f"entrobench: NCCL between nodes: {transport[1]}"
                    + (", TCP sockets and not the fast network: see docs/cluster.md" if slow else "")
                )


# As NCCL_DEBUG=INFO has it: `NCCL INFO Using network IB`, or `NET/Socket`
_TRANSPORT = re.compile(r"NCCL INFO (?:Using network |NET/)([A-Z]\w+)")
_ANSI = re.compile(r"\x1b\[[0-9;]*m")
_RAY_PREFIX = re.compile(r"^\([^)]*pid=\d+[^)]*\) ?")
_VLLM_PREFIX = re.compile(r"^\((?:Worker|EngineCore)[^)]*\) ?(?:ERROR [\d: -]+\[[^\]]*\] )?")
# The line that ends a traceback; Ray's wrapper is followed by the worker's own traceback
_EXCEPTION_LINE = re.compile(
    r"^(?!ray\.exceptions\.RayTaskError)[\w.]*(Error|Exception|Exhausted|Interrupt|Failed)\b"
)


def _plain_lines(text: str) -> list[str]:
    """Lines without colours and without the prefixes of Ray and vLLM."""
    lines = _ANSI.sub("", text).splitlines()
    return [_VLLM_PREFIX.sub("", _RAY_PREFIX.sub("", line)) for line in lines]


def _log_lines(log: Path) -> list[str]:
    return _plain_lines(log.read_text(encoding="utf-8", errors="replace"))


def _last_traceback(log: Path) -> list[str]:
    """The last traceback in the log up to its exception line, or []."""
    lines = _log_lines(log)
    starts = [
        i for i, line in enumerate(lines) if line.strip().startswith("Traceback (most recent call last)")
    ]
    if not starts:
        return []
    block = lines[starts[-1] :]
    for end, line in enumerate(block):
        if _EXCEPTION_LINE.match(line.strip()):
            return block[: end + 1]
    return block[:40]


def _cause(log: Path) -> str:
    """`: ` and the exception that the log's last traceback ends with, for a line that stands alone."""
    last = (_last_traceback(log) or [""])[-1].strip()
    return f": {last}" if _EXCEPTION_LINE.match(last) else ""


def _error_report(log: Path) -> str:
    traceback = _last_traceback(log)
    shown = traceback[-12:] if traceback else [line for line in _log_lines(log) if line.strip()][-12:]
    return "\n".join(
        [
            *(f"  | {line}" for line in shown),
            f"  Whole log: {log}. Checkpoints are intact; the same command resumes.",
        ]
    )


# -- the run's own folder, lock and signals ------------------------------------------------------------------


@contextmanager
def _exclusive(run_dir: Path) -> Iterator[None]:
    """Hold the lock of this cell. Raises TrainingFailed when another process trains it."""
    with (run_dir / "run.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise TrainingFailed(
                f"{run_dir} is being trained by another process; wait for it or stop it"
            ) from error
        except OSError as error:  # Lustre without -o flock, NFS without its lock daemon
            _say(
                f"entrobench: warning: no lock on {run_dir}, whose file system has none ({error.strerror}): "
                f"make sure that nothing else trains this cell"
            )
        yield


@contextmanager
def _ray_folder(run_dir: Path) -> Iterator[Path]:
    """A folder for Ray's sockets and logs; short, because a socket's path may have 107 characters at most.

    Its name is kept in ray_folder.txt, so that the next run removes what a killed guard could not.
    """
    note = run_dir / "ray_folder.txt"
    if note.exists():
        left_over = Path(note.read_text(encoding="utf-8"))
        if left_over.name.startswith(RAY_FOLDER_PREFIX):
            shutil.rmtree(left_over, ignore_errors=True)
    folder = Path(tempfile.mkdtemp(prefix=RAY_FOLDER_PREFIX, dir="/tmp"))
    write_atomic(note, str(folder))
    try:
        yield folder
    except TrainingFailed:
        _keep_logs(folder, run_dir)
        raise
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        note.unlink()


def _keep_logs(ray_folder: Path, run_dir: Path) -> None:
    """Copy Ray's logs, where an end for want of memory is told, to logs/ray/<life>/."""
    for session in ray_folder.glob("session_latest/logs"):
        kept = run_dir / "logs" / "ray" / str(len(Lives(run_dir).read()))
        with suppress(OSError, shutil.Error):
            shutil.copytree(session, kept, dirs_exist_ok=True, ignore=shutil.ignore_patterns("*.sock"))
            _say(f"Ray's logs: {kept}")


@contextmanager
def _life(run_dir: Path, runs: list[Path], signals: _Signals) -> Iterator[None]:
    """Note in lives.jsonl of the run that is being trained how the life ended that its process began."""
    for run in runs:
        Lives(run).end_killed()

    def end(reason: str) -> None:
        Lives(Progress(run_dir).run()).end(reason)

    try:
        yield
    except Unfinished:
        end(f"stopped by {_stopped_by(signals)}")
        raise
    except KeyboardInterrupt:
        end("interrupted")
        raise
    except EntrobenchError as error:
        end(f"failed: {str(error).splitlines()[0]}")
        raise


@contextmanager
def _handled_signals() -> Iterator[_Signals]:
    """SIGTERM and SIGUSR1 are noted; SIGINT is a KeyboardInterrupt whatever the caller has set."""
    signals = _Signals()

    def interrupt(signum: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt(signal.Signals(signum).name)

    handlers: dict[signal.Signals, Any] = {signal.SIGINT: interrupt}
    handlers |= dict.fromkeys(STOP_SIGNALS, signals.note)
    previous = {number: signal.signal(number, handler) for number, handler in handlers.items()}
    try:
        yield signals
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
