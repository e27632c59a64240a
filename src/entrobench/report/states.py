"""What there is of every table and figure of a paper at a scale, and what the rest costs."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Literal

from entrobench.cells import CellId, listed_cells, resolve, status_of
from entrobench.configs import Configs
from entrobench.cost.estimate import architecture_of, cost_of, load_assumptions, site_gpu
from entrobench.errors import ConfigError, CorruptFile
from entrobench.files import write_atomic
from entrobench.machine.site import Gpus, site_or_none
from entrobench.provenance.code import stale
from entrobench.report.artifacts import artifact_cells, artifacts_at, benchmarks_of, load_artifacts
from entrobench.report.publication import load_publication

State = Literal["complete", "partial", "not run", "not at this scale", "not drawn"]


@dataclass(frozen=True)
class ArtifactState:
    """done of `cells` are there; the paper's has `of_paper`. of: what these are, evaluated runs (a cell and
    seed each) or prepared benchmarks. left: what the others cost, in words. lacks: what the paper's has and
    ours has not.
    """

    paper: str
    name: str
    title: str
    state: State
    done: int = 0
    cells: int = 0
    of_paper: int = 0
    left: str = ""
    lacks: str = ""
    of: str = "runs"

    @property
    def text(self) -> str:
        """The state and its numbers."""
        if self.state in ("not drawn", "not at this scale"):
            return self.state
        if self.state == "not run" and self.left:
            return f"not run: {self.left}"
        text = f"{self.state}: {self.done} of {self.cells} {self.of}"
        if self.of_paper > self.cells:
            text += f" that this scale has, of {self.of_paper}"
        return f"{text}; not run: {self.left}" if self.left else text


def artifact_states(paper: str, scale: str, configs: Configs, results: Path) -> list[ArtifactState]:
    """Every table and figure that the paper has, in the order of their names. Raises UnknownName."""
    artifacts = load_artifacts(paper, configs)
    publication = load_publication(paper, configs)
    found = [
        ArtifactState(paper, name, each.title, "not drawn", lacks=each.why)
        for name, each in artifacts.not_drawn.items()
    ]
    tables = artifacts.tables | artifacts.information | artifacts.sizes
    titles = {name: (publication.table(name).title, table.lacks) for name, table in tables.items()}
    titles |= {name: (figure.title, figure.lacks) for name, figure in artifacts.figures.items()}
    shown = artifacts_at(paper, scale, configs)
    for name, (title, lacks) in titles.items():
        benchmarks = benchmarks_of(paper, name, configs)
        of_paper = runs_of(paper, artifact_cells(paper, name, scale, configs), configs)
        cells = at_scale(of_paper, scale, configs)
        if benchmarks:
            done = sum((results / scale / "benchmarks" / f"{each}.jsonl").exists() for each in benchmarks)
            numbers = done, len(benchmarks), len(benchmarks)
        else:
            done = sum(is_done(cell, scale, configs, results) for cell in cells)
            numbers = done, len(cells), len(of_paper)
        state = _state(*numbers[:2]) if name in shown else "not at this scale"
        left = hours_left(cells, scale, configs, results)
        of = "benchmarks" if benchmarks else "runs"
        found.append(ArtifactState(paper, name, title, state, *numbers, left, lacks, of))
    return sorted(found, key=lambda each: _order(each.name))


def _state(done: int, number: int) -> State:
    return "complete" if done == number else "partial" if done else "not run"


def _order(name: str) -> tuple[bool, int, str]:
    """Tables first, then by number."""
    number = re.search(r"\d+", name)
    return not name.startswith("table"), int(number[0]) if number else 0, name


def runs_of(paper: str, cells: Iterable[tuple[str, str]], configs: Configs) -> list[CellId]:
    """The listed runs, cells and seeds, of (experiment, method)."""
    wanted = set(cells)
    return [cell for cell in listed_cells(paper, configs) if (cell.experiment, cell.method) in wanted]


def at_scale(cells: Iterable[CellId], scale: str, configs: Configs) -> list[CellId]:
    """Those that a report at this scale shows."""
    shown = set(configs.scale(scale).cells)
    return [cell for cell in cells if not shown or f"{cell.experiment}/{cell.method}" in shown]


def is_done(cell: CellId, scale: str, configs: Configs, results: Path) -> bool:
    """Trained and evaluated."""
    return status_of(results / scale / str(cell), configs.method(cell.method).trains) == "done"


def hours_left(cells: Sequence[CellId], scale: str, configs: Configs, results: Path) -> str:
    """`N cells, H GPU-hours` of those that are not done; empty where all are, or the scale has no GPU."""
    left = [cell for cell in cells if not is_done(cell, scale, configs, results)]
    if not left:
        return ""
    if configs.scale(scale).device != "cuda":
        return f"{len(left)} run{'s' * (len(left) > 1)}"
    hours = [gpu_hours(cell, scale, configs, results) for cell in left]
    unknown = sum(value is None for value in hours)
    text = f"{len(left)} cells, {sum(value or 0 for value in hours):,.0f} GPU-hours"
    return f"{text} and {unknown} that cannot be estimated" if unknown else text


def left_of(paper: str, cells: Iterable[tuple[str, str]], scale: str, configs: Configs, results: Path) -> str:
    """hours_left of the runs of (experiment, method) that a report at this scale shows."""
    return hours_left(at_scale(runs_of(paper, cells, configs), scale, configs), scale, configs, results)


def stale_of(
    paper: str, cells: Iterable[tuple[str, str]], scale: str, configs: Configs, results: Path
) -> str:
    """What of those runs was made by code that has changed since; empty for nothing."""
    changed = [
        f"{cell.experiment}/{cell.method}/seed{cell.seed} {step} ({', '.join(reasons)})"
        for cell in at_scale(runs_of(paper, cells, configs), scale, configs)
        for step, reasons in stale(results / scale / str(cell)).items()
    ]
    more = f" and {len(changed) - 5} more" if len(changed) > 5 else ""
    return "; ".join(changed[:5]) + more


@lru_cache(maxsize=2048)
def gpu_hours(cell: CellId, scale: str, configs: Configs, results: Path) -> float | None:
    """Of a cell on the site's GPUs, else on the default ones; None for one that does not fit there."""
    site = site_or_none(configs.root)
    gpu = site_gpu(site.gpus if site is not None else Gpus())
    try:
        resolved = resolve(str(cell), scale, configs, results)
        model = architecture_of(resolved["model"]["name"], scale, configs, results)
        return cost_of(
            cell, resolved, model, configs, results, load_assumptions(configs), True, gpu
        ).gpu_hours
    except ConfigError:
        return None


