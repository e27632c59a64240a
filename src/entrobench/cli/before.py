"""Before a run: what it would cost, and what this machine lacks."""

from pathlib import Path
from typing import Annotated

import typer

from entrobench.cli.options import Results, Scale, Seeds, checkout_configs
from entrobench.files import write_json

Target = Annotated[
    str,
    typer.Argument(help="all, <paper>, <paper>_<artifact> (papo_table1), or one cell."),
]


def add_to(app: typer.Typer) -> None:
    """Add this group's verbs."""
    for verb in (doctor, estimate, gpu_check):
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
