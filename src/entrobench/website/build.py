"""Writes results/<scale>/site: static pages that need no server and no network."""

import importlib.resources
import json
import shutil
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any

from entrobench.cells import CellId, listed_cells, read_cell, status_of
from entrobench.configs import Configs
from entrobench.errors import CorruptFile
from entrobench.files import read_csv, read_json, read_parquet, stream_jsonl, write_atomic
from entrobench.report.artifacts import FigureArtifact, artifacts_at, load_artifacts
from entrobench.report.audit import audit
from entrobench.report.build import render_figure
from entrobench.report.claims import answers
from entrobench.report.information import information_table
from entrobench.report.protocol_audit import protocol_audit
from entrobench.report.sizes import sizes_table
from entrobench.report.states import artifact_states, at_scale, gpu_hours
from entrobench.report.table import Table
from entrobench.report.table_text import Layout, layout
from entrobench.website.curves import specs_of
from entrobench.website.methods import method_context
from entrobench.website.pages import KINDS, page_of, render_page
from entrobench.website.samples import write_pieces

VEGA = "vega.js"


@dataclass(frozen=True)
class Written:
    """How many pages, and what is missing from them because a file is damaged."""

    pages: int
    damaged: list[str]


def build_site(scale: str, configs: Configs, results: Path, say: Callable[[str], None] = print) -> Written:
    """Write the site of a scale from what has run. say: told each part as it begins.

    A damaged file is named on the pages that would show it and in what is returned; the rest is written.
    """
    site = _Site(scale, configs, results)
    parts: dict[str, Callable[[], None]] = {"assets": site.write_assets}
    parts |= {f"benchmark {name}": partial(site.write_benchmark, name) for name in site.samples}
    parts |= {f"cell {cell}": partial(site.write_cell, cell) for cell in site.there}
    parts |= {f"paper {paper}": partial(site.write_paper, paper) for paper in configs.papers()}
    parts |= {"methods": site.write_methods, "index": site.write_index}
    for number, (name, part) in enumerate(parts.items(), start=1):
        say(f"[{number}/{len(parts)}] {name}")
        part()
    return Written(site.pages, site.damaged)


