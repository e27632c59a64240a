"""Why a cell would be trained, sampled, graded or scored again, from its configuration and its files.

Nothing is run or changed. What Snakemake makes of it is told by its own dry run (`snakemake -n`).
"""

import contextlib
import io
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from entrobench.cells import STEPS_KEY, CellId, resolve
from entrobench.configs import Configs, differences
from entrobench.errors import ConfigError, EntrobenchError
from entrobench.evaluation.cell import prepare, reasons
from entrobench.evaluation.places import Place
from entrobench.evaluation.run import own_model
from entrobench.provenance.code import stale
from entrobench.provenance.manifest import engine_versions
from entrobench.runs.checkpoints import checkpoint_folders, latest_step, require_world_size, world_size_of
from entrobench.runs.finished import is_trained
from entrobench.runs.identity import UNRECORDED, identity_of, performance_of, read_identity
from entrobench.runs.run_files import Lives


@dataclass(frozen=True)
class Answer:
    """What one step of a cell would do, and why."""

    step: str
    text: str
    details: list[str] = field(default_factory=list)


def why(cell: CellId, scale: str, configs: Configs, results: Path) -> list[Answer]:
    """An answer for training, for each evaluation and for the scores of a cell, as configured now."""
    resolved = resolve(str(cell), scale, configs, results)
    folder = results / scale / str(cell)
    answers = [_training(resolved, folder)] if resolved["trains"] else []
    for step in (*resolved.get("evaluated_milestones", []), None):
        answers.append(_evaluation(resolved, Place(folder, step)))
    answers.append(_scores(folder))
    changed = stale(folder)
    for each in answers:
        each.details.extend(f"STALE: {text}" for text in changed.get(each.step, []))
    return answers


def as_text(answers: list[Answer]) -> str:
    """One line an answer, its details below it."""
    lines = []
    for answer in answers:
        lines += [f"{answer.step}: {answer.text}", *(f"  {detail}" for detail in answer.details)]
    return "\n".join(lines)


def _training(cell: dict[str, Any], folder: Path) -> Answer:
    steps, checkpoints = cell["verl"][STEPS_KEY], folder / "checkpoints"
    if is_trained(folder, cell):
        gone = "" if checkpoint_folders(checkpoints) else "; its checkpoints are gone"
        return Answer("training", f"is done: step {steps}{gone}", list(_since_the_last_life(cell, folder)))
    if not checkpoint_folders(checkpoints):
        return Answer("training", "starts from step 0: no checkpoint is here")
    try:
        now = identity_of(cell)
    except (EntrobenchError, OSError) as error:
        return Answer("training", f"cannot be told: its model or data are not here ({error})")
    earlier = read_identity(folder)
    changed = [UNRECORDED] if earlier is None else differences(earlier, now)
    if changed:
        return Answer("training", "starts from step 0, and sets the run that is here aside:", changed)
    try:
        require_world_size(checkpoints, world_size_of(cell))
    except ConfigError as error:
        return Answer("training", f"is refused: {error}")
    text = f"goes on after step {latest_step(checkpoints)} of {steps}"
    return Answer("training", text, list(_since_the_last_life(cell, folder)))


def _since_the_last_life(cell: dict[str, Any], folder: Path) -> Iterator[str]:
    """What differs from the life of the run that was the last, and makes it no other run."""
    lives = Lives(folder).read()
    if not lives:
        return
    for line in differences(lives[-1]["settings"], performance_of(cell)):
        yield f"performance: {line}"
    for line in differences(lives[-1]["versions"], engine_versions()):
        yield f"engine: {line}"


def _evaluation(cell: dict[str, Any], place: Place) -> Answer:
    name = "evaluation" if place.step is None else f"evaluation of step {place.step}"
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            found = reasons(prepare(cell, own_model(cell, place), place))
    except ModuleNotFoundError as error:
        known = f"cannot be told in a controller's environment ({error})"
        return Answer(name, f"{known}. Type: make .venv/.installed")
    except (EntrobenchError, OSError) as error:
        return Answer(name, f"waits: {error}")
    kept = [benchmark for benchmark, reason in found.items() if reason == "is kept"]
    if len(kept) == len(found) and place.done.exists():
        return Answer(name, f"is done: {', '.join(kept)}")
    return Answer(name, "would run:", [f"{benchmark} {reason}" for benchmark, reason in found.items()])


def _scores(folder: Path) -> Answer:
    scores, evaluated = folder / "scores.csv", folder / "eval.done.json"
    if not scores.exists():
        return Answer("scores", "are not here")
    is_older = evaluated.exists() and scores.stat().st_mtime < evaluated.stat().st_mtime
    return Answer("scores", "are older than the verdicts, and made again" if is_older else "are done")
