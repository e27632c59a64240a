"""Builds everything that a paper's report consists of, from the cells' files."""

from pathlib import Path

import pandas as pd

from entrobench.cells import listed_cells, stand_in
from entrobench.configs import Configs, require_known
from entrobench.errors import CorruptFile
from entrobench.files import read_parquet, write_atomic
from entrobench.report.artifacts import (
    Artifacts,
    artifact_cells,
    artifact_files,
    artifacts_at,
    experiments_at,
    figure_experiment,
    load_artifacts,
    seed_folders,
)
from entrobench.report.figure import draw_curves, save
from entrobench.report.page import cell_section, render_page
from entrobench.report.render import render
from entrobench.report.table import Table
from entrobench.report.table_text import Layout, layout

# Columns that every curve has; others are of some methods
OF_EVERY_CELL = ("reward", "entropy", "response_length")


def build_report(paper: str, scale: str, configs: Configs, results: Path, only: str | None = None) -> None:
    """Write the tables (.csv, .md, .tex) and figures (.png, .pdf) that a scale has something of, and
    index.html, into the paper's folder.

    What was not run is shown as such. only: this artifact alone, without the page. Raises UnknownName, or
    CorruptFile for a damaged file, naming it.
    """
    artifacts = load_artifacts(paper, configs)
    if only is not None:
        listing = f"configs/papers/{paper}/artifacts.yaml"
        require_known("artifact", only, list(artifact_files(paper, configs)), listing)
    wanted = [only] if only is not None else artifacts_at(paper, scale, configs)
    folder = results / scale / paper
    layouts: list[Layout] = []
    for name, artifact in artifacts.tables.items():
        if name in wanted:
            layouts.append(_write_table(Table(name, artifact, paper, scale, configs, results), folder / name))
    figures = {
        _draw(name, artifacts, paper, scale, configs, results): folder / f"{name}.png"
        for name in artifacts.figures
        if name in wanted
    }
    if only is not None:
        return
    shown = {of[0] for name in wanted for of in artifact_cells(paper, name, scale, configs)}
    in_tables = experiments_at(scale, list(shown), configs)
    cells = [
        cell_section(results / scale / str(cell), cell, configs.method(cell.method).trains)
        for cell in listed_cells(paper, configs)
        if cell.experiment in in_tables
    ]
    page = render_page(f"entrobench: {paper}, scale {scale}", layouts, figures, cells)
    write_atomic(folder / "index.html", page)


def _write_table(table: Table, path: Path) -> Layout:
    shown = layout(table)
    write_atomic(path.with_suffix(".csv"), table.tidy.to_csv(index=False))
    for suffix in ("md", "tex"):
        write_atomic(path.with_suffix(f".{suffix}"), render(f"table.{suffix}.j2", t=shown))
    return shown


def _draw(name: str, artifacts: Artifacts, paper: str, scale: str, configs: Configs, results: Path) -> str:
    """Write a figure; return its title."""
    figure = artifacts.figures[name]
    experiment = figure_experiment(figure, scale, configs)
    panels = [[panel] if isinstance(panel, str) else panel for panel in figure.panels]
    curves = {
        configs.method(method).title: _curves(results / scale / paper / experiment / method, panels)
        for method in figure.methods
    }
    published = configs.protocol(paper).experiments[experiment].model
    run = stand_in(published, configs.scale(scale).models)
    model = f"{run} for {published}" if run != published else configs.model(run).title
    title = f"{figure.title} at scale {scale}: {model}"
    save(draw_curves(curves, panels, title), results / scale / paper, name)
    return title


def _curves(method: Path, panels: list[list[str]]) -> list[pd.DataFrame]:
    """Curves of the seeds that have one. Raises CorruptFile where one lacks what every cell has."""
    curves = []
    for folder in seed_folders(method):
        path = folder / "metrics.parquet"
        if not path.exists():
            continue
        curve = read_parquet(path)
        wanted = {"step", *(column for panel in panels for column in panel if column in OF_EVERY_CELL)}
        if missing := sorted(wanted - set(curve.columns)):
            raise CorruptFile(f"{path} lacks the columns {missing}. Delete it and train the cell again.")
        curves.append(curve)
    return curves
