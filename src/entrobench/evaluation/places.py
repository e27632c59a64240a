"""Where an evaluation lies: that of a cell's model in the cell's folder, that of a checkpoint below it."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Place:
    """One evaluation of a cell. folder: the cell's. step: the checkpoint's; None for the cell's own model."""

    folder: Path
    step: int | None = None

    @property
    def benchmarks(self) -> Path:
        """The folder that holds one folder a benchmark."""
        return self.folder / "eval" if self.step is None else self.folder / "eval" / f"step{self.step}"

    @property
    def done(self) -> Path:
        """What says that the evaluation is done."""
        return (self.folder if self.step is None else self.benchmarks) / "eval.done.json"

    @property
    def option(self) -> str:
        """What a command needs beside the cell's name."""
        return "" if self.step is None else f" --step {self.step}"

    def samples(self, benchmark: str) -> Path:
        """The graded samples of a benchmark."""
        return self.benchmarks / benchmark / "samples.jsonl"


def evaluated_steps(folder: Path) -> list[int]:
    """Steps whose checkpoints were evaluated and graded, in ascending order."""
    done = folder.glob("eval/step*/eval.done.json")
    numbers = (path.parent.name.removeprefix("step") for path in done)
    return sorted(int(number) for number in numbers if number.isdecimal())
