"""A run's curve in the terminal, from the files that it writes as it goes."""

import time
from itertools import pairwise
from pathlib import Path

from entrobench.cells import read_cell
from entrobench.errors import MissingInput
from entrobench.files import read_json
from entrobench.runs.run_files import Curve

BARS = "▁▂▃▄▅▆▇█"
# Columns of the curve that are shown, where a run has them
SHOWN = ("reward", "entropy", "response_length", "grad_norm", "omega_neg", "opefo/lambda", "mismatch/kl")


def view(folder: Path, width: int = 60) -> str:
    """Where the run of a cell stands, and its curve so far. width: of a curve, in characters.

    Raises MissingInput for a cell that was never started.
    """
    if not (folder / "cell.yaml").exists():
        raise MissingInput(f"{folder} has no cell.yaml: this cell was not started here")
    cell = read_cell(folder / "cell.yaml")
    rows = Curve(folder).rows()
    total = cell["verl"]["trainer.total_training_steps"] if cell["trains"] else 0
    lines = [f"{cell['cell']}, scale {cell['scale']}: {_stand(folder, rows, total)}"]
    for name in SHOWN:
        values = [row[name] for row in rows if row.get(name) is not None]
        if values:
            lines.append(
                f"  {name:<16}{sparkline(values, width)}  {values[0]:.4g} → {values[-1]:.4g}"
                f"  (lowest {min(values):.4g}, highest {max(values):.4g})"
            )
    return "\n".join(lines)


def _stand(folder: Path, rows: list[dict[str, float]], total: int) -> str:
    if (folder / "eval.done.json").exists():
        return "trained and evaluated" if total else "evaluated"
    if (folder / "train.done.json").exists():
        return "trained, not evaluated yet"
    done = int(rows[-1]["step"]) if rows else 0
    text = f"step {done} of {total}"
    if (folder / "progress.json").exists():
        beat = read_json(folder / "progress.json")
        text += f", {beat['phase']} of step {beat['step']} since {time.time() - beat['time']:.0f} s"
    seconds = [row["timing_s/step"] for row in rows[-10:] if row.get("timing_s/step") is not None]
    if seconds:
        left = (total - done) * sum(seconds) / len(seconds)
        text += f"; {sum(seconds) / len(seconds):.1f} s a step, about {left / 60:.0f} min left"
    return text


def is_finished(folder: Path) -> bool:
    """Whether nothing more will be written to the curve."""
    return (folder / "train.done.json").exists() or (folder / "eval.done.json").exists()


def sparkline(values: list[float], width: int) -> str:
    """The values between their lowest and highest; more than `width` of them are averaged into as many."""
    number = min(width, len(values))
    edges = [round(k * len(values) / number) for k in range(number + 1)]
    means = [sum(values[a:b]) / (b - a) for a, b in pairwise(edges)]
    low, span = min(means), max(means) - min(means)
    return "".join(BARS[min(7, int(8 * (mean - low) / span))] if span else BARS[0] for mean in means)
