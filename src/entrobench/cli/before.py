"""Before a run: what it would cost, and what this machine lacks."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from entrobench.cli.options import Results, Scale, Seeds, checkout_configs
from entrobench.errors import MissingInput
from entrobench.files import write_json

Target = Annotated[
    str,
    typer.Argument(help="all, <paper>, <paper>_<artifact> (papo_table1), or one cell."),
]


def add_to(app: typer.Typer) -> None:
    """Add this group's verbs."""
    for verb in (doctor, estimate, clean, gpu_check):
        app.command(rich_help_panel="Before a run")(verb)


def doctor(scale: Scale = "smoke", results: Results = Path("results")) -> None:
    """Check this machine for a scale and say what to do."""
    from entrobench.rehearsal.doctor import as_text, examine, exit_status

    checks = examine(checkout_configs(), results, scale)
    print(as_text(checks))
    raise typer.Exit(exit_status(checks))


def estimate(
    target: Target = "",
    scale: Scale = "paper",
    results: Results = Path("results"),
    seeds: Seeds = None,
    json: Annotated[
        Path | None,
        typer.Option(help="Also write every figure, unrounded, to this file."),
    ] = None,
    list_targets: Annotated[bool, typer.Option("--list", help="List the targets.")] = False,
) -> None:
    """GPU-hours, wall time, disk and tokens of a group of cells, before anything runs."""
    from entrobench.cost.estimate import estimate, load_assumptions
    from entrobench.cost.targets import target_names
    from entrobench.cost.text import as_json, as_text
    from entrobench.machine.site import site_or_none

    configs = checkout_configs()
    if list_targets:
        print("\n".join(target_names(configs)))
        return
    site, assumptions = site_or_none(configs.root), load_assumptions(configs)
    found = estimate(target, scale, configs, results, site, seeds)
    print(as_text(found, assumptions, site))
    if json is not None:
        write_json(json, as_json(found, assumptions))
        print(f"\nEvery figure: {json}")


@contextmanager
def full_environment() -> Iterator[None]:
    """A package that is missing is one that a controller's environment has not."""
    try:
        yield
    except ModuleNotFoundError as error:
        raise MissingInput(
            f"{error}: a controller's environment has it not. Type: make .venv/.installed"
        ) from error


def clean(
    target: Target,
    scale: Scale = "paper",
    results: Results = Path("results"),
    seeds: Seeds = None,
    go: Annotated[bool, typer.Option("--go", help="Remove it; without, what would go is listed.")] = False,
) -> None:
    """Free the disk that finished cells take and nothing reads: states of training, old checkpoints."""
    from entrobench.cells import listed_cells, previous_cell, resolve
    from entrobench.cost.retention import removable
    from entrobench.cost.targets import target_cells

    configs = checkout_configs()
    waiting = {
        previous_cell(cell, configs)
        for paper in configs.papers()
        for cell in listed_cells(paper, configs)
        if not (results / scale / str(cell) / "train.done.json").exists()
    }
    freed = 0
    for cell in target_cells(target, configs, seeds):
        folder = results / scale / str(cell)
        found = removable(folder, resolve(str(cell), scale, configs, results), cell in waiting)
        for each in found:
            print(f"{each.bytes / 1e9:9.3f} GB  {each.path}: {each.what}")
            freed += each.bytes
            if go:
                with full_environment():
                    each.remove()
    verb = "freed" if go else "can be freed: --go does it"
    print(f"{freed / 1e9:9.3f} GB  {verb}")


def gpu_check(
    stages: Annotated[
        list[str] | None,
        typer.Argument(help="triton, nvcc, kernels, model, engine, step, evaluation, resume; default: all."),
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Also write a report to this JSON file.")] = None,
) -> None:
    """Kernels, attention, engine, training, evaluation and a killed run on this machine's GPU."""
    from entrobench.configs import require_known
    from entrobench.gpu_check.stages import STAGES, as_text, report, run_stages

    for name in stages or ():
        require_known("stage", name, list(STAGES), "entrobench gpu-check --help")
    outcomes = run_stages(stages or STAGES)
    print(as_text(outcomes))
    if out is not None:
        write_json(out, report(outcomes))
    raise typer.Exit(int(any(outcome.status == "fail" for outcome in outcomes)))
