"""One self-contained HTML page: tables, figures, and each cell's settings, provenance, commands, scores."""

import base64
from pathlib import Path
from typing import Any

from entrobench.cells import CellId, read_cell, status_of
from entrobench.files import read_csv, read_json, read_parquet
from entrobench.provenance.code import stale
from entrobench.report.render import render
from entrobench.report.table_text import Layout


def cell_section(folder: Path, cell: CellId, trains: bool) -> dict[str, Any]:
    """What the page shows of one cell; a part that was not made is None."""
    manifest = read_cell(folder / "cell.yaml") if (folder / "cell.yaml").exists() else None
    done = {name: _json_or_none(folder / f"{name}.done.json") for name in ("train", "eval")}
    scores = read_csv(folder / "scores.csv") if (folder / "scores.csv").exists() else None
    not_run = (done["eval"] or {}).get("not_run", {})
    notes = [f"not run: {benchmark}: {reason}" for benchmark, reason in not_run.items()]
    return {
        "name": str(cell),
        "status": status_of(folder, trains),
        "manifest": manifest,
        "done": done,
        "notes": [*_passes(folder), *(done["train"] or {}).get("notes", []), *notes, *_stale(folder)],
        "commands": [part["command"] for part in done.values() if part],
        "scores": None if scores is None else scores.to_dict("records"),
    }


def _stale(folder: Path) -> list[str]:
    return [f"stale {step}: {'; '.join(reasons)}" for step, reasons in stale(folder).items()]


def _passes(folder: Path) -> list[str]:
    """How much data a run went through: with dynamic sampling its number of steps does not say."""
    path = folder / "metrics.parquet"
    if not path.exists():
        return []
    curve = read_parquet(path)
    if "sampling/passes" not in curve:
        return []
    generated = int(curve["sampling/prompts_generated"].sum())
    return [f"{curve['sampling/passes'].iloc[-1]:.2f} passes over the training set, {generated:,} prompts"]


def _json_or_none(path: Path) -> Any:
    return read_json(path) if path.exists() else None


def render_page(
    title: str, tables: list[Layout], figures: dict[str, Path], cells: list[dict[str, Any]]
) -> str:
    """The page as HTML text. figures: title -> PNG file, inlined, so that the page needs no other file."""
    shown = [
        {"title": name, "png": base64.b64encode(png.read_bytes()).decode()} for name, png in figures.items()
    ]
    return render("page.html.j2", title=title, tables=tables, figures=shown, cells=cells)
