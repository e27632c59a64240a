"""Rehearsals: a run at any scale, composed and checked on this machine without its GPUs and models."""

from pathlib import Path

import typer

from entrobench.cli.before import Target
from entrobench.cli.options import Results, Scale, checkout_configs


def add_to(app: typer.Typer) -> None:
    """Add `rehearse` with its own verbs."""
    rehearse = typer.Typer(help="Rehearse a run without its GPUs and models.", no_args_is_help=True)
    rehearse.command("evaluate")(rehearse_evaluate)
    rehearse.callback()(lambda: None)
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
