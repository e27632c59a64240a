"""What makes a training run another run: everything that its numbers depend on, and nothing else.

How fast, where and how long it computes is no part of it (cells.PERFORMANCE_KEYS), nor are the versions of
the engines, which each life of a run records.
"""

import json
import time
from pathlib import Path
from typing import Any

from entrobench.cells import is_performance_key
from entrobench.configs import differences
from entrobench.errors import MissingInput
from entrobench.files import read_json, sha256_file, write_json
from entrobench.runs.checkpoints import checkpoint_folders

# verl's rules that select tokens within a micro-batch: under these its size is mathematics
SELECTING_LOSSES = ("clip_cov", "kl_cov")
MICRO_BATCH_KEYS = (
    "actor_rollout_ref.actor.ppo_max_token_len_per_gpu",
    "actor_rollout_ref.actor.ppo_micro_batch_size_per_gpu",
    "actor_rollout_ref.actor.use_dynamic_bsz",
    "trainer.n_gpus_per_node",
    "trainer.nnodes",
)
UNRECORDED = "its settings were not recorded"
# What a run with another identity has left, and the next one would take for its own
LEFT_BEHIND = ("checkpoints", "metrics.jsonl", "lives.jsonl", "tensorboard")

Identity = dict[str, Any]


def identity_of(cell: dict[str, Any]) -> Identity:
    """The identity of a resolved cell's run, as identity.json has it; reads data and the model's marker."""
    model = Path(cell["model"]["path"])
    # A trained model has no model.json; its weights are their own identity
    files = [model / "model.json"] if (model / "model.json").exists() else sorted(model.glob("*.safetensors"))
    loss = cell["verl"].get("actor_rollout_ref.actor.policy_loss.loss_mode")
    selecting = MICRO_BATCH_KEYS if loss in SELECTING_LOSSES else ()
    identity = {
        "verl": {k: v for k, v in cell["verl"].items() if not is_performance_key(k) or k in selecting},
        "trainer": cell["trainer"],
        "shaper": cell["shaper"],
        "relay": cell.get("relay"),
        "model": [sha256_file(path) for path in files],
        "training set": sha256_file(Path(cell["dataset"]["train_file"])),
    }
    return dict(json.loads(json.dumps(identity)))  # as it will be read


def performance_of(cell: dict[str, Any]) -> dict[str, Any]:
    """The settings of a resolved cell that may differ between the lives of its run."""
    return {key: value for key, value in cell["verl"].items() if is_performance_key(key)}


def read_identity(run_dir: Path) -> Identity | None:
    """That of the run whose checkpoints stand in a folder; None where none is recorded."""
    try:
        return dict(read_json(_file(run_dir)))
    except MissingInput:
        return None


def set_aside_other_run(run_dir: Path, identity: Identity) -> tuple[Path, list[str]] | None:
    """Move checkpoints, curve and lives of a run with another identity away, and record this one's.

    Returns the folder that they were moved to and the `differences`; None where there was nothing to move.
    Checkpoints without a recorded identity are another run's.
    """
    earlier, aside = read_identity(run_dir), None
    if earlier is None and checkpoint_folders(run_dir / "checkpoints"):
        reasons = [UNRECORDED]
    else:
        reasons = differences(earlier or identity, identity)
    if reasons:
        folder = run_dir / f"replaced.{int(time.time())}"
        folder.mkdir()
        for name in LEFT_BEHIND:
            if (run_dir / name).exists():
                (run_dir / name).rename(folder / name)
        aside = folder, reasons
    write_json(_file(run_dir), identity)
    return aside


def _file(run_dir: Path) -> Path:
    return run_dir / "checkpoints" / "identity.json"
