"""Checkpoints of one run on disk: which is whole, which to resume from, which to keep. No import of verl.

verl writes checkpoints/global_step_N and, last, the number N into a tracker file. A checkpoint counts as made
once the tracker has named it; a folder with a higher number is a save that was cut short, and is overwritten
when the run comes to that step again.
"""

import re
import shutil
import time
import zipfile
from collections.abc import Collection
from itertools import islice
from pathlib import Path
from typing import Any

from entrobench.errors import ConfigError, CorruptFile, EntrobenchError, MissingInput
from entrobench.files import read_json, write_atomic, write_json

CONTROLLER_FILE = "controller.json"
TRACKER_FILE = "latest_checkpointed_iteration.txt"
# The model in Hugging Face's format, below a checkpoint's folder
SAVED_MODEL = "actor/huggingface"
# Written by verl after all else of a checkpoint, just before the tracker
LAST_FILE = "data.pt"


def checkpoint_folders(checkpoints: Path) -> dict[int, Path]:
    """Step -> its global_step_* folder, whole or not, in ascending order; no links, no other names."""
    found = {}
    for path in checkpoints.glob("global_step_*"):
        name = re.fullmatch(r"global_step_(\d+)", path.name)
        if name and path.is_dir() and not path.is_symlink():
            found[int(name[1])] = path
    return dict(sorted(found.items()))


def latest_step(checkpoints: Path) -> int | None:
    """The step that the tracker names; None where there is no tracker or it holds no number."""
    try:
        text = (checkpoints / TRACKER_FILE).read_text(encoding="utf-8").strip()
    except (FileNotFoundError, UnicodeDecodeError):
        return None
    return int(text) if text.isdecimal() else None


def steps_with_model(checkpoints: Path) -> list[int]:
    """Steps whose checkpoint was made and holds the model in Hugging Face's format, in ascending order."""
    newest = latest_step(checkpoints) or 0
    return [
        step
        for step, folder in checkpoint_folders(checkpoints).items()
        if step <= newest and any((folder / SAVED_MODEL).glob("*.safetensors"))
    ]


def check_checkpoint(folder: Path, world_size: int, needs_controller: bool) -> None:
    """Raise CorruptFile unless `folder` holds every file that a resume reads, each readable as an archive.

    world_size: training processes. The check reads the end of each archive only, so it finds what was cut
    short, not a flipped bit in the middle.
    """
    names = [
        f"actor/{kind}_world_size_{world_size}_rank_{rank}.pt"
        for kind in ("model", "optim", "extra_state")
        for rank in range(world_size)
    ]
    for name in [*names, LAST_FILE]:
        path = folder / name
        if not path.exists():
            raise CorruptFile(f"{folder}: {name} is missing{_other_world_size(folder, world_size)}")
        if not zipfile.is_zipfile(path):
            raise CorruptFile(f"{folder}: {name} ({path.stat().st_size} bytes) is damaged or cut short")
    if needs_controller:
        load_controller(folder)


def _other_world_size(folder: Path, world_size: int) -> str:
    others = _world_sizes(folder) - {world_size}
    return (
        f": it was written by {min(others)} training processes, this run has {world_size}" if others else ""
    )


def _world_sizes(folder: Path) -> set[int]:
    written = (re.search(r"_world_size_(\d+)_", path.name) for path in (folder / "actor").glob("model_*.pt"))
    return {int(match[1]) for match in written if match}


def world_size_of(cell: dict[str, Any]) -> int:
    """Training processes of a resolved cell."""
    return int(cell["verl"]["trainer.nnodes"] * cell["verl"]["trainer.n_gpus_per_node"])


def require_world_size(checkpoints: Path, world_size: int) -> None:
    """Raise ConfigError where every checkpoint was written by another number of training processes: each has
    a shard of its own, which no other number can read.
    """
    written = {size for folder in checkpoint_folders(checkpoints).values() for size in _world_sizes(folder)}
    if written and world_size not in written:
        number = max(written)
        raise ConfigError(
            f"the checkpoints in {checkpoints} were written by {number} training processes, and this run has "
            f"{world_size}, which cannot read them.\n"
            f"  Go on with {number} (trainer.nnodes x trainer.n_gpus_per_node), or start again from step 0 "
            f"with: mv {checkpoints} {checkpoints}.of{number}"
        )


