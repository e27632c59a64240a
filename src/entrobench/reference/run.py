"""Runs what is missing of the reference run: trains in sessions, evaluates, scores, adds to the bundle."""

import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from entrobench.cells import (
    CellId,
    evaluated_milestones,
    model_of,
    previous_cell,
    resolve,
    write_cell,
)
from entrobench.configs import Configs
from entrobench.data.smoke import write_smoke_task
from entrobench.data.smoke_shell import write_shell_task
from entrobench.errors import EntrobenchError, TrainingFailed
from entrobench.evaluation.best import choose_best
from entrobench.evaluation.intervention import Settings
from entrobench.evaluation.milestones import score_checkpoints
from entrobench.evaluation.places import Place, evaluated_steps
from entrobench.evaluation.run import run_apart, run_evaluation, run_intervention
from entrobench.evaluation.scores import score_cell
from entrobench.files import replaced_folder
from entrobench.models import tiny, tiny_agent
from entrobench.models.pretraining import AGENT, Pretraining
from entrobench.models.tiny import Bounds, pretrain
from entrobench.paths import repository_root
from entrobench.reference.bundle import Bundle, missing
from entrobench.reference.plan import Group, Reference, cells_of, shows_interventions, signature
from entrobench.training.launch import launch_sessions

# Trained in one session, evaluated and added to the bundle before the next
AT_ONCE = 4
# The base models that cells start from at this scale
PRETRAIN: dict[str, Callable[[Path], object]] = {
    tiny.NAME: lambda folder: pretrain(folder, Pretraining(), Bounds()),
    tiny_agent.NAME: lambda folder: pretrain(folder, AGENT, Bounds(), tiny_agent.agent()),
}
# Seconds of a cell where the bundle has none of its method yet
UNKNOWN_SECONDS = 240.0


def expected_seconds(cells: Sequence[CellId], bundle: Bundle) -> float:
    """What training and evaluating these cells took where the bundle has their methods, else what any did."""
    runs = bundle.runs()
    if runs.empty:
        return UNKNOWN_SECONDS * len(cells)
    means = runs.groupby("method")["seconds"].mean()
    of_method = {str(name): float(seconds) for name, seconds in means.items()}
    usual = float(runs["seconds"].mean())
    return sum(of_method.get(cell.method, usual) for cell in cells)


def run_reference(
    reference: Reference,
    groups: Sequence[Group],
    configs: Configs,
    bundle: Bundle,
    work: Path,
    hours: float | None = None,
) -> list[CellId]:
    """Run the cells of `groups` that the bundle lacks, until all are there or the time is over; those that
    are left. work: results folder in which cells are trained; what is finished there is kept. Cells at which
    another run works, with a folder of its own, are left to it, and with them what goes on from them.

    Raises TrainingFailed, with all cells that failed, when the others are done; KeyboardInterrupt.
    """
    started = time.monotonic()
    wanted = [cell for group in groups for cell in cells_of(group, reference, configs)]
    planned = left = without_same(wanted, reference, configs, bundle)
    prepare(planned, reference, configs, bundle, work)
    print(
        f"reference: {len(planned)} cells to run, about {expected_seconds(planned, bundle) / 3600:.1f} h",
        flush=True,
    )
    tried: set[CellId] = set()
    failures: list[str] = []
    for part in in_parts(planned, reference, configs, work):
        if hours is not None and time.monotonic() - started > 3600 * hours:
            break
        with bundle.claim(part) as claimed:
            added = set(planned) - set(missing(planned, bundle))  # by another run too
            todo = [
                cell for cell in claimed if cell not in added and _has_start(cell, reference, configs, work)
            ]
            if todo:
                failures += _run_part(todo, reference, configs, bundle, work)
        tried.update(todo)
        left = [cell for cell in missing(planned, bundle) if cell not in tried]
        minutes = (time.monotonic() - started) / 60
        print(
            f"reference: {len(bundle.runs())} cells in the bundle, {len(left)} to run; {minutes:.0f} min so "
            f"far, about {expected_seconds(left, bundle) / 3600:.1f} h left",
            flush=True,
        )
    without_same(wanted, reference, configs, bundle)
    if failures:
        raise TrainingFailed("cells that failed:\n  " + "\n  ".join(failures))
    return left


