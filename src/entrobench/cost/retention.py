"""What of a finished cell takes disk that no evaluation and no artifact reads any more, and how it goes.

Kept of every cell: curves, records of tokens, samples, verdicts, scores, manifest, and the last model; of a
LoRA run its adapter, from which the model is made again where somebody asks for it. What an evaluation is to
read stays until it has been.
"""

import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from entrobench.cells import STEPS_KEY
from entrobench.models.lora import is_reduced, keep_adapter, rank_of
from entrobench.runs.checkpoints import SAVED_MODEL, checkpoint_folders
from entrobench.runs.identity import read_finished


@dataclass(frozen=True)
class Removable:
    """Something that can go. bytes: that are freed."""

    path: Path
    what: str
    bytes: int
    remove: Callable[[], None]


def removable(folder: Path, cell: dict[str, Any], is_needed: bool = False) -> list[Removable]:
    """What can go of a resolved cell's folder; nothing of a cell that is not trained to its last step.

    is_needed: another cell starts from its model, and is not trained yet.
    """
    found = read_finished(folder)
    last = cell["verl"].get(STEPS_KEY) if cell["trains"] else None
    if found is None or found["done"]["steps"] != last:
        return []
    return list(_removable(folder, cell, int(last), is_needed))


def _removable(folder: Path, cell: dict[str, Any], last: int, is_needed: bool) -> Iterator[Removable]:
    is_evaluated = (folder / "eval.done.json").exists() and (folder / "scores.csv").exists()
    wanted = set(cell.get("evaluated_milestones", []))
    for step, checkpoint in checkpoint_folders(folder / "checkpoints").items():
        is_read = step in wanted and not (folder / f"eval/step{step}/eval.done.json").exists()
        # Which one is the best is known once all are evaluated, and read until the other cell has begun
        is_candidate = is_needed and step in wanted
        if step != last and is_evaluated and not is_read and not is_candidate:
            yield _tree(checkpoint, f"checkpoint of step {step}, which is evaluated or not wanted")
            continue
        for path in sorted([*checkpoint.glob("actor/*.pt"), *checkpoint.glob("*.pt")]):
            yield _file(path, "states of a training process, which only a longer run reads")
        saved = checkpoint / SAVED_MODEL
        is_whole = rank_of(cell["verl"]) > 0 and saved.exists() and not is_reduced(saved)
        if step == last and is_whole and is_evaluated and not is_needed:
            size = _size(saved) + _size(saved.parent / "merged")
            what = "the base model beside its adapter, and both merged"
            yield Removable(saved, what, size, partial(keep_adapter, saved))


def _tree(path: Path, what: str) -> Removable:
    return Removable(path, what, _size(path), partial(shutil.rmtree, path))


def _file(path: Path, what: str) -> Removable:
    return Removable(path, what, path.stat().st_size, path.unlink)


def _size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file() and not path.is_symlink())
