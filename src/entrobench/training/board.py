"""The curve as TensorBoard files, for whoever watches a run; nothing of this project reads them."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

BOARD = "tensorboard"  # folder of a cell


class Board:
    """Event files of one life of a run. first_step: what earlier lives wrote from it on is not shown."""

    def __init__(self, run_dir: Path, first_step: int) -> None:
        from torch.utils.tensorboard import SummaryWriter  # a second, in the trainer alone

        self._writer = SummaryWriter(str(run_dir / BOARD), purge_step=first_step)

    def append(self, step: int, row: Mapping[str, Any]) -> None:
        """Add the numbers of one step and write them to disk."""
        for name, value in row.items():
            if isinstance(value, int | float):
                self._writer.add_scalar(name, value, step)
        self._writer.flush()
