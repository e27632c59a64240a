"""The reference run: run it, see what it says, check other runs against it."""

from pathlib import Path
from typing import Annotated

import typer

from entrobench.cli.options import checkout_configs

Groups = Annotated[list[str] | None, typer.Argument(help="Groups of configs/reference.yaml (default: all).")]


def add_to(app: typer.Typer) -> None:
    """Add this group's verbs."""
    for verb in (reference_run,):
        app.command(rich_help_panel="Reference")(verb)


def reference_run(
    groups: Groups = None,
    hours: Annotated[float | None, typer.Option(help="Start no further cells after so long.")] = None,
    work: Annotated[Path, typer.Option(help="Results folder to train in.")] = Path("results/reference/work"),
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what is missing and how long it takes.")
    ] = False,
) -> None:
    """Run the cells of the reference run that are not in results/reference yet; goes on where it stopped."""
    from entrobench.reference.bundle import Bundle, default_folder, missing
    from entrobench.reference.plan import cells_of, load_reference
    from entrobench.reference.run import expected_seconds, run_reference

    configs = checkout_configs()
    reference = load_reference(configs)
    chosen = [reference.group(name) for name in groups] if groups else reference.groups
    bundle = Bundle(default_folder(reference.scale))
    for group in chosen:
        cells = list(cells_of(group, configs))
        left = missing(cells, bundle)
        hours_left = expected_seconds(left, bundle) / 3600
        print(f"{group.name}: {len(cells) - len(left)} of {len(cells)} cells done; {hours_left:.1f} h left")
    if not dry_run:
        run_reference(reference, chosen, configs, bundle, work, hours)