class _Site:
    def __init__(self, scale: str, configs: Configs, results: Path) -> None:
        self.scale = scale
        self.configs = configs
        self.results = results
        self.folder = results / scale / "site"
        self.pages = 0
        self.damaged: list[str] = []

    # -- what there is ---------------------------------------------------------------------------------------

    @cached_property
    def listed(self) -> list[CellId]:
        """Every cell of the four papers that this scale shows, and every other one that has a folder."""
        of_papers = [cell for paper in self.configs.papers() for cell in listed_cells(paper, self.configs)]
        listed = at_scale(of_papers, self.scale, self.configs)
        there = sorted((self.results / self.scale).glob("*/*/*/seed*/cell.yaml"))
        names = ["/".join(path.parts[-5:-1]) for path in there]
        others = [CellId.parse(name, self.configs) for name in names]
        return list(dict.fromkeys([*listed, *others]))

    @cached_property
    def states(self) -> dict[str, str]:
        """Cell -> done, partial, not run."""
        return {
            str(cell): status_of(self.run(cell), self.configs.method(cell.method).trains)
            for cell in self.listed
        }

    @cached_property
    def there(self) -> list[CellId]:
        """Cells that have a page."""
        return [cell for cell in self.listed if (self.run(cell) / "cell.yaml").exists()]

    @cached_property
    def samples(self) -> dict[str, dict[str, Path]]:
        """Entry of an evaluation -> cell -> its samples."""
        found: dict[str, dict[str, Path]] = {}
        for cell in self.there:
            for path in sorted((self.run(cell) / "eval").glob("*/samples.jsonl")):
                found.setdefault(path.parent.name, {})[str(cell)] = path
        return found

    def run(self, cell: CellId) -> Path:
        """The folder of a cell."""
        return self.results / self.scale / str(cell)

    # -- writing ---------------------------------------------------------------------------------------------

    def _write(self, path: str, template: str, up: str = "../", **values: Any) -> None:
        values |= {
            "scale": self.scale,
            "papers": self.configs.papers(),
            "has_page": {str(cell) for cell in self.there},
        }
        write_atomic(self.folder / path, render_page(template, up, **values))
        self.pages += 1

    def _or_damaged(self, part: Callable[[], Any]) -> tuple[Any, str]:
        """What a part gives, and what is wrong where it cannot."""
        try:
            return part(), ""
        except CorruptFile as error:
            self.damaged.append(str(error))
            return None, str(error)

    def write_assets(self) -> None:
        """Style and programs; the folders of the pages, without pages of before."""
        for kind in KINDS:
            shutil.rmtree(self.folder / kind, ignore_errors=True)
        assets = self.folder / "assets"
        assets.mkdir(parents=True, exist_ok=True)
        for asset in importlib.resources.files("entrobench.website").joinpath("assets").iterdir():
            write_atomic(assets / asset.name, asset.read_text())
        if not (assets / VEGA).exists():
            import vl_convert

            bundle = vl_convert.javascript_bundle  # the stub wants a snippet, the function has one
            write_atomic(assets / VEGA, bundle())  # type: ignore[call-arg]

    def write_benchmark(self, name: str) -> None:
        """A page with all problems, and the pieces that it reads."""
        prepared = self.results / self.scale / "benchmarks" / f"{name}.jsonl"
        files = self.samples[name]
        problems = prepared if prepared.exists() else None
        written, damage = self._or_damaged(lambda: write_pieces(self.folder / "data" / name, problems, files))
        known = name in self.configs.names("benchmarks")
        self._write(
            page_of("benchmarks", name),
            "benchmark.html.j2",
            name=name,
            title=self.configs.benchmark(name).title if known else name,
            cells=list(files),
            written=written or {"problems": 0, "samples": 0, "lists": 0},
            damage=damage,
            overlaps=self._overlaps(name),
            messages=self._messages(name),
        )

    def _messages(self, benchmark: str) -> list[dict[str, str]]:
        """How the problems are asked, of the first cell that has them."""
        folder = self.samples[benchmark]
        cell = CellId.parse(next(iter(folder)), self.configs)
        entry = read_cell(self.run(cell) / "cell.yaml")["evaluation"].get(benchmark, {})
        return list((entry.get("prompt") or {}).get("messages", []))

    def _overlaps(self, benchmark: str) -> list[dict[str, Any]]:
        """What training sets have of a benchmark (data/contamination.py)."""
        found = {}
        for path in sorted((self.results / self.scale).glob("*/*/contamination.json")):
            for pair in read_json(path)["pairs"]:
                if pair["benchmark"] == benchmark:
                    found[pair["dataset"]] = pair
        return list(found.values())

    def write_cell(self, cell: CellId) -> None:
        """A page with settings, curves, scores, manifest, lives, commands."""
        folder = self.run(cell)
        values, damage = self._or_damaged(lambda: _cell_values(folder))
        siblings = [
            str(other)
            for other in self.there
            if other != cell and (other.experiment, other.method) == (cell.experiment, cell.method)
        ]
        self._write(
            page_of("cells", str(cell)),
            "cell.html.j2",
            cell=str(cell),
            paper=cell.paper,
            method=cell.method,
            state=self.states[str(cell)],
            siblings=siblings,
            damage=damage,
            **(values or dict.fromkeys(_CELL_VALUES)),
        )

    def write_paper(self, paper: str) -> None:
        """A page of a paper, and one of each of its tables that this scale has something of."""
        artifacts = load_artifacts(paper, self.configs)
        wanted = artifacts_at(paper, self.scale, self.configs)
        tables: dict[str, Table] = {}
        figures: list[dict[str, str]] = []
        problems: dict[str, str] = {}
        for name in wanted:
            if name in artifacts.figures:
                title, problem = self._or_damaged(partial(self._figure, paper, name))
                if not problem:
                    figures.append({"name": name, "title": title, "alt": _alt(artifacts.figures[name])})
            else:
                shown, problem = self._or_damaged(partial(self._table, paper, name, tables))
                if not problem:
                    self._write(
                        page_of("tables", f"{paper}/{name}"), "table.html.j2", paper=paper, name=name, t=shown
                    )
            if problem:
                problems[name] = problem
        claims, problem = self._or_damaged(
            lambda: answers(paper, self.scale, self.configs, self.results, tables)
        )
        self._write(
            page_of("papers", paper),
            "paper.html.j2",
            paper=paper,
            protocol=self.configs.protocol(paper),
            states=artifact_states(paper, self.scale, self.configs, self.results),
            tables=[name for name in wanted if name not in artifacts.figures and name not in problems],
            figures=figures,
            problems=problems | ({"claims": problem} if problem else {}),
            claims=claims or [],
            findings=audit(paper, self.configs),
            audit=protocol_audit(paper, self.scale, self.configs, self.results),
            cells=[str(cell) for cell in self.listed if cell.paper == paper],
            cell_states=self.states,
        )

    def _figure(self, paper: str, name: str) -> str:
        """Draw a figure into the paper's folder and copy it here; return its title."""
        title = render_figure(name, paper, self.scale, self.configs, self.results)
        target = self.folder / "figures" / paper
        target.mkdir(parents=True, exist_ok=True)
        for suffix in ("png", "pdf"):
            shutil.copyfile(
                self.results / self.scale / paper / f"{name}.{suffix}", target / f"{name}.{suffix}"
            )
        return title

    def _table(self, paper: str, name: str, tables: dict[str, Table]) -> Layout:
        artifacts = load_artifacts(paper, self.configs)
        if name in artifacts.information:
            of = artifacts.information[name]
            return information_table(name, of, paper, self.scale, self.configs, self.results)[1]
        if name in artifacts.sizes:
            return sizes_table(name, artifacts.sizes[name], paper, self.scale, self.configs, self.results)[1]
        tables[name] = Table(name, artifacts.tables[name], paper, self.scale, self.configs, self.results)
        return layout(tables[name])

    def write_methods(self) -> None:
        """A page of every method."""
        for name in self.configs.names("methods"):
            context = method_context(name, self.configs, self.states)
            self._write(page_of("methods", name), "method.html.j2", **context)

    def write_index(self) -> None:
        """The first page."""
        states = [
            (
                paper,
                self.configs.protocol(paper),
                artifact_states(paper, self.scale, self.configs, self.results),
            )
            for paper in self.configs.papers()
        ]
        others = sorted(
            path.parents[1].name
            for path in self.results.glob("*/site/index.html")
            if path.parents[1].name != self.scale
        )
        is_gpu = self.configs.scale(self.scale).device == "cuda"
        self._write(
            "index.html",
            "index.html.j2",
            up="",
            states=states,
            others=others,
            cells=[
                (
                    str(cell),
                    self.states[str(cell)],
                    gpu_hours(cell, self.scale, self.configs, self.results) if is_gpu else None,
                )
                for cell in self.listed
            ],
            benchmarks={name: len(cells) for name, cells in self.samples.items()},
            methods=[(name, self.configs.method(name)) for name in self.configs.names("methods")],
            damaged=self.damaged,
        )


