"""The files that a training run leaves while it runs: its progress, its curve, its controller state.

Written by the trainer, read by the guard, by a resumed run and by the report. No import of verl.
"""

import json
import os
import time
from pathlib import Path
from typing import Any

import pandas as pd

from entrobench.errors import CorruptFile, MissingInput
from entrobench.files import read_json, read_jsonl, write_atomic, write_json, write_parquet

CONTROLLER_FILE = "controller.json"
TRACKER_FILE = "latest_checkpointed_iteration.txt"


class Progress:
    """`progress.json`: the phase that the run is in. The guard takes each rewrite as a sign of life."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "progress.json"

    def beat(self, phase: str, step: int) -> None:
        """Say that `phase` of `step` begins now."""
        write_json(self.path, {"phase": phase, "step": step, "time": time.time()})


class Curve:
    """`metrics.jsonl`, one training step a line, and `metrics.parquet` made of it (contract 6)."""

    def __init__(self, folder: Path) -> None:
        self.jsonl = folder / "metrics.jsonl"
        self.parquet = folder / "metrics.parquet"

    def truncate_after(self, step: int) -> int:
        """Forget steps after `step`: a resumed run makes them again. A line cut by a kill is dropped with
        them. Return the last step that is kept, 0 for none.
        """
        if not self.jsonl.exists():
            return 0
        kept, last = [], 0
        for line in self.jsonl.read_text(encoding="utf-8").split("\n"):
            try:
                row = json.loads(line)
            except ValueError:
                break  # only the last line can be incomplete
            if row["step"] <= step:
                kept.append(line)
                last = row["step"]
        write_atomic(self.jsonl, "".join(line + "\n" for line in kept))
        return last

    def append(self, step: int, metrics: dict[str, Any]) -> None:
        """Add one step and force it to disk."""
        row = {"step": step} | {name: value for name, value in metrics.items() if _is_number(value)}
        with self.jsonl.open("a", encoding="utf-8") as stream:
            stream.write(
                json.dumps({name: float(v) if name != "step" else v for name, v in row.items()}) + "\n"
            )
            stream.flush()
            os.fsync(stream.fileno())

    def to_parquet(self) -> pd.DataFrame:
        """Write metrics.parquet from metrics.jsonl and return it, sorted by step."""
        frame = pd.DataFrame(read_jsonl(self.jsonl)).sort_values("step", ignore_index=True)
        write_parquet(self.parquet, frame)
        return frame


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) or (hasattr(value, "item") and getattr(value, "size", 1) == 1)


def set_aside_other_run(run_dir: Path, identity: str) -> Path | None:
    """Move checkpoints and curve of a run with another identity (settings, model or data) out of the way.

    Returns the folder that they were moved to, or None when there was nothing to move.
    """
    mark = run_dir / "checkpoints" / "identity.txt"
    previous = mark.read_text(encoding="utf-8").strip() if mark.exists() else None
    aside = None
    if previous not in (None, identity):
        aside = run_dir / f"replaced.{previous[:12]}.{int(time.time())}"
        aside.mkdir()
        for name in ("checkpoints", "metrics.jsonl"):
            if (run_dir / name).exists():
                (run_dir / name).rename(aside / name)
    write_atomic(mark, identity + "\n")
    return aside


def latest_checkpoint(checkpoints: Path) -> Path | None:
    """Folder of the newest complete checkpoint, or None.

    Raises CorruptFile when the tracker file names a step whose folder is absent or is no number.
    """
    tracker = checkpoints / TRACKER_FILE
    if not tracker.exists():
        return None
    text = tracker.read_text(encoding="utf-8").strip()
    folder = checkpoints / f"global_step_{text}"
    if not text.isdigit() or not folder.is_dir():
        raise CorruptFile(
            f"{tracker} names step {text!r}, but {folder} is not there.\n  Write the number of the newest "
            f"global_step_* folder into it to resume from there, or delete {checkpoints} to start again."
        )
    return folder


def check_checkpoint(folder: Path, world_size: int, needs_controller: bool) -> None:
    """Raise CorruptFile unless `folder` holds every file that a resume reads, each readable as an archive."""
    import zipfile

    names = [
        f"actor/{kind}_world_size_{world_size}_rank_{rank}.pt"
        for kind in ("model", "optim", "extra_state")
        for rank in range(world_size)
    ]
    for name in [*names, "data.pt"]:
        path = folder / name
        if not path.exists():
            problem = "is missing"
        elif not zipfile.is_zipfile(path):
            problem = f"({path.stat().st_size} bytes) is damaged or cut short"
        else:
            continue
        raise CorruptFile(
            f"checkpoint {folder}: {name} {problem}.\n  To resume from an earlier step write its number into "
            f"{folder.parent / TRACKER_FILE}; to start again delete {folder.parent}."
        )
    if needs_controller:
        load_controller(folder)


def save_controller(folder: Path, state: dict[str, Any]) -> None:
    """Write the shaper's state into a checkpoint folder."""
    write_json(folder / CONTROLLER_FILE, state)


def load_controller(folder: Path) -> dict[str, Any]:
    """Read the shaper's state. Raises CorruptFile when it is absent or no JSON object."""
    try:
        state = read_json(folder / CONTROLLER_FILE)
    except MissingInput as error:
        raise CorruptFile(
            f"checkpoint {folder} holds no {CONTROLLER_FILE}: it was not made with this method"
        ) from error
    if not isinstance(state, dict):
        raise CorruptFile(f"{folder / CONTROLLER_FILE}: expected a JSON object, found {type(state).__name__}")
    return state
