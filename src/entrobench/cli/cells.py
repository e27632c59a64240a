"""Cells and methods: what there is, and what a cell would run."""

from pathlib import Path

import typer

from entrobench.cli.options import Cell, Paper, Results, Scale, checkout_configs
from entrobench.files import read_json
from entrobench.paths import repository_root


def add_to(app: typer.Typer) -> None:
    """Add this group's verbs."""
    for verb in (cells, methods, resolve_cell, why):
        name = "resolve" if verb is resolve_cell else verb.__name__
        app.command(name, rich_help_panel="What there is")(verb)


def cells(paper: Paper = "all", scale: Scale = "smoke", results: Results = Path("results")) -> None:
    """List the cells of a paper with their status."""
    from entrobench.cells import listed_cells, missing_data, status_of

    configs = checkout_configs()
    settings = configs.scale(scale)
    for name in configs.papers() if paper == "all" else [paper]:
        for cell in listed_cells(name, configs):
            method = configs.method(cell.method)
            status = status_of(results / scale / str(cell), method.trains)
            needs = missing_data(cell, settings, configs)
            note = f"  (needs {needs})" if needs and method.trains else ""
            print(f"{status:8}  {cell!s:62}  {method.title}{note}")


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


def written_cell(name: str, scale: str, results: Path, anew: bool) -> Path:
    """The cell's cell.yaml, written where it is not there yet or is wanted `anew`."""
    from entrobench.cells import CellId, resolve, write_cell

    configs = checkout_configs()
    cell = CellId.parse(name, configs)
    path = results / scale / str(cell) / "cell.yaml"
    if anew or not path.exists():
        write_cell(resolve(str(cell), scale, configs, results), path, repository_root())
    return path
