"""Builds everything that a paper's report consists of, from the cells' files."""

from pathlib import Path

import pandas as pd

from entrobench.cells import listed_cells, stand_in
from entrobench.configs import Configs, require_known
from entrobench.errors import CorruptFile
from entrobench.files import read_parquet, write_atomic
from entrobench.report.artifacts import (
    Artifacts,
    artifact_files,
    experiments_at,
    figure_experiment,
    load_artifacts,
    seed_folders,
)
from entrobench.report.figure import draw_dynamics, save
from entrobench.report.page import cell_section, render_page
from entrobench.report.render import render
from entrobench.report.table import Table
from entrobench.report.table_text import Layout, layout


def build_report(paper: str, scale: str, configs: Configs, results: Path, only: str | None = None) -> None:
    """Write each table (.csv, .md, .tex), each figure (.png, .pdf) and index.html into the paper's folder.

    What was not run is shown as such. only: this artifact alone, without the page. Raises UnknownName, or
    CorruptFile for a damaged file, naming it.
    """
    artifacts = load_artifacts(paper, configs)
    if only is not None:
        listing = f"configs/papers/{paper}/artifacts.yaml"
        require_known("artifact", only, list(artifact_files(paper, configs)), listing)
    folder = results / scale / paper
    layouts: list[Layout] = []
    for name, artifact in artifacts.tables.items():
        if only in (None, name):
            layouts.append(_write_table(Table(name, artifact, paper, scale, configs, results), folder / name))
    figures = {
        _draw(name, artifacts, paper, scale, configs, results): folder / f"{name}.png"
        for name in artifacts.figures
        if only in (None, name)
    }
    if only is not None:
        return
    shown = {experiment for table in artifacts.tables.values() for experiment in table.models.values()}
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
    experiment = figure_experiment(figure, artifacts, scale, configs)
    curves = {
        configs.method(method).title: _curve(seed_folders(results / scale / paper / experiment / method))
        for method in figure.methods
    }
    models = {of: model for table in artifacts.tables.values() for model, of in table.models.items()}
    published = configs.protocol(paper).experiments[experiment].model
    run = stand_in(published, configs.scale(scale).models)
    model = f"{run} for {models[experiment]}" if run != published else models[experiment]
    title = f"{figure.title} at scale {scale}: {model}"
    save(draw_dynamics(curves, title), results / scale / paper, name)
    return title


def _curve(folders: list[Path]) -> pd.DataFrame | None:
    """Curve of the first seed that has one. Raises CorruptFile where a column that is drawn is missing."""
    for folder in folders:
        path = folder / "metrics.parquet"
        if path.exists():
            curve = read_parquet(path)
            missing = sorted({"step", "reward", "entropy"} - set(curve.columns))
            if missing:
                raise CorruptFile(f"{path} lacks the columns {missing}. Delete it and train the cell again.")
            return curve
    return None
