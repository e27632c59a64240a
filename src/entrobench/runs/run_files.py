"""The files that a training run leaves while it runs: progress, curve, request to stop, lives.

Written by the trainer and the guard, read by both, by a resumed run and by the report. No import of verl.
"""

import json
import os
import socket
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from entrobench.errors import MissingInput
from entrobench.files import read_json, read_jsonl, write_json, write_jsonl, write_parquet

if TYPE_CHECKING:
    import pandas as pd


class Progress:
    """`progress.json`: the phase that the run is in. The guard takes each rewrite as a sign of life.

    run: the folder of the run, where it is not that of the file: a session trains several.
    """

    def __init__(self, folder: Path, run: Path | None = None) -> None:
        self.path = folder / "progress.json"
        self._run = run or folder

    def beat(self, phase: str, step: int) -> None:
        """Say that `phase` of `step` begins now."""
        write_json(self.path, {"phase": phase, "step": step, "time": time.time(), "run": str(self._run)})

    def run(self) -> Path:
        """The folder of the run that the last beat is of."""
        try:
            return Path(read_json(self.path).get("run", self._run))
        except MissingInput:
            return self._run

    def last_beat(self) -> float:
        """Time of the last beat, in seconds since the epoch; now, where there was none."""
        try:
            return read_json(self.path)["time"]
        except MissingInput:
            return time.time()


class Curve:
    """`metrics.jsonl`, one training step a line, and `metrics.parquet` made of it."""

    def __init__(self, folder: Path) -> None:
        self.jsonl = folder / "metrics.jsonl"
        self.parquet = folder / "metrics.parquet"
        self.ahead = folder / "metrics.ahead.json"

    def truncate_after(self, step: int) -> int:
        """Forget steps after `step`: a resumed run makes them again. A line cut by a kill is dropped with
        them; a row that a kill came before is that of `keep_ahead`. Return the last step that is kept, 0 for
        none.
        """
        kept = [row for row in self.rows() if row["step"] <= step]
        if self.ahead.exists():
            ahead = read_json(self.ahead)
            if ahead["step"] == step and (not kept or kept[-1]["step"] < step):
                kept.append(ahead)
        if not (kept or self.jsonl.exists()):
            return 0
        write_jsonl(self.jsonl, kept)
        return kept[-1]["step"] if kept else 0

    def keep_ahead(self, step: int, metrics: dict[str, float]) -> None:
        """What is known of a step before its checkpoint is made, which comes before its row: a run that is
        killed in between goes on after this step and would have no row of it.
        """
        write_json(self.ahead, {"step": step} | metrics)

    def last_step(self) -> int:
        """The last step whose row is there, 0 for none."""
        rows = self.rows()
        return rows[-1]["step"] if rows else 0

    def rows(self) -> list[dict[str, Any]]:
        """The steps that are there; of a line that is being written nothing."""
        rows: list[dict[str, Any]] = []
        if not self.jsonl.exists():
            return rows
        for line in self.jsonl.read_text(encoding="utf-8").split("\n"):
            try:
                rows.append(json.loads(line))
            except ValueError:
                break  # only the last line can be incomplete
        return rows

    def append(self, step: int, metrics: dict[str, Any]) -> dict[str, float]:
        """Add one step and force it to disk; the metrics that are numbers, which are its row."""
        numbers = {name: float(value) for name, value in metrics.items() if _is_number(value)}
        with self.jsonl.open("a", encoding="utf-8") as stream:
            stream.write(json.dumps({"step": step} | numbers) + "\n")
            stream.flush()
            os.fsync(stream.fileno())
        return numbers

    def to_parquet(self) -> "pd.DataFrame":
        """Write metrics.parquet from metrics.jsonl and return it, sorted by step."""
        import pandas as pd

        frame = pd.DataFrame(read_jsonl(self.jsonl)).sort_values("step", ignore_index=True)
        write_parquet(self.parquet, frame)
        return frame


class StopRequest:
    """`stop.json`: the guard asks the trainer to end after a checkpoint; the trainer answers when it has.

    A file, because signals do not reach Ray's actors, which may run on other nodes.
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder / "stop.json"

    def ask(self, signal_name: str) -> None:
        """Ask the trainer to end once its current step is done."""
        write_json(self.path, {"signal": signal_name})

    def is_asked(self) -> bool:
        """Whether the run is to end after this step."""
        return self._read() is not None

    def answer(self, step: int, total: int) -> None:
        """Say that the checkpoint and the metrics of `step`, of `total`, are written and the run ends."""
        write_json(self.path, (self._read() or {}) | {"step": step, "total": total})

    def answered(self) -> tuple[int, int] | None:
        """(step, total) of the answer, or None."""
        content = self._read() or {}
        return (content["step"], content["total"]) if "step" in content else None

    def clear(self) -> None:
        """Forget the request."""
        self.path.unlink(missing_ok=True)

    def _read(self) -> dict[str, Any] | None:
        try:
            return read_json(self.path)
        except MissingInput:
            return None


class Lives:
    """`lives.jsonl`: one line for each process that trained this cell, in order.

    start, stop: UTC. from_step: the checkpoint that it began from. to_step: the last step that it finished;
    what lies between that and the next life's from_step was lost. exit: finished, stopped by SIGNAL or by the
    end of its job, interrupted, killed, or failed: REASON. versions: of the engines. settings: those that may
    differ between lives. code: of what ran (provenance/code.py). job: of SLURM. host: only where
    ENTROBENCH_RECORD_HOSTS is set.
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder / "lives.jsonl"
        self.curve = Curve(folder)
        self.progress = Progress(folder)

    def read(self) -> list[dict[str, Any]]:
        """All lives so far. Raises CorruptFile."""
        return read_jsonl(self.path) if self.path.exists() else []

    def begin(
        self,
        from_step: int,
        versions: dict[str, str] | None = None,
        settings: dict[str, Any] | None = None,
        code: dict[str, str] | None = None,
    ) -> None:
        """Add a life."""
        life: dict[str, Any] = {
            "start": _utc(time.time()),
            "stop": None,
            "from_step": from_step,
            "to_step": from_step,
            "exit": None,
            "versions": versions or {},
            "settings": settings or {},
            "code": code or {},
        }
        if job := os.environ.get("SLURM_JOB_ID"):
            life["job"] = job
        if os.environ.get("ENTROBENCH_RECORD_HOSTS"):
            life["host"] = socket.gethostname()
        write_jsonl(self.path, [*self.read(), life])

    def end(self, reason: str) -> None:
        """Close the current life, if one is open."""
        self._close(reason, time.time())

    def end_killed(self) -> None:
        """Close a life that nobody could close, at its last sign of life. Before anything rewrites
        progress.json or the curve.
        """
        self._close("killed", self.progress.last_beat())

    def fruitless(self) -> int:
        """How many of the last lives were stopped and began from one step: they made no checkpoint."""
        number = 0
        lives = self.read()
        while number < len(lives):
            life = lives[-1 - number]
            if not life["exit"].startswith("stopped") or life["from_step"] != lives[-1]["from_step"]:
                break
            number += 1
        return number

    def _close(self, reason: str, stop: float) -> None:
        lives = self.read()
        if not lives or lives[-1]["exit"] is not None:
            return
        to_step = max(self.curve.last_step(), lives[-1]["from_step"])
        lives[-1] |= {"stop": _utc(stop), "to_step": to_step, "exit": reason}
        write_jsonl(self.path, lives)


def _utc(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds")


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) or (hasattr(value, "item") and getattr(value, "size", 1) == 1)
