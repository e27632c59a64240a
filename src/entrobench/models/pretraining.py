"""What the tiny models' weights follow from, and kept copies of them; imports no torch: a copy is fast."""

import shutil
from dataclasses import asdict, dataclass
from pathlib import Path

from entrobench.files import read_json, replaced_folder


@dataclass(frozen=True)
class Pretraining:
    """Size of the model and of its pretraining."""

    steps: int = 600
    batch_size: int = 64
    learning_rate: float = 3e-3
    warmup_steps: int = 40
    weight_decay: float = 0.01
    hidden_size: int = 64
    layers: int = 3
    heads: int = 2
    seed: int = 0


# Of the one that does errands over several turns
AGENT = Pretraining(steps=750)


def copy_kept(kept: Path, folder: Path, settings: Pretraining) -> bool:
    """Copy a model that was pretrained with these settings, so that runs on all machines start from the same
    weights; False where `kept` holds none.
    """
    marker = kept / "model.json"
    if not marker.exists() or read_json(marker)["pretraining"] != asdict(settings):
        return False
    with replaced_folder(folder) as staged:
        shutil.copytree(kept, staged)
    return True
