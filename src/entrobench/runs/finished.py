"""What is known of a finished run apart from its checkpoints and from what Snakemake may delete.

A finished cell whose checkpoints are gone is finished: it is not trained again, and what Snakemake has
deleted before a job (train.done.json, metrics.parquet) is made again in a second, without a GPU.
"""

from pathlib import Path
from typing import Any

from entrobench.cells import STEPS_KEY
from entrobench.configs import differences
from entrobench.errors import MissingInput
from entrobench.files import write_json
from entrobench.runs.identity import FINISHED_FILE, Identity, identity_of, read_finished
from entrobench.runs.run_files import Curve

DONE_FILE = "train.done.json"


def finish(run_dir: Path, identity: Identity, done: dict[str, Any]) -> None:
    """Say that the run has ended with its last step. done: the content of train.done.json."""
    write_json(run_dir / FINISHED_FILE, {"identity": identity, "done": done})
    write_json(run_dir / DONE_FILE, done)


def is_trained(run_dir: Path, cell: dict[str, Any]) -> bool:
    """Whether a run with the settings of the resolved cell has ended here. Reads data and model's marker."""
    found = read_finished(run_dir)
    if found is None or found["done"]["steps"] != cell["verl"][STEPS_KEY]:
        return False
    try:
        return not differences(found["identity"], identity_of(cell))
    except OSError:  # its data or its first model is gone: there is nothing to compare with
        return False


def restore(run_dir: Path, cell: dict[str, Any]) -> bool:
    """Make train.done.json and metrics.parquet of a finished run again; False where there is none."""
    found = read_finished(run_dir)
    if found is None or not is_trained(run_dir, cell):
        return False
    Curve(run_dir).to_parquet()
    write_json(run_dir / DONE_FILE, found["done"])
    print(f"entrobench: {cell['cell']} is trained, with these settings; nothing to do", flush=True)
    return True


def require_unfinished(run_dir: Path, cell: dict[str, Any]) -> None:
    """Raise MissingInput where the run, which has no checkpoint to go on from, has ended with another number
    of steps than is wanted: it would start from step 0 and lose its curve.
    """
    found = read_finished(run_dir)
    if found is None:
        return
    raise MissingInput(
        f"{run_dir}: the run ended with step {found['done']['steps']}, and the states of its training are "
        f"gone, so it cannot go on to step {cell['verl'][STEPS_KEY]}.\n  Set the steps back; or train it "
        f"from step 0: entrobench renew {cell['cell']} --scale {cell['scale']} --training --go"
    )
