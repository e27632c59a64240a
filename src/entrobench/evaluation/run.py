"""Evaluation as processes: one that samples on each group of GPUs, then grading; lives and manifest."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

from entrobench.cells import read_cell
from entrobench.errors import Unfinished
from entrobench.evaluation.cell import Prepared, Shard, grade_cell, prepare, sample_cell
from entrobench.evaluation.engine import SamplerFailed
from entrobench.evaluation.standalone import NO_CELL
from entrobench.files import write_json
from entrobench.machine.backend import CPU_ENVIRONMENT
from entrobench.paths import repository_root
from entrobench.provenance.manifest import evaluation_life, gpus, write_manifest

STOP_SIGNALS = (signal.SIGTERM, signal.SIGUSR1)


def run_evaluation(folder: Path, model: Path | None = None, chat_template: Path | None = None) -> None:
    """Sample and grade the cell in `folder`, by default its own model; leaves eval.done.json and
    manifest.json.

    Raises as prepare, sample_cell and grade_cell.
    """
    with evaluation_life(folder):
        cell, prepared = prepared_cell(folder, model, chat_template)
        _sample(prepared, Shard(), folder, model, chat_template)
        grade_cell(prepared, cell)
    if cell["cell"] != NO_CELL:
        write_manifest(folder, "evaluate", repository_root())


def run_sampling(
    folder: Path, shard: Shard, model: Path | None = None, chat_template: Path | None = None
) -> None:
    """Sample the chunks of `shard`; leaves eval/sampled.<i>of<n>.json. Raises as prepare and sample_cell."""
    with evaluation_life(folder):
        _, prepared = prepared_cell(folder, model, chat_template)
        made = _sample(prepared, shard, folder, model, chat_template)
    write_json(sampled_file(folder, shard), {"chunks": made, "not_run": prepared.plan.not_run})


def run_grading(folder: Path) -> None:
    """Grade what was sampled; leaves eval.done.json and manifest.json. Raises as prepare and grade_cell."""
    cell, prepared = prepared_cell(folder, None, None)
    grade_cell(prepared, cell)
    write_manifest(folder, "evaluate", repository_root())


def sampled_file(folder: Path, shard: Shard) -> Path:
    """What says that a shard's chunks are all there."""
    return folder / "eval" / f"sampled.{shard.number}of{shard.of}.json"


def prepared_cell(
    folder: Path, model: Path | None, chat_template: Path | None
) -> tuple[dict[str, Any], Prepared]:
    """The cell in `folder` and its evaluation, checked; by default of its own model. Raises as prepare."""
    cell = read_cell(folder / "cell.yaml")
    if cell["device"] == "cpu":
        os.environ |= CPU_ENVIRONMENT  # before torch starts its threads
    own_model = folder / "model" if cell["trains"] else Path(cell["model"]["path"])
    return cell, prepare(cell, model or own_model, folder, chat_template)


def _sample(
    prepared: Prepared, shard: Shard, folder: Path, model: Path | None, chat_template: Path | None
) -> int:
    """Sample a shard here, or in a process for each group of GPUs where there are several."""
    groups = gpu_groups(prepared.engine.gpus, visible_gpus())
    if len(groups) < 2:
        with noted_signals() as requests:
            return sample_cell(prepared, shard, is_asked_to_stop=lambda: bool(requests))
    command = [sys.executable, "-m", "entrobench.evaluation.worker", str(folder)]
    options = [str(model or ""), str(chat_template or "")]
    commands = [
        [*command, f"{(shard.number - 1) * len(groups) + number}/{shard.of * len(groups)}", *options]
        for number in range(1, len(groups) + 1)
    ]
    run_beside(commands, [{"CUDA_VISIBLE_DEVICES": ",".join(group)} for group in groups])
    return 0


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
