"""Rehearsals: a run at any scale, composed and checked on this machine without its GPUs and models."""

from pathlib import Path
from typing import Annotated

import typer

from entrobench.cli.before import Target
from entrobench.cli.options import Results, Scale, checkout_configs


def add_to(app: typer.Typer) -> None:
    """Add `rehearse` with its own verbs."""
    rehearse = typer.Typer(help="Rehearse a run without its GPUs and models.", no_args_is_help=True)
    rehearse.command("evaluate")(rehearse_evaluate)
    rehearse.command("train")(rehearse_train)
    app.add_typer(rehearse, name="rehearse", rich_help_panel="Before a run")


def rehearse_evaluate(
    target: Target = "all", scale: Scale = "paper", results: Results = Path("results")
) -> None:
    """Data, graders, prompts against the context, jobs of every benchmark; status 1 where one would fail."""
    from entrobench.cost.targets import target_cells
    from entrobench.machine.site import site_or_none
    from entrobench.rehearsal.evaluation import as_text, exit_status, rehearse_evaluation
    from entrobench.rehearsal.evaluation_jobs import evaluation_jobs

    configs = checkout_configs()
    cells = target_cells(target, configs, None)
    site = site_or_none(configs.root)
    findings = rehearse_evaluation(cells, scale, configs, results, site)
    print(as_text(findings, evaluation_jobs(cells, scale, configs, results, site)))
    raise typer.Exit(exit_status(findings))


def rehearse_train(
    target: Target = "all",
    scale: Scale = "paper",
    results: Results = Path("results"),
    gb: Annotated[float | None, typer.Option(help="Memory of one GPU; default: the site's")] = None,
    gpus: Annotated[int | None, typer.Option(help="GPUs of a run, in place of the cell's")] = None,
) -> None:
    """Memory of every phase of a training step on the site's GPUs; status 1 where a cell does not fit. And
    which steps are too long for the scheduler's notice.
    """
    from entrobench.cost.targets import target_cells
    from entrobench.machine.site import Gpus, Slurm, site_or_none
    from entrobench.rehearsal import stops
    from entrobench.rehearsal.training import as_text, rehearse_training

    configs = checkout_configs()
    site = site_or_none(configs.root)
    site_gpus, slurm = (site.gpus, site.slurm) if site is not None else (Gpus(), Slurm(partition=""))
    memory = gb if gb is not None else site_gpus.memory_gb
    cells = target_cells(target, configs, None)
    fits = rehearse_training(cells, scale, configs, results, memory, gpus)
    print(as_text(fits))
    if all(fit.settings is not None for fit in fits):
        slow = stops.slow_stops(cells, scale, configs, results, slurm, site_gpus)
        print(stops.as_text(slow, slurm))
    raise typer.Exit(int(any(fit.settings is None for fit in fits)))
