"""Evaluation as processes: one that samples on each group of GPUs, then grading; lives and manifest."""

import multiprocessing
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

from entrobench.cells import read_cell
from entrobench.configs import require_known
from entrobench.errors import ConfigError, EntrobenchError, MissingInput, Unfinished
from entrobench.evaluation.cell import Prepared, Shard, grade_cell, prepare, sample_cell
from entrobench.evaluation.engine import SamplerFailed, import_engine
from entrobench.evaluation.intervention import Settings, run_interventions
from entrobench.evaluation.places import Place
from entrobench.evaluation.standalone import NO_CELL
from entrobench.files import write_json
from entrobench.machine.backend import CPU_ENVIRONMENT, gpus
from entrobench.models.lora import model_of_checkpoint
from entrobench.paths import repository_root
from entrobench.provenance.manifest import evaluation_life, packages, write_manifest
from entrobench.runs.checkpoints import checkpoint_folders, latest_step, steps_with_model

STOP_SIGNALS = (signal.SIGTERM, signal.SIGUSR1)


class EvaluationFailed(EntrobenchError, RuntimeError):
    """A process that evaluates has failed."""


def run_evaluation(place: Place, model: Path | None = None, chat_template: Path | None = None) -> None:
    """Sample and grade the cell of `place`, by default its own model or checkpoint; leaves what run_sampling
    and run_grading leave.

    Raises as prepared_cell, sample_cell and grade_cell.
    """
    with evaluation_life(place.done.parent):
        cell, prepared = prepared_cell(place, model, chat_template)
        _sample(prepared, Shard(), model, chat_template)
        grade_cell(prepared, cell)
    if cell["cell"] != NO_CELL:
        _write_manifest(place)


def run_apart(run: Callable[..., object], place: Place, *arguments: object) -> None:
    """Call run(place, *arguments) in a fork of this process, which has imported what it needs: an engine
    keeps what it has taken until its process ends.

    Raises EvaluationFailed where it fails; what it said stands above.
    """
    import_engine(read_cell(place.folder / "cell.yaml")["device"])
    packages()  # half a second of every fork otherwise
    child = multiprocessing.get_context("fork").Process(target=run, args=(place, *arguments))
    child.start()
    child.join()
    if child.exitcode != 0:
        raise EvaluationFailed(f"{place.done.parent}: its evaluation ended with status {child.exitcode}")


def run_evaluations(places: Sequence[Place], chat_template: Path | None = None) -> None:
    """run_evaluation of each, apart. Raises EvaluationFailed, with all that failed, after the others."""
    failures = []
    for place in places:
        try:
            run_apart(run_evaluation, place, None, chat_template)
        except EvaluationFailed as error:
            failures.append(str(error))
    if failures:
        raise EvaluationFailed("\n  ".join(failures))


def run_sampling(
    place: Place, shard: Shard, model: Path | None = None, chat_template: Path | None = None
) -> None:
    """Sample the chunks of `shard`; leaves sampled.<i>of<n>.json. Raises as prepared_cell and sample_cell."""
    with evaluation_life(place.done.parent):
        _, prepared = prepared_cell(place, model, chat_template)
        _sample(prepared, shard, model, chat_template)


def run_intervention(place: Place, benchmark: str | None, settings: Settings) -> str:
    """Replace tokens of a cell's answers (evaluation/intervention.py), of one benchmark: by default of the
    cell's own with the most problems. Return what was found, in words.

    Raises as prepared_cell and run_interventions, UnknownName for a benchmark that cannot be run.
    """
    cell, prepared = prepared_cell(place, None, None)
    there = prepared.plan.benchmarks
    own = [name for name in there if name in cell["in_domain"]] or list(there)
    name = benchmark or max(own, key=lambda each: len(there[each].problems))
    require_known("benchmark", name, list(there), "the cell's evaluation")
    with noted_signals() as requests:
        table = run_interventions(prepared, there[name], settings, lambda: bool(requests))
    means = table.groupby("group")["impact"].agg(["mean", "count"])
    return "\n".join(
        f"{name}, {group}: {row['count']:.0f} tokens replaced, accuracy {-100 * row['mean']:+.2f} points"
        for group, row in means.iterrows()
    )


def run_grading(place: Place) -> None:
    """Grade what was sampled; leaves eval.done.json and, of the cell's own model, manifest.json.

    Raises as prepared_cell and grade_cell.
    """
    cell, prepared = prepared_cell(place, None, None)
    grade_cell(prepared, cell)
    _write_manifest(place)


def _write_manifest(place: Place) -> None:
    """Of the cell's own model; checkpoints are graded side by side and would overwrite each other's."""
    if place.step is None:
        write_manifest(place.folder, "evaluate", repository_root())


def sampled_file(place: Place, shard: Shard) -> Path:
    """What says that a shard's chunks are all there."""
    return place.benchmarks / f"sampled.{shard.number}of{shard.of}.json"


def prepared_cell(
    place: Place, model: Path | None, chat_template: Path | None
) -> tuple[dict[str, Any], Prepared]:
    """The cell of `place` and its evaluation, checked; by default of its own model or checkpoint.

    Raises as prepare, and as checkpoint_model.
    """
    cell = read_cell(place.folder / "cell.yaml")
    if cell["device"] == "cpu":
        os.environ |= CPU_ENVIRONMENT  # before torch starts its threads
    return cell, prepare(cell, model or own_model(cell, place), place, chat_template)


