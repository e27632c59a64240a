"""`entrobench check`: do the runs of a results folder lie where the reference's lie?"""

from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from entrobench.cells import CellId, read_cell
from entrobench.configs import Configs
from entrobench.errors import MissingInput
from entrobench.reference.bundle import Bundle
from entrobench.reference.envelopes import Departure, Envelopes
from entrobench.reference.plan import Reference
from entrobench.runs.run_files import Curve


@dataclass(frozen=True)
class Checked:
    """A run against its envelope. departures: None where its method has none there."""

    cell: str
    steps: int
    departures: list[Departure] | None

    def __str__(self) -> str:
        if self.departures is None:
            return f"{self.cell}: no envelope of this method on this experiment"
        if not self.departures:
            return f"{self.cell}: inside, {self.steps} steps"
        return f"{self.cell}: OUTSIDE\n" + "\n".join(f"  {each}" for each in self.departures)


def check(results: Path, reference: Reference, bundle: Bundle, configs: Configs) -> tuple[list[Checked], str]:
    """Each run below `results` of an experiment that the reference has, at its scale or that which this one
    extends, and what a false alarm's chance is. Raises MissingInput where there is none.
    """
    experiments = {group.experiment for group in reference.comparisons()}
    scales = [reference.scale, configs.scale(reference.scale).extends]
    runs = {
        (scale, CellId.parse(read_cell(path)["cell"], configs)): path.parent
        for scale in scales
        for path in sorted(results.glob(f"{scale}/*/*/*/seed*/cell.yaml"))
        if "/".join(path.parts[-5:-3]) in experiments
    }
    started = {of: folder for of, folder in runs.items() if Curve(folder).last_step() > 0}
    if not started:
        raise MissingInput(
            f"{results}: no run of {', '.join(sorted(experiments))} to check. For one: entrobench train "
            f"{sorted(experiments)[0]}/dapo/seed0 --scale {reference.scale}"
        )
    envelopes = {
        name: Envelopes.of(bundle.of("curves", name))
        for name in {f"{cell.paper}/{cell.experiment}" for _, cell in started}
    }
    checked = [
        _check(cell, folder, envelopes[f"{cell.paper}/{cell.experiment}"])
        for (_, cell), folder in started.items()
    ]
    known = sorted((name, each) for name, each in envelopes.items() if each is not None)
    alarms = ", ".join(f"{100 * each.alarms:.1f} % on {name}" for name, each in known)
    return checked, f"by chance a run of the same kind does so in {alarms or 'no case, as there is none'}"


def _check(cell: CellId, folder: Path, envelopes: Envelopes | None) -> Checked:
    curve = pd.DataFrame(Curve(folder).rows())
    steps = int(curve["step"].iloc[-1])
    if envelopes is None or cell.method not in envelopes.methods():
        return Checked(str(cell), steps, None)
    return Checked(str(cell), steps, envelopes.departures(cell.method, curve))
