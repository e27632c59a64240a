"""Which runs could not save at a scheduler's signal: a step and a checkpoint take longer than the notice."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from tabulate import tabulate

from entrobench.cells import CellId, resolve
from entrobench.configs import Configs
from entrobench.cost.arithmetic import checkpoint_bytes, export_bytes
from entrobench.cost.estimate import architecture_of, load_assumptions, site_gpu, step_of, uses_lora
from entrobench.machine.site import CLEAN_UP_SECONDS, Gpus, Slurm
from entrobench.runs.checkpoints import world_size_of


@dataclass(frozen=True)
class SlowStop:
    """The cell of an experiment whose step and checkpoint take longest, in seconds."""

    cell: str
    step: float
    save: float

    @property
    def notice(self) -> float:
        """The scheduler's notice that is long enough."""
        return self.step + self.save + CLEAN_UP_SECONDS


def slow_stops(
    cells: Iterable[CellId], scale: str, configs: Configs, results: Path, slurm: Slurm, gpus: Gpus
) -> list[SlowStop]:
    """Of each experiment the slowest cell, where a run asked to stop at the start of a step would not have
    saved it when its job ends. By the assumptions of configs/estimate.yaml.

    Raises as cost.estimate.estimate.
    """
    assumptions = load_assumptions(configs)
    slowest: dict[str, SlowStop] = {}
    for cell in cells:
        resolved = resolve(str(cell), scale, configs, results)
        if not resolved["trains"]:
            continue
        model = architecture_of(resolved["model"]["name"], scale, configs, results)
        step = step_of(cell, resolved, model, site_gpu(gpus), world_size_of(resolved), assumptions)
        adapter = int(uses_lora(resolved))  # how large it is hardly matters
        saved = checkpoint_bytes(model.parameters, adapter) + export_bytes(model.parameters, adapter)
        stop = SlowStop(
            str(cell),
            (1 + assumptions.overhead.value) * step.seconds,
            saved / (1e9 * assumptions.write_gb_per_second.value),
        )
        name = f"{cell.paper}/{cell.experiment}"
        if name not in slowest or stop.notice > slowest[name].notice:
            slowest[name] = stop
    return [stop for stop in slowest.values() if stop.step + stop.save > slurm.stop_seconds]


def as_text(stops: list[SlowStop], slurm: Slurm) -> str:
    """The slow stops with the notice that each needs; empty where there are none."""
    if not stops:
        return ""
    rows = [(stop.cell, f"{stop.step:.0f}", f"{stop.save:.0f}", f"{stop.notice:.0f}") for stop in stops]
    table = tabulate(rows, headers=("slowest cell", "step", "save", "notice"), tablefmt="plain")
    return (
        f"\nEstimated seconds of a step and its checkpoint. A notice of {slurm.signal_seconds} s "
        f"(slurm.signal_seconds) is too short for them:\na run that is preempted goes on from its last "
        f"checkpoint, {slurm.checkpoint_minutes:g} minutes and a step ago at most.\n{table}"
    )
