"""When a run saves by time, and when it ends by itself because its job is about to."""

import time
from collections.abc import Callable
from pathlib import Path

from entrobench.errors import MissingInput
from entrobench.files import read_json, write_json

MARGIN = 1.2  # of the longest step and the longest save so far: what a job has to have left for another step


def write_job_times(run_dir: Path, ends: float | None, checkpoint_minutes: float | None) -> None:
    """`job.json`, for the process that trains, wherever it runs.

    Args:
        ends: of the job, seconds since the epoch; None without a time limit.
        checkpoint_minutes: between checkpoints, at most a step more; None for those by steps only.
    """
    write_json(run_dir / "job.json", {"ends": ends, "checkpoint_minutes": checkpoint_minutes})


class SaveClock:
    """The times of one life of a run. `step` after each step, `saved` after each checkpoint."""

    def __init__(self, run_dir: Path, now: Callable[[], float] = time.time) -> None:
        try:
            times = read_json(run_dir / "job.json")
        except MissingInput:
            times = {}
        self._ends: float | None = times.get("ends")
        minutes = times.get("checkpoint_minutes")
        self._between = None if minutes is None else 60.0 * minutes
        self._now = now
        self._last_step = self._last_saved = now()
        self._longest_step = self._longest_save = 0.0

    def step(self) -> None:
        """A step is done but for its checkpoint; the first one counts with the start of Ray and vLLM."""
        now = self._now()
        self._longest_step = max(self._longest_step, now - self._last_step)
        self._last_step = now

    def saved(self, seconds: float) -> None:
        """A checkpoint is written, in so many seconds, which are no part of the next step."""
        self._longest_save = max(self._longest_save, seconds)
        self._last_saved = self._now()
        self._last_step += seconds

    def is_due(self) -> bool:
        """Whether the last checkpoint, or the start, is as long ago as the site lets it be."""
        return self._between is not None and self._now() - self._last_saved >= self._between

    def is_over(self) -> bool:
        """Whether another step and its checkpoint may not end ahead of the job; this step's still may."""
        left = None if self._ends is None else self._ends - self._now()
        return left is not None and left < MARGIN * (self._longest_step + 2 * self._longest_save)