BEGIN, END = "<!-- entrobench artifacts --docs docs/papers -->\n", "<!-- end -->\n"


def update_page(page: Path, states: Sequence[ArtifactState]) -> None:
    """Write a table of all artifacts between the marks of a page of docs/papers. Raises CorruptFile for one
    without the marks.
    """
    before, begin, rest = page.read_text().partition(BEGIN)
    _, end, after = rest.partition(END)
    if not (begin and end):
        raise CorruptFile(f"{page}: expected the lines {BEGIN.strip()} and {END.strip()}")
    lines = ["| | runs | left to run | not here | command |", "|---|---|---|---|---|"]
    for each in states:
        is_drawn = each.state != "not drawn"
        command = f"`snakemake {each.paper}_{each.name} --config scale=paper`" if is_drawn else ""
        runs = "not drawn" if not is_drawn else str(each.cells) if each.of == "runs" else each.of
        lines.append(f"| {each.title} | {runs} | {each.left} | {each.lacks} | {command} |")
    write_atomic(page, before + begin + "\n".join(lines) + "\n" + end + after)


def as_text(found: Mapping[str, Sequence[ArtifactState]], scale: str) -> str:
    """A block a paper, a line an artifact."""
    lines = []
    for paper, states in found.items():
        lines.append(f"{paper} at scale {scale}")
        for each in states:
            lines.append(f"  {each.name:<22}{each.title}: {each.text}")
            if each.lacks:
                lines.append(
                    f"  {'':<22}  without {each.lacks}"
                    if each.state != "not drawn"
                    else f"  {'':<22}  {each.lacks}"
                )
    return "\n".join(lines)
