"""Snakemake's progress as one line a step: what, how long it took, how long is left. `snakemake --logger
entrobench`; Snakemake finds a logger by this package's name.

Lines go to the file descriptor that ENTROBENCH_PROGRESS_FD names, so that everything else can go to a log;
without it, to standard error in the place of Snakemake's own lines.
"""

import os
import sys
import time
from dataclasses import dataclass, field
from logging import LogRecord
from pathlib import Path
from typing import TextIO

import yaml
from snakemake_interface_logger_plugins.base import LogHandlerBase
from snakemake_interface_logger_plugins.common import LogEvent
from snakemake_interface_logger_plugins.settings import LogHandlerSettingsBase

DESCRIPTOR = "ENTROBENCH_PROGRESS_FD"
# A step that is expected to take longer than this many seconds is named when it begins
LONG = 15


@dataclass
class LogHandlerSettings(LogHandlerSettingsBase):
    """expected: a YAML file whose `expected_seconds` has seconds of a rule's job, where that is known, and
    whose `side_by_side` how many of a rule's jobs run at once, where that is more than one.
    """

    expected: Path | None = field(
        default=None,
        metadata={
            "help": "YAML with expected_seconds: rule -> seconds, and side_by_side: rule -> jobs",
            "required": False,
            "type": Path,
        },
    )


class LogHandler(LogHandlerBase):
    """Prints a line a finished job."""

    def __post_init__(self) -> None:
        descriptor = os.environ.get(DESCRIPTOR)
        self.out: TextIO = sys.stderr if descriptor is None else os.fdopen(os.dup(int(descriptor)), "w")
        self.is_apart = descriptor is not None
        path = self.settings.expected if isinstance(self.settings, LogHandlerSettings) else None
        content = yaml.safe_load(Path(path).read_text()) if path else {}
        self.expected: dict[str, float] = content.get("expected_seconds", {})
        self.side_by_side: dict[str, int] = content.get("side_by_side", {})
        self.begun = time.monotonic()
        self.jobs: dict[int, tuple[str, str, float]] = {}  # jobid -> rule, message, start
        self.left: dict[str, int] = {}
        self.done = self.total = 0

    def emit(self, record: LogRecord) -> None:
        """See logging.Handler.emit."""
        event = getattr(record, "event", None)
        if event == LogEvent.RUN_INFO and not self.total:
            counts = {name: int(count) for name, count in getattr(record, "stats", {}).items()}
            self.total = counts.pop("total", sum(counts.values()))
            self.left = counts
            self._say(f"{self.total} steps{self._remaining(', expected to take')}")
        elif event == LogEvent.JOB_INFO:
            rule, message = getattr(record, "rule_name", ""), getattr(record, "rule_msg", None)
            self.jobs[getattr(record, "jobid", -1)] = rule, str(message or rule), time.monotonic()
            if self.expected.get(rule, 0) > LONG:
                self._say(f"         ... {message}, expected {_duration(self.expected[rule])}")
        elif event == LogEvent.JOB_FINISHED:
            rule, message, start = self.jobs.pop(getattr(record, "job_id", -1), ("", "", time.monotonic()))
            self.done += 1
            self.left[rule] = max(self.left.get(rule, 0) - 1, 0)
            took = _duration(time.monotonic() - start)
            expected = f" of {_duration(self.expected[rule])}" if rule in self.expected else ""
            self._say(f"[{self.done:3d}/{self.total}] {message}: {took}{expected}{self._remaining('; left')}")
        elif event == LogEvent.JOB_ERROR:
            rule, message, start = self.jobs.pop(
                getattr(record, "jobid", -1), (getattr(record, "rule_name", ""), "", time.monotonic())
            )
            logs = " ".join(map(str, getattr(record, "log", None) or []))
            after = _duration(time.monotonic() - start)
            self._say(f"FAILED   {message or rule}: after {after}. Its log: {logs or 'none'}")

    def _remaining(self, words: str) -> str:
        seconds = sum(
            self.expected.get(rule, 0) * self._share(rule) * count for rule, count in self.left.items()
        )
        running = sum(
            min(time.monotonic() - start, self.expected.get(rule, 0)) * self._share(rule)
            for rule, _, start in self.jobs.values()
        )
        return f"{words} {_duration(seconds - running)}" if self.expected and seconds > running else ""

    def _share(self, rule: str) -> float:
        """Of a job in the seconds that all jobs of its rule take."""
        return 1 / self.side_by_side.get(rule, 1)

    def _say(self, text: str) -> None:
        clock = _duration(time.monotonic() - self.begun)
        print(f"{clock:>8}  {text}", file=self.out, flush=True)

    @property
    def writes_to_stream(self) -> bool:
        """Only in the place of Snakemake's lines; those stay where ours go elsewhere."""
        return not self.is_apart

    @property
    def writes_to_file(self) -> bool:
        """No."""
        return False

    @property
    def has_filter(self) -> bool:
        """It reads every event."""
        return True

    @property
    def has_formatter(self) -> bool:
        """It makes its own lines."""
        return True

    @property
    def needs_rulegraph(self) -> bool:
        """No."""
        return False


def _duration(seconds: float) -> str:
    seconds = round(seconds)
    return f"{seconds // 60} min {seconds % 60:02d} s" if seconds >= 60 else f"{seconds} s"
