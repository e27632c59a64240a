"""Cells and methods: what there is, and what a cell would run."""

from pathlib import Path
from typing import Annotated

import typer

from entrobench.cli.before import Target
from entrobench.cli.options import Cell, Paper, Results, Scale, Seeds, checkout_configs
from entrobench.files import read_json
from entrobench.paths import repository_root


def add_to(app: typer.Typer) -> None:
    """Add this group's verbs."""
    for verb in (cells, methods, resolve_cell, why, renew):
        name = "resolve" if verb is resolve_cell else verb.__name__
        app.command(name, rich_help_panel="What there is")(verb)


def cells(paper: Paper = "all", scale: Scale = "smoke", results: Results = Path("results")) -> None:
    """List the cells of a paper with their status, and what of them is stale."""
    from entrobench.cells import dataset_of, listed_cells, status_of, why_not
    from entrobench.data.environment_tasks import lacking_data
    from entrobench.provenance.code import stale

    configs = checkout_configs()
    settings = configs.scale(scale)
    for name in configs.papers() if paper == "all" else [paper]:
        for cell in listed_cells(name, configs):
            method = configs.method(cell.method)
            folder = results / scale / str(cell)
            status = status_of(folder, method.trains)
            needs = lacking_data(cell, settings, configs)
            reason = why_not(cell, settings, configs)
            notes = [f"cannot run: {reason}"] if reason else []
            # An environment is needed to evaluate, too
            is_needed = method.trains or configs.dataset(dataset_of(cell, settings, configs)).environment
            if needs and is_needed and not reason:
                notes.append(f"needs {needs}")
            notes += [f"stale {step}: {', '.join(changed)}" for step, changed in stale(folder).items()]
            print(f"{status:8}  {cell!s:62}  {method.title}{''.join(f'  ({note})' for note in notes)}")


def methods(results: Results = Path("results")) -> None:
    """List the methods: where each stands in its paper, in the code and in the tests."""
    from tabulate import tabulate

    from entrobench.algorithms import SHAPERS

    configs = checkout_configs()
    status_file = results / "methods_smoke" / "status.json"
    ran = read_json(status_file) if status_file.exists() else {}
    rows = [("method", "paper", "equation", "file", "config", "test", "smoke")]
    for name in sorted(configs.names("methods"), key=lambda name: (configs.method(name).paper, name)):
        method = configs.method(name)
        module = SHAPERS[method.shaper.name].__module__ if method.shaper else "verl"
        file = module.replace("entrobench.", "").replace(".", "/") + ".py" if method.shaper else module
        smoke = ran.get(name, {}).get("status", "not run") if method.trains else "not trained"
        rows.append(
            (name, method.paper, method.source, file, f"configs/methods/{name}.yaml", method.test, smoke)
        )
    print(tabulate(rows, headers="firstrow", tablefmt="plain", disable_numparse=True))


def resolve_cell(cell: Cell, scale: Scale = "smoke", results: Results = Path("results")) -> None:
    """Write a cell's cell.yaml and print it: every value, and where it comes from."""
    print(written_cell(cell, scale, results, anew=True).read_text(encoding="utf-8"), end="")


def why(cell: Cell, scale: Scale = "smoke", results: Results = Path("results")) -> None:
    """Why a cell would be trained, sampled or graded again, and what of it would be kept."""
    from entrobench.cells import CellId
    from entrobench.rehearsal.why import as_text
    from entrobench.rehearsal.why import why as answers_of

    configs = checkout_configs()
    print(as_text(answers_of(CellId.parse(cell, configs), scale, configs, results)))


def renew(
    target: Target,
    scale: Scale = "paper",
    results: Results = Path("results"),
    seeds: Seeds = None,
    training: Annotated[
        bool, typer.Option("--training", help="Train all of them again, not only what is stale.")
    ] = False,
    evaluation: Annotated[
        bool, typer.Option("--evaluation", help="Evaluate all of them again, not only what is stale.")
    ] = False,
    go: Annotated[bool, typer.Option("--go", help="Do it; without, what would be done is listed.")] = False,
) -> None:
    """Set aside what is stale of a group of cells, so that the next run makes it again."""
    from entrobench.cost.targets import target_cells
    from entrobench.rehearsal.renew import renewals

    cells = target_cells(target, checkout_configs(), seeds)
    found = list(renewals(cells, scale, results, training, evaluation))
    for each in found:
        print(f"{each.cell}: {'; '.join(each.reasons)}")
        if go:
            print(f"  set aside in {each.set_aside()}")
    if not found:
        print(f"nothing is stale of {len(cells)} cells at scale {scale}")
    elif not go:
        print(f"{len(found)} of {len(cells)} cells. With --go their results are set aside, and made again by")
        print(f"  entrobench submit {target} --scale {scale}   or snakemake")


def written_cell(name: str, scale: str, results: Path, anew: bool) -> Path:
    """The cell's cell.yaml, written where it is not there yet or is wanted `anew`."""
    from entrobench.cells import CellId, resolve, write_cell

    configs = checkout_configs()
    cell = CellId.parse(name, configs)
    path = results / scale / str(cell) / "cell.yaml"
    if anew or not path.exists():
        write_cell(resolve(str(cell), scale, configs, results), path, repository_root())
    return path
