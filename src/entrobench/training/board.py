"""The curve as TensorBoard files, for whoever watches a run; nothing of this project reads them."""

from collections.abc import Mapping
from pathlib import Path

from torch.utils.tensorboard import SummaryWriter


class Board:
    """Event files of one life of a run. first_step: what earlier lives wrote from it on is not shown."""

    def __init__(self, run_dir: Path, first_step: int) -> None:
        self._writer = SummaryWriter(str(run_dir / "tensorboard"), purge_step=first_step)

    def append(self, step: int, numbers: Mapping[str, float]) -> None:
        """Add one step's row of the curve and write it to disk."""
        for name, value in numbers.items():
            self._writer.add_scalar(name, value, step)
        self._writer.flush()
