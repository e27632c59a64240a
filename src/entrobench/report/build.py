"""Builds everything that a paper's report consists of, from the cells' files."""

from pathlib import Path

import pandas as pd

from entrobench.cells import listed_cells
from entrobench.configs import Configs
from entrobench.errors import CorruptFile
from entrobench.files import read_parquet, write_atomic
from entrobench.report.artifacts import experiments_at, load_artifacts, seed_folders
from entrobench.report.figure import draw_dynamics, save
from entrobench.report.page import cell_section, render_page
from entrobench.report.render import render
from entrobench.report.table import Table


def build_report(paper: str, scale: str, configs: Configs, results: Path) -> None:
    """Write table1.{csv,md,tex}, figure5.{png,pdf} and index.html into results/<scale>/<paper>/.

    What was not run is shown as such. Raises CorruptFile for a damaged file, naming it.
    """
    artifacts = load_artifacts(paper, configs)
    folder = results / scale / paper
    table = Table(artifacts.table1, paper, scale, configs, results)
    blocks, caption = table.blocks(), table.caption()
    title = f"{artifacts.table1.title}, scale {scale}"
    write_atomic(folder / "table1.csv", table.tidy.to_csv(index=False))
    for suffix in ("md", "tex"):
        text = render(f"table.{suffix}.j2", title=title, caption=caption, blocks=blocks)
        write_atomic(folder / f"table1.{suffix}", text)

    figure5 = artifacts.figure5
    # The paper's experiment if this scale has it, else the one that it has
    experiment = experiments_at(scale, [figure5.experiment, *artifacts.table1.models.values()], configs)[0]
    curves = {
        configs.method(method).title: _curve(seed_folders(results / scale / paper / experiment / method))
        for method in figure5.methods
    }
    model = next(label for label, name in artifacts.table1.models.items() if name == experiment)
    figure_title = f"{figure5.title} at scale {scale}: {table.model_label(model)}"
    save(draw_dynamics(curves, figure_title), folder, "figure5")

    shown = experiments_at(scale, list(artifacts.table1.models.values()), configs)
    cells = [
        cell_section(results / scale / str(cell), cell, configs.method(cell.method).trains)
        for cell in listed_cells(paper, configs)
        if cell.experiment in shown
    ]
    page_title = f"entrobench: {paper}, scale {scale}"
    page = render_page(page_title, caption, blocks, folder / "figure5.png", figure_title, cells)
    write_atomic(folder / "index.html", page)


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