def without_same(
    cells: Sequence[CellId], reference: Reference, configs: Configs, bundle: Bundle
) -> list[CellId]:
    """The cells that the bundle lacks, without those that are the same run as one of it, which it notes, or
    as one before them, which will be noted when that one is there.
    """
    runs = bundle.runs()
    done = {
        signature(CellId.parse(name, configs), reference, configs): name
        for name in runs.loc[runs["same_as"] == "", "cell"]
    }
    left: dict[str, CellId] = {}
    for cell in missing(cells, bundle):
        of = signature(cell, reference, configs)
        if of in done:
            bundle.add_same(cell, done[of])
        else:
            left.setdefault(of, cell)
    return list(left.values())


def in_parts(
    cells: Sequence[CellId], reference: Reference, configs: Configs, work: Path
) -> Iterator[list[CellId]]:
    """AT_ONCE cells at a time. A cell that goes on from another one is in a later part than that one, which
    is run again where its model is not in `work` any more.
    """
    waiting: list[CellId] = []
    for cell in cells:
        earlier = previous_cell(cell, configs)
        if earlier is not None and earlier not in waiting and not _has_start(cell, reference, configs, work):
            waiting.append(earlier)
        waiting.append(cell)
    while waiting:
        part: list[CellId] = []
        for cell in waiting[:AT_ONCE]:
            if previous_cell(cell, configs) in part:
                break
            part.append(cell)
        waiting = waiting[len(part) :]
        yield part


def _has_start(cell: CellId, reference: Reference, configs: Configs, work: Path) -> bool:
    """Whether the model that it goes on from, or its base model, is in `work`."""
    return Path(resolve(str(cell), reference.scale, configs, work)["model"]["path"]).exists()


def prepare(
    cells: Sequence[CellId], reference: Reference, configs: Configs, bundle: Bundle, work: Path
) -> None:
    """Make the tasks, and the base models of `cells`: those of the bundle, so that all cells start from the
    same weights whatever machine trains them; the first time one is pretrained, and becomes the bundle's.
    """
    root = work / reference.scale
    write_smoke_task(root, seed=0)
    write_shell_task(root)
    for name in sorted({model_of(cell, configs.scale(reference.scale), configs) for cell in cells}):
        model, kept = root / "models" / name, bundle.folder / "models" / name
        if not kept.exists():
            PRETRAIN[name](kept)
        if not model.exists():
            with replaced_folder(model) as staged:
                shutil.copytree(kept, staged)


def _run_part(
    cells: Sequence[CellId], reference: Reference, configs: Configs, bundle: Bundle, work: Path
) -> list[str]:
    """Train, evaluate, score and add; a line for each cell that failed."""
    to_train: list[Path] = []
    to_evaluate: list[Path] = []
    cell_of: dict[Path, CellId] = {}
    for cell in cells:
        folder = work / reference.scale / str(cell)
        resolved = resolve(str(cell), reference.scale, configs, work)
        write_cell(resolved, folder / "cell.yaml", repository_root())
        (to_train if resolved["trains"] else to_evaluate).append(folder)
        cell_of[folder] = cell
    failures: list[str] = []
    try:
        launch_sessions(to_train, work / reference.scale / "sessions")
    except TrainingFailed as error:
        failures.append(str(error))
    to_evaluate += [folder for folder in to_train if (folder / "train.done.json").exists()]
    evaluated = []
    for folder in to_evaluate:
        try:
            _evaluate(folder, cell_of[folder], reference, configs)
            evaluated.append(folder)
        except EntrobenchError as error:
            failures.append(str(error))
    bundle.add(evaluated, configs)
    for folder in evaluated:
        if not evaluated_steps(folder):  # another may go on from one of them
            shutil.rmtree(folder / "checkpoints", ignore_errors=True)
    return failures


def _evaluate(folder: Path, cell: CellId, reference: Reference, configs: Configs) -> None:
    """Sample, grade and score the cell and its milestones, choose the best, replace tokens if a figure shows
    it. Raises EvaluationFailed, MissingInput or CorruptFile.
    """
    for step in evaluated_milestones(cell, configs.scale(reference.scale), configs):
        run_apart(run_evaluation, Place(folder, step))
    run_apart(run_evaluation, Place(folder))
    score_cell(folder)
    score_checkpoints(folder)
    if configs.method(cell.method).trains:
        choose_best(folder)
    if shows_interventions(cell, reference.scale, configs):
        run_apart(run_intervention, Place(folder), None, Settings())
