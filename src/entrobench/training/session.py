"""A session: several cells, one after the other, in one training process with one Ray and one vLLM.

What a cell begins with is what it would begin with alone: the weights of its model, an empty optimizer, its
own seeds, data, shaper, curve and checkpoints (session_trainer.py). It saves the start of a process, a minute
on two cores, for each cell but the first. Cells share a session when they differ only in SWITCHABLE settings,
which the driver reads anew for each or sends along with each update.
"""

import itertools
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from entrobench.cells import SEED_KEYS, read_training_cell
from entrobench.files import read_json, write_json

SESSION_FILE = "session.json"
ACTOR = "actor_rollout_ref.actor."
# Fields of verl's ActorConfig that a step's updates may have of their own
ACTOR_FIELDS = (
    "clip_ratio_low",
    "clip_ratio_high",
    "loss_agg_mode",
    "entropy_coeff",
    "policy_loss.loss_mode",
    "policy_loss.clip_cov_ratio",
    "policy_loss.clip_cov_lb",
    "policy_loss.clip_cov_ub",
    "policy_loss.kl_cov_ratio",
    "policy_loss.ppo_kl_coef",
)
SWITCHABLE = frozenset(
    {
        "algorithm.adv_estimator",
        "algorithm.norm_adv_by_std_in_grpo",
        "algorithm.filter_groups.enable",
        "algorithm.filter_groups.metric",
        "algorithm.filter_groups.max_num_gen_batches",
        "algorithm.filter_groups.max_inflight_gen_batches",
        f"{ACTOR}ppo_mini_batch_size",
        f"{ACTOR}ppo_epochs",
        f"{ACTOR}calculate_entropy",
        "trainer.experiment_name",
        *SEED_KEYS,
        *(ACTOR + field for field in ACTOR_FIELDS),
    }
)


def sessions_of(folders: Iterable[Path]) -> list[list[Path]]:
    """The folders of cells in groups that one session each can train, in the order of their first cells.

    Raises as read_training_cell.
    """
    sessions: dict[str, list[Path]] = {}
    for folder in folders:
        cell = read_training_cell(folder / "cell.yaml")
        sessions.setdefault(json.dumps(_fixed(cell), sort_keys=True), []).append(folder)
    return list(sessions.values())


def _fixed(cell: dict[str, Any]) -> dict[str, Any]:
    """What of a resolved cell its whole session has to have in common."""
    return {
        "verl": {key: value for key, value in cell["verl"].items() if key not in SWITCHABLE},
        "model": cell["model"]["path"],
        "training set": cell["dataset"]["train_file"],
        "full-precision logits": cell["trainer"]["full_precision_logits"],
        **{key: cell.get(key) for key in ("device", "milestones", "environment")},
    }


def make_session(parent: Path, folders: list[Path]) -> Path:
    """A new folder below `parent` for a session that trains the cells of `folders`."""
    numbers = itertools.count(1)
    folder = next(path for path in (parent / f"{number:04d}" for number in numbers) if not path.exists())
    write_json(folder / SESSION_FILE, {"runs": [str(run.resolve()) for run in folders]})
    return folder


def runs_of(folder: Path) -> list[Path]:
    """The folders of the cells that the training process of `folder` trains: of a session's, or itself."""
    path = folder / SESSION_FILE
    return [Path(run) for run in read_json(path)["runs"]] if path.exists() else [folder]
