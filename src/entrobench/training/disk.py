"""How much disk a training run will take, from its cell and its model's shapes; checked before it starts.

The size of one checkpoint is cost.arithmetic.checkpoint_bytes, that of its model export_bytes.
"""

import json
import math
import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from entrobench.cost.arithmetic import checkpoint_bytes, checkpoints_at_once, export_bytes
from entrobench.errors import NotEnoughSpace
from entrobench.runs.checkpoints import checkpoint_folders

IGNORE_DISK = "ENTROBENCH_IGNORE_DISK"
PRECISION_BYTES = {"fp32": 4, "bf16": 2}
# Of one generated token in samples.jsonl: its text, escaped, and its share of the line's other fields
TOKEN_BYTES = 6
# Of one token's row in token_stats.parquet
RECORD_BYTES = 100
# Problems of a benchmark whose file is not there yet
USUAL_PROBLEMS = 1000

Shapes = dict[str, tuple[int, ...]]


@dataclass(frozen=True)
class DiskNeed:
    """Bytes. checkpoint: one that holds no model for evaluation. peak: all checkpoints while one more is
    written, with the models in them. rest: samples and records.
    """

    checkpoint: int
    peak: int
    rest: int

    @property
    def total(self) -> int:
        """Everything that stands on disk at once."""
        return self.peak + self.rest


def folder_shapes(model: Path) -> Shapes:
    """Shape of each weight in a model folder, from the headers of its *.safetensors."""
    shapes: Shapes = {}
    for path in sorted(model.glob("*.safetensors")):
        with path.open("rb") as stream:
            header = json.loads(stream.read(int.from_bytes(stream.read(8), "little")))
        shapes |= {name: tuple(entry["shape"]) for name, entry in header.items() if name != "__metadata__"}
    return shapes


def parameter_count(shapes: Shapes) -> int:
    """Number of weights."""
    return sum(math.prod(shape) for shape in shapes.values())


def adapter_count(shapes: Shapes, rank: int, targets: str | list[str] = "all-linear") -> int:
    """Weights of a LoRA adapter of `rank` on the linear layers named in `targets` (all but the head); 0 for
    rank 0.
    """
    adapted = 0
    for name, shape in shapes.items():
        layer = name.removesuffix(".weight").rsplit(".", 1)[-1]
        is_linear = len(shape) == 2 and layer not in ("embed_tokens", "lm_head")
        if is_linear and (targets == "all-linear" or layer in targets):
            adapted += rank * sum(shape)
    return adapted


def disk_need(cell: dict[str, Any], shapes: Shapes) -> DiskNeed:
    """What a resolved cell will take, of a model with these shapes. Benchmarks whose file is not there count
    as 1,000 problems.
    """
    verl = cell["verl"]
    precision = PRECISION_BYTES[verl.get("actor_rollout_ref.actor.fsdp_config.model_dtype", "fp32")]
    targets = verl.get("actor_rollout_ref.model.target_modules", "all-linear")
    adapter = adapter_count(shapes, verl.get("actor_rollout_ref.model.lora_rank", 0), targets)
    milestones = cell.get("milestones", [])
    checkpoint = checkpoint_bytes(parameter_count(shapes), adapter, precision)
    peak = checkpoints_at_once(verl, milestones) * checkpoint
    peak += (1 + len(milestones)) * export_bytes(parameter_count(shapes), adapter, precision)
    merged = 4 * parameter_count(shapes) if adapter else 0
    return DiskNeed(checkpoint, peak + merged, _sample_bytes(cell) + _record_bytes(cell))


def _sample_bytes(cell: dict[str, Any]) -> int:
    tokens = 0
    for benchmark in cell["evaluation"].values():
        tokens += _problems(Path(benchmark["file"])) * benchmark["n_samples"] * benchmark["max_tokens"]
    return tokens * TOKEN_BYTES


def _problems(path: Path) -> int:
    if not path.exists():
        return USUAL_PROBLEMS
    with path.open("rb") as lines:
        return sum(1 for _ in lines)


def _record_bytes(cell: dict[str, Any]) -> int:
    recording = cell["recording"]
    if recording is None:
        return 0
    records = 1 + cell["verl"]["trainer.total_training_steps"] // recording["every"]
    tokens = recording["sequences"] * cell["verl"]["data.max_response_length"]
    return 2 * records * tokens * RECORD_BYTES  # the parts, and the file that joins them


def require_space(cell: dict[str, Any], run_dir: Path) -> None:
    """Raise NotEnoughSpace unless the run's file system has room for what the run has yet to write.

    A quota is not seen here. ENTROBENCH_IGNORE_DISK=1 starts all the same.
    """
    need = disk_need(cell, folder_shapes(Path(cell["model"]["path"])))
    free = shutil.disk_usage(run_dir).free
    there = sum(_size(folder) for folder in checkpoint_folders(run_dir / "checkpoints").values())
    missing = need.total - there - free
    if missing <= 0 or os.environ.get(IGNORE_DISK):
        return
    raise NotEnoughSpace(
        f"{run_dir}: expected {_text(need.total - there)} free, found {_text(free)}.\n"
        f"  One checkpoint takes {_text(need.checkpoint)}; all that stand at once {_text(need.peak)}, of "
        f"which {_text(there)} are there; samples and records up to {_text(need.rest)}.\n"
        f"  Free {_text(missing)}, lower trainer.max_actor_ckpt_to_keep, or start all the same with "
        f"{IGNORE_DISK}=1."
    )


def _size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def _text(amount: int) -> str:
    return f"{amount / 1e9:,.1f} GB" if amount >= 1e9 else f"{amount / 1e6:,.1f} MB"