def _alt(figure: FigureArtifact) -> str:
    """What a figure shows, for who cannot see it."""
    panels = "; ".join(f"{panel.kind} of {', '.join(panel.of)}" for panel in figure.drawn)
    return f"{panels}. Methods: {', '.join(figure.methods)}."


_CELL_VALUES = (
    "manifest",
    "specs",
    "scores",
    "checkpoints",
    "notes",
    "commands",
    "lives",
    "cell_yaml",
    "files",
)


def _cell_values(folder: Path) -> dict[str, Any]:
    """_CELL_VALUES from the files of a cell; a part that was not made is None or empty."""
    done = [read_json(path) for name in ("train", "eval") if (path := folder / f"{name}.done.json").exists()]
    curve = folder / "metrics.parquet"
    manifest = folder / "manifest.json"
    lives = folder / "lives.jsonl"
    notes = [note for part in done for note in part.get("notes", [])]
    notes += [f"not run: {name}: {why}" for part in done for name, why in part.get("not_run", {}).items()]
    return {
        "manifest": json.dumps(read_json(manifest), indent=1) if manifest.exists() else "",
        "specs": specs_of(read_parquet(curve)) if curve.exists() else {},
        "scores": _rows(folder / "scores.csv"),
        "checkpoints": _rows(folder / "checkpoints.csv"),
        "notes": notes,
        "commands": [part["command"] for part in done if "command" in part],
        "lives": [row for _, row in stream_jsonl(lives)] if lives.exists() else [],
        "cell_yaml": read_cell(folder / "cell.yaml"),
        "files": sorted(path.name for path in folder.iterdir() if path.is_file()),
    }


def _rows(path: Path) -> list[dict[Hashable, Any]]:
    return read_csv(path).to_dict("records") if path.exists() else []


def as_text(written: Written, folder: Path) -> str:
    """What was written, in words."""
    lines = [f"{written.pages} pages: {folder / 'index.html'}"]
    return "\n".join([*lines, *(f"damaged, and named there: {text}" for text in written.damaged)])
