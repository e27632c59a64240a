"""How a run's life begins, and what a finished run leaves: in a process of its own or in a session."""

from pathlib import Path
from typing import Any

from entrobench.errors import TrainingFailed
from entrobench.models.lora import model_of_checkpoint
from entrobench.paths import repository_root
from entrobench.provenance.code import training_code
from entrobench.provenance.manifest import engine_versions, write_manifest
from entrobench.runs.checkpoints import latest_step
from entrobench.runs.finished import finish
from entrobench.runs.identity import identity_of, performance_of
from entrobench.runs.run_files import Curve, Lives
from entrobench.training.token_record import TokenRecord


def begin_life(cell: dict[str, Any], run_dir: Path, from_step: int) -> None:
    """Note that a process trains the cell from here on. from_step: of the checkpoint that it goes on from."""
    Lives(run_dir).begin(from_step, engine_versions(), performance_of(cell), training_code(cell))


def finish_run(cell: dict[str, Any], run_dir: Path, from_step: int, seconds: float) -> None:
    """What a run leaves that has made its last step: curve, token record, model, manifest, train.done.json.

    Raises TrainingFailed where its last checkpoint is not there.
    """
    curve = Curve(run_dir).to_parquet()
    if cell["recording"] is not None:
        TokenRecord(run_dir, **cell["recording"], seed=cell["seed"]).join()
    last_step = int(curve["step"].iloc[-1])
    checkpoint = run_dir / "checkpoints" / f"global_step_{last_step}"
    if latest_step(run_dir / "checkpoints") != last_step or not checkpoint.is_dir():
        raise TrainingFailed(f"training ended after step {last_step} but its checkpoint is not in {run_dir}")
    notes = []
    if curve.get("papo/s_ref_not_negative", default=0 * curve["step"]).iloc[-1]:
        notes.append(
            "entropy did not fall during the warm-up (s_ref >= 0): weights stayed neutral for the whole run"
        )
    _link_model(cell, run_dir, checkpoint)
    lives = Lives(run_dir)
    lives.end("finished")
    write_manifest(run_dir, "train", repository_root())
    finish(
        run_dir,
        identity_of(cell),
        {
            "cell": cell["cell"],
            "scale": cell["scale"],
            "steps": last_step,
            "seconds": round(seconds, 1),
            "resumed_from": f"global_step_{from_step}" if from_step else None,
            "lives": lives.read(),
            "model": "model",
            "notes": notes,
            "versions": engine_versions(),
            "command": f"entrobench train {cell['cell']} --scale {cell['scale']}",
        },
    )
    for note in notes:
        print(f"entrobench: note: {note}", flush=True)


def _link_model(cell: dict[str, Any], run_dir: Path, checkpoint: Path) -> None:
    """Make run_dir/model the trained model: what verl saved, or that with its LoRA adapter merged."""
    trained = model_of_checkpoint(checkpoint, cell["verl"], anew=True)
    model = run_dir / "model"
    model.unlink(missing_ok=True)
    model.symlink_to(trained.relative_to(run_dir))
