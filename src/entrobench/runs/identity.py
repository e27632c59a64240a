"""What makes a training run another run: everything that its numbers depend on, and nothing else.

How fast, where and how long it computes is no part of it (cells.PERFORMANCE_KEYS), nor are the versions of
the engines, which each life of a run records.
"""

import json
import time
from collections.abc import Sequence
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
FINISHED_FILE = "finished.json"
LEFT_BEHIND = ("checkpoints", "metrics.jsonl", "lives.jsonl", "tensorboard", FINISHED_FILE)

Identity = dict[str, Any]


def settings_of(cell: dict[str, Any]) -> dict[str, Any]:
    """What of a resolved cell makes its training another run; its model and data do, too."""
    loss = cell["verl"].get("actor_rollout_ref.actor.policy_loss.loss_mode")
    selecting = MICRO_BATCH_KEYS if loss in SELECTING_LOSSES else ()
    return {
        "verl": {k: v for k, v in cell["verl"].items() if not is_performance_key(k) or k in selecting},
        "trainer": cell["trainer"],
        "shaper": cell["shaper"],
        **({"environment": cell["environment"]} if "environment" in cell else {}),
    }


def identity_of(cell: dict[str, Any]) -> Identity:
    """The identity of a resolved cell's run, as identity.json has it; reads data and the model's marker."""
    model = Path(cell["model"]["path"])
    # A trained model has no model.json; its weights are their own identity
    files = [model / "model.json"] if (model / "model.json").exists() else sorted(model.glob("*.safetensors"))
    identity = settings_of(cell) | {
        "model": [sha256_file(path) for path in files],
        "training set": sha256_file(Path(cell["dataset"]["train_file"])),
    }
    return dict(json.loads(json.dumps(identity)))  # as it will be read


def performance_of(cell: dict[str, Any]) -> dict[str, Any]:
    """The settings of a resolved cell that may differ between the lives of its run."""
    return {key: value for key, value in cell["verl"].items() if is_performance_key(key)}


def read_identity(run_dir: Path) -> Identity | None:
    """That of the run whose checkpoints stand in a folder, or that has ended there; None where none is
    recorded.
    """
    try:
        return dict(read_json(_file(run_dir)))
    except MissingInput:
        found = read_finished(run_dir)
        return None if found is None else dict(found["identity"])


def read_finished(run_dir: Path) -> dict[str, Any] | None:
    """`identity` and `done`, the content of train.done.json, of a run that has ended; None for none."""
    path = run_dir / FINISHED_FILE
    return dict(read_json(path)) if path.exists() else None


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
        aside = set_aside(run_dir, LEFT_BEHIND), reasons
    write_json(_file(run_dir), identity)
    return aside


def set_aside(run_dir: Path, names: Sequence[str]) -> Path:
    """Move files and folders of a cell into a folder of their own, beside them; that folder."""
    folder = run_dir / f"replaced.{int(time.time())}"
    while folder.exists():
        folder = folder.with_name(f"{folder.name}+")
    folder.mkdir()
    for name in names:
        if (run_dir / name).exists() or (run_dir / name).is_symlink():
            (run_dir / name).rename(folder / name)
    return folder


def _file(run_dir: Path) -> Path:
    return run_dir / "checkpoints" / "identity.json"