def own_model(cell: dict[str, Any], place: Place) -> Path:
    """The model that an evaluation of the cell asks: the trained one, a checkpoint's, the base model."""
    if place.step is not None:
        return checkpoint_model(cell, place.folder, place.step)
    if not cell["trains"]:
        return Path(cell["model"]["path"])
    model = place.folder / "model"
    checkpoints = checkpoint_folders(place.folder / "checkpoints")
    if model.is_symlink() and not model.exists() and checkpoints:
        # Of a LoRA run that was evaluated, its adapter alone is left (cost/retention.py)
        model_of_checkpoint(checkpoints[max(checkpoints)], cell["verl"], base=Path(cell["model"]["path"]))
    return model


def checkpoint_model(cell: dict[str, Any], folder: Path, step: int) -> Path:
    """The model of the cell's checkpoint of `step`, in Hugging Face's format.

    Raises ConfigError for the untrained base model, and MissingInput for a checkpoint that is not there, with
    those that are and how to have it.
    """
    if not cell["trains"]:
        raise ConfigError(f"{cell['cell']} is the untrained base model: it has no checkpoints")
    checkpoints = folder / "checkpoints"
    there = steps_with_model(checkpoints)
    if step in there:
        return model_of_checkpoint(checkpoint_folders(checkpoints)[step], cell["verl"])
    total = cell["verl"]["trainer.total_training_steps"]
    reached = latest_step(checkpoints) or 0
    advice = (
        f"Training has reached step {reached} of {total}. Type: entrobench train {cell['cell']} "
        f"--scale {cell['scale']}"
        if reached < step <= total
        else f"Training makes {total} steps and keeps a model of the last and of those that its experiment "
        f"names: add the step to `milestones` in configs/papers/{cell['paper']}/protocol.yaml before the "
        f"cell is trained."
    )
    raise MissingInput(
        f"{checkpoints}: no checkpoint of step {step}, there are {', '.join(map(str, there)) or 'none'}.\n"
        f"  {advice}"
    )


def _sample(prepared: Prepared, shard: Shard, model: Path | None, chat_template: Path | None) -> None:
    """Sample a shard here, or in a process for each group of GPUs where there are several; leaves its
    sampled_file.
    """
    groups = gpu_groups(prepared.engine.gpus, visible_gpus())
    place, made = prepared.place, 0
    if len(groups) < 2:
        with noted_signals() as requests:
            made = sample_cell(prepared, shard, is_asked_to_stop=lambda: bool(requests))
    else:
        command = [sys.executable, "-m", "entrobench.evaluation.worker", str(place.folder)]
        options = [str(model or ""), str(chat_template or ""), str(place.step or "")]
        commands = [
            [*command, f"{(shard.number - 1) * len(groups) + number}/{shard.of * len(groups)}", *options]
            for number in range(1, len(groups) + 1)
        ]
        run_beside(commands, [{"CUDA_VISIBLE_DEVICES": ",".join(group)} for group in groups])
    write_json(sampled_file(place, shard), {"chunks": made, "not_run": prepared.plan.not_run})


def visible_gpus() -> list[str]:
    """Ids of the GPUs that this process may use."""
    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    if named is not None:
        return [gpu for gpu in named.split(",") if gpu.strip()]
    return [str(number) for number in range(len(gpus()))]


def gpu_groups(size: int, visible: Sequence[str]) -> list[list[str]]:
    """The GPUs in groups of `size`, one group a model; what is left over is not used. None on a CPU."""
    if size == 0:
        return []
    return [list(visible[start : start + size]) for start in range(0, len(visible) - size + 1, size)]


def run_beside(commands: Sequence[Sequence[str]], environments: Sequence[dict[str, str]]) -> None:
    """Run commands side by side and wait for all; SIGTERM and SIGUSR1 are passed on to them.

    Raises Unfinished where one was stopped with work left, SamplerFailed where one has failed: the others
    have finished their share then.
    """
    with noted_signals() as requests:
        processes = [
            subprocess.Popen(command, env=os.environ | environment)
            for command, environment in zip(commands, environments, strict=True)
        ]
        passed_on = 0
        for process in processes:
            while process.poll() is None:
                for signum in requests[passed_on:]:
                    for running in processes:
                        running.send_signal(signum)
                passed_on = len(requests)
                try:
                    process.wait(1)
                except subprocess.TimeoutExpired:
                    continue
    statuses = [process.returncode for process in processes]
    failed = [status for status in statuses if status not in (0, Unfinished.exit_status)]
    if failed:
        raise SamplerFailed(
            f"{len(failed)} of {len(statuses)} sampling processes failed, with status {failed[0]}; what they "
            f"said stands above.\n  What the others and it have finished is kept; the same command goes on."
        )
    if any(statuses):
        raise Unfinished("asked to stop with chunks left. The same command goes on from there.")


@contextmanager
def noted_signals() -> Iterator[list[int]]:
    """SIGTERM and SIGUSR1, which a scheduler sends ahead of a time limit, are noted in the list."""
    requests: list[int] = []

    def note(signum: int, frame: FrameType | None) -> None:
        requests.append(signum)

    previous = {number: signal.signal(number, note) for number in STOP_SIGNALS}
    try:
        yield requests
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
