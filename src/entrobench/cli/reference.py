"""The reference run: run it, see what it says, check other runs against it."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from entrobench.cli.options import checkout_configs
from entrobench.paths import repository_root

if TYPE_CHECKING:
    from entrobench.configs import Configs
    from entrobench.reference.bundle import Bundle
    from entrobench.reference.plan import Reference

Groups = Annotated[list[str] | None, typer.Argument(help="Groups of configs/reference.yaml (default: all).")]


def add_to(app: typer.Typer) -> None:
    """Add this group's verbs."""
    for verb in (reference_run, reference_render, check):
        app.command(rich_help_panel="Reference")(verb)


def _opened() -> "tuple[Configs, Reference, Bundle]":
    from entrobench.reference import bundle, plan

    configs = checkout_configs()
    return configs, plan.load_reference(configs), bundle.Bundle(bundle.default_folder())


def reference_run(
    groups: Groups = None,
    hours: Annotated[float | None, typer.Option(help="Start no further cells after so long.")] = None,
    work: Annotated[Path, typer.Option(help="Results folder to train in.")] = Path("results/reference/work"),
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what is missing and how long it takes.")
    ] = False,
) -> None:
    """Run the cells of the reference run that are not in results/reference yet; goes on where it stopped."""
    from entrobench.reference.bundle import missing
    from entrobench.reference.plan import cells_of
    from entrobench.reference.run import expected_seconds, run_reference

    configs, reference, bundle = _opened()
    chosen = [reference.group(name) for name in groups] if groups else reference.groups
    for group in chosen:
        cells = list(cells_of(group, reference, configs))
        left = missing(cells, bundle)
        hours_left = expected_seconds(left, bundle) / 3600
        print(f"{group.name}: {len(cells) - len(left)} of {len(cells)} cells done; {hours_left:.1f} h left")
    if not dry_run:
        run_reference(reference, chosen, configs, bundle, work, hours)


def reference_render() -> None:
    """Make tables, figures and page of results/reference from its cells, and the README's table."""
    from entrobench.reference.render import render, write_into_readme

    configs, reference, bundle = _opened()
    lines = render(reference, bundle, configs)
    write_into_readme(repository_root() / "README.md", lines)
    print(f"{bundle.folder / 'README.md'}")


def check(
    results: Annotated[Path, typer.Argument(help="Results folder with the runs.")] = Path("results"),
) -> None:
    """Compare runs with the reference's envelopes, step by step; exit status 1 where one leaves its own."""
    from entrobench.reference.check import check as check_runs

    configs, reference, bundle = _opened()
    checked, chance = check_runs(results, reference, bundle, configs)
    for each in checked:
        print(each)
    outside = sum(bool(each.departures) for each in checked)
    print(f"{outside} of {len(checked)} runs leave their envelope; {chance}")
    raise typer.Exit(1 if outside else 0)
