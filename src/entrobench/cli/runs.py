"""Running cells: on this machine, in a job, or as a group through SLURM."""

import os
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from entrobench.cli.before import Target
from entrobench.cli.cells import written_cell
from entrobench.cli.options import (
    AllowDirty,
    Cell,
    Results,
    Scale,
    Seeds,
    checkout_configs,
    complete_method,
    set_allow_dirty,
)
from entrobench.paths import repository_root


class Step(StrEnum):
    """What a job does with a cell."""

    train = "train"
    evaluate = "evaluate"


def add_to(app: typer.Typer) -> None:
    """Add this group's verbs."""
    for verb in (train, evaluate, score, launch, submit, methods_smoke):
        app.command(rich_help_panel="Run")(verb)


def train(
    cell: Cell,
    scale: Scale = "smoke",
    results: Results = Path("results"),
    allow_dirty: AllowDirty = False,
) -> None:
    """Train one cell; goes on where it stopped."""
    from entrobench.training.launch import launch

    launch(_folder_to_run(cell, scale, results, allow_dirty))


def evaluate(
    cell: Cell,
    scale: Scale = "smoke",
    results: Results = Path("results"),
    model: Annotated[Path | None, typer.Option(help="Model to evaluate (default: the cell's own).")] = None,
    allow_dirty: AllowDirty = False,
) -> None:
    """Sample and grade every benchmark of a cell; keeps what stands there already."""
    from entrobench.evaluation.run import run_evaluation

    run_evaluation(_folder_to_run(cell, scale, results, allow_dirty), model)


def score(
    folder: Annotated[
        Path, typer.Argument(help="A cell's folder, or any with eval/<benchmark>/samples.jsonl.")
    ],
) -> None:
    """Compute scores.csv from graded samples."""
    from entrobench.evaluation.scores import score_cell

    score_cell(folder)


def launch(
    cell: Cell,
    step: Annotated[Step, typer.Option(help="What to do with the cell.")] = Step.train,
    scale: Scale = "smoke",
    results: Results = Path("results"),
    allow_dirty: AllowDirty = False,
) -> None:
    """Train or evaluate one cell in its SLURM job; without SLURM on this machine."""
    from entrobench.cluster.launch import launch_evaluation, launch_training
    from entrobench.machine.site import site_or_none

    # Whatever the site says, outside of a SLURM job a cell is trained as by `train`
    site = site_or_none(repository_root() / "configs") if "SLURM_JOB_ID" in os.environ else None
    start = {Step.train: launch_training, Step.evaluate: launch_evaluation}[step]
    raise typer.Exit(start(_folder_to_run(cell, scale, results, allow_dirty), site))


def submit(
    target: Target,
    scale: Scale = "paper",
    results: Results = Path("results"),
    seeds: Seeds = None,
    go: Annotated[bool, typer.Option("--go", help="Submit although a limit is exceeded.")] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show Snakemake's plan, submit nothing.")
    ] = False,
    allow_dirty: AllowDirty = False,
) -> None:
    """Estimate a group of cells and run them through SLURM; above a limit only with --go."""
    from entrobench.cluster.submit import check_limits, run_snakemake, snakemake_command
    from entrobench.cost.estimate import estimate, load_assumptions
    from entrobench.cost.targets import target_cells
    from entrobench.cost.text import as_text
    from entrobench.machine.site import load_site
    from entrobench.provenance.manifest import require_clean_tree

    configs, root = checkout_configs(), repository_root()
    site = load_site(configs.root)
    found = estimate(target, scale, configs, results, site, seeds)
    print(as_text(found, load_assumptions(configs), site), flush=True)
    set_allow_dirty(allow_dirty)
    if not dry_run:
        require_clean_tree(scale, root)
        check_limits(found, site, go)
    options = ["--dry-run", "--quiet", "rules"] if dry_run else []
    command = snakemake_command(target_cells(target, configs, seeds), scale, results, options)
    raise typer.Exit(run_snakemake(command, root))


def methods_smoke(
    methods: Annotated[
        list[str] | None,
        typer.Argument(help="Names of configs/methods (default: all).", autocompletion=complete_method),
    ] = None,
    experiment: Annotated[str, typer.Option(help="<paper>/<experiment> to run them on.")] = "papo/7b-math",
    steps: Annotated[int, typer.Option(help="Training steps of each method.")] = 3,
    results: Results = Path("results"),
) -> None:
    """Train every method for a few real steps on the CPU; writes and prints their status."""
    from entrobench.training.methods_smoke import run_methods

    run_methods(methods or [], experiment, steps, checkout_configs(), results)


def _folder_to_run(cell: str, scale: str, results: Path, allow_dirty: bool) -> Path:
    """The cell's folder, with its cell.yaml. Raises DirtyTree for a cell at paper scale."""
    from entrobench.cells import read_cell
    from entrobench.provenance.manifest import require_clean_tree

    path = written_cell(cell, scale, results, anew=False)
    set_allow_dirty(allow_dirty)
    require_clean_tree(scale, repository_root(), read_cell(path).get("git_commit", "unknown"))
    return path.parent
