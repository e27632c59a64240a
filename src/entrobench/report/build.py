"""Builds everything that a paper's report consists of, from the cells' files."""

from pathlib import Path

from entrobench.cells import listed_cells, stand_in
from entrobench.configs import Configs, require_known
from entrobench.errors import CorruptFile
from entrobench.files import write_atomic
from entrobench.report.artifacts import (
    artifact_cells,
    artifact_files,
    artifacts_at,
    experiments_at,
    figure_experiment,
    figure_lines,
    load_artifacts,
    panels_at,
    seed_folders,
)
from entrobench.report.information import information_table
from entrobench.report.page import cell_section, render_page
from entrobench.report.recorded import Recorded
from entrobench.report.render import render
from entrobench.report.sizes import sizes_table
from entrobench.report.table import Table
from entrobench.report.table_text import Layout, layout


def build_report(paper: str, scale: str, configs: Configs, results: Path, only: str | None = None) -> None:
    """Write the tables (.csv, .md, .tex) and figures (.png, .pdf) that a scale has something of, and
    index.html, into the paper's folder.

    What was not run is shown as such. only: this artifact alone, without the page. Raises
    UnknownName, and at the end CorruptFile for damaged files, naming them: the rest is rendered.
    """
    artifacts = load_artifacts(paper, configs)
    if only is not None:
        listing = f"configs/papers/{paper}/artifacts.yaml"
        require_known("artifact", only, list(artifact_files(paper, configs)), listing)
    wanted = [only] if only is not None else artifacts_at(paper, scale, configs)
    folder = results / scale / paper
    layouts: list[Layout] = []
    figures: dict[str, Path] = {}
    damaged: list[str] = []
    for name in wanted:
        try:
            if name in artifacts.figures:
                title = render_figure(name, paper, scale, configs, results)
                figures[title] = folder / f"{name}.png"
            else:
                layouts.append(render_table(name, paper, scale, configs, results))
        except CorruptFile as error:
            damaged.append(f"{name}: {error}")
    if only is None:
        shown = {of[0] for name in wanted for of in artifact_cells(paper, name, scale, configs)}
        in_tables = experiments_at(scale, list(shown), configs)
        cells = [
            cell_section(results / scale / str(cell), cell, configs.method(cell.method).trains)
            for cell in listed_cells(paper, configs)
            if cell.experiment in in_tables
        ]
        page = render_page(f"entrobench: {paper}, scale {scale}", layouts, figures, cells)
        write_atomic(folder / "index.html", page)
    if damaged:
        raise CorruptFile("not rendered, everything else is:\n  " + "\n  ".join(damaged))


def render_table(name: str, paper: str, scale: str, configs: Configs, results: Path) -> Layout:
    """Write a table's .csv, .md and .tex; return what they show. Raises CorruptFile, naming the file."""
    artifacts = load_artifacts(paper, configs)
    if name in artifacts.tables:
        table = Table(name, artifacts.tables[name], paper, scale, configs, results)
        tidy, shown = table.tidy, layout(table)
    elif name in artifacts.information:
        of = artifacts.information[name]
        tidy, shown = information_table(name, of, paper, scale, configs, results)
    else:
        tidy, shown = sizes_table(name, artifacts.sizes[name], paper, scale, configs, results)
    path = results / scale / paper / name
    write_atomic(path.with_suffix(".csv"), tidy.to_csv(index=False), keep_same=True)
    for suffix in ("md", "tex"):
        write_atomic(path.with_suffix(f".{suffix}"), render(f"table.{suffix}.j2", t=shown), keep_same=True)
    return shown


def render_figure(name: str, paper: str, scale: str, configs: Configs, results: Path) -> str:
    """Write a figure's .png and .pdf; return its title. Raises CorruptFile, naming the file."""
    from entrobench.report.figure import draw_figure, save  # matplotlib, which a table's job does not need

    figure = load_artifacts(paper, configs).figures[name]
    shown = figure_lines(figure, scale, configs)
    several = len({experiment for experiment, _ in shown}) > 1
    lines = {
        configs.method(method).title + (f", {experiment}" if several else ""): [
            Recorded(folder)
            for folder in seed_folders(results / scale / paper / experiment / method)
            if (folder / "metrics.parquet").exists() or (folder / "scores.csv").exists()
        ]
        for experiment, method in shown
    }
    published = configs.protocol(paper).experiments[figure_experiment(figure, scale, configs)].model
    run = stand_in(published, configs.scale(scale).models)
    model = f"{run} for {published}" if run != published else configs.model(run).title
    panels, stand_ins = panels_at(figure, configs.scale(scale))
    title = ", ".join(
        [f"{figure.title} at scale {scale}: {model}", *(f"{own} for {of}" for own, of in stand_ins.items())]
    )
    save(draw_figure(lines, panels, title), results / scale / paper, name)
    return title