def resume_point(checkpoints: Path, world_size: int, needs_controller: bool) -> tuple[Path | None, list[str]]:
    """The checkpoint to resume from, None for none yet, and what the user should know about the choice.

    It is the one that the tracker names or, where that is not whole, the newest whole one before it; the
    tracker is mended and broken checkpoints after it are renamed to damaged_*, never deleted. Raises
    CorruptFile, with everything left as it was, when checkpoints were made and none is whole.
    """
    folders = checkpoint_folders(checkpoints)
    tracker = checkpoints / TRACKER_FILE
    named = latest_step(checkpoints)
    notes = []
    if tracker.exists() and named is None:
        notes.append(f"{tracker} is empty or holds no number")
    elif tracker.exists() and named not in folders:
        notes.append(f"{tracker} names step {named}, whose folder is not there")
    elif folders and named is None:
        notes.append(f"{tracker} is missing")
    committed = named if named in folders else max(folders, default=0)
    broken: dict[int, str] = {}
    # Newest first; saves that the tracker never named come last
    for step in sorted(folders, key=lambda step: (step > committed, -step)):
        try:
            check_checkpoint(folders[step], world_size, needs_controller)
        except CorruptFile as error:
            broken[step] = str(error)
            continue
        return folders[step], notes + _fall_back(folders, step, committed, broken)
    if not tracker.exists() and not any(zipfile.is_zipfile(f / LAST_FILE) for f in folders.values()):
        # No folder at all, or a first save that was cut short
        return None, [f"{folder} is incomplete; starting from step 0" for folder in folders.values()]
    problems = "\n".join(f"  {problem}" for problem in [*notes, *broken.values()])
    raise CorruptFile(
        f"no usable checkpoint is left in {checkpoints}:\n{problems}\n"
        f"  Nothing was changed. Put a whole global_step_* folder there, or start again from step 0 with: "
        f"mv {checkpoints} {checkpoints}.damaged"
    )


def _fall_back(folders: dict[int, Path], step: int, committed: int, broken: dict[int, str]) -> list[str]:
    """Put broken checkpoints out of the way of `step` and name it in the tracker; return notes."""
    checkpoints = folders[step].parent
    notes = []
    for number, problem in broken.items():
        if number > committed:
            continue  # an interrupted save, soon overwritten
        aside = checkpoints / f"damaged_{folders[number].name}_{int(time.time())}"
        folders[number].rename(aside)
        notes.append(f"{problem}; moved to {aside.name}")
    if latest_step(checkpoints) != step:
        write_atomic(checkpoints / TRACKER_FILE, str(step))
        notes.append(f"resuming from {folders[step].name}, the newest checkpoint that is whole")
    return notes


def prune(
    checkpoints: Path,
    keep: int | None,
    milestones: Collection[int],
    world_size: int,
    needs_controller: bool,
) -> list[Path]:
    """Delete old checkpoints and return their folders. Kept are the newest `keep` whole ones (None or 0:
    all), the milestones, and all from the newest whole one on.

    verl's own retention forgets what an earlier life of the run has saved, and leaves each deleted
    checkpoint's data.pt behind.
    """
    newest = latest_step(checkpoints)
    if not keep or newest is None:
        return []
    folders = checkpoint_folders(checkpoints)
    saved = (step for step in sorted(folders, reverse=True) if step <= newest)
    whole = (step for step in saved if _is_whole(folders[step], world_size, needs_controller))
    newest_whole = list(islice(whole, keep))
    if not newest_whole:
        return []
    kept = {*newest_whole, *milestones}
    deleted = [folder for step, folder in folders.items() if step < newest_whole[0] and step not in kept]
    for folder in deleted:
        shutil.rmtree(folder, ignore_errors=True)  # what is left of it goes with the next checkpoint
    return deleted


def _is_whole(folder: Path, world_size: int, needs_controller: bool) -> bool:
    try:
        check_checkpoint(folder, world_size, needs_controller)
    except EntrobenchError:
        return False
    return True


def save_controller(folder: Path, state: dict[str, Any]) -> None:
    """Write the shaper's state into a checkpoint folder."""
    write_json(folder / CONTROLLER_FILE, state)


def load_controller(folder: Path) -> dict[str, Any]:
    """Read the shaper's state. Raises CorruptFile when it is absent or no JSON object."""
    try:
        state = read_json(folder / CONTROLLER_FILE)
    except MissingInput as error:
        raise CorruptFile(f"{folder}: {CONTROLLER_FILE} is missing: was it made with this method?") from error
    if not isinstance(state, dict):
        raise CorruptFile(f"{folder / CONTROLLER_FILE}: expected a JSON object, found {type(state).__name__}")
    return state
