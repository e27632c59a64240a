"""Named groups of cells: `papo_table1`, `papo`, `all`, or one cell. Light, as configs.py."""

from collections.abc import Sequence

from entrobench.cells import CellId, listed_cells, previous_cell, require_runnable, why_not
from entrobench.configs import Configs, require_known
from entrobench.errors import ConfigError, UnknownName

ALL = ("all", "all_papers")


def target_names(configs: Configs) -> list[str]:
    """Every target: all, all_papers, each paper, and <paper>_<artifact> of each paper's cells.yaml."""
    papers = configs.papers()
    artifacts = [f"{paper}_{name}" for paper in papers for name in configs.target_groups(paper)]
    return [*ALL, *papers, *artifacts]


def target_cells(target: str, configs: Configs, seeds: int | None = None) -> list[CellId]:
    """The cells of a target, each once. seeds: 0 to seeds - 1 for every cell that trains, in place of those
    listed.

    Raises UnknownName with the nearest target, ConfigError.
    """
    if "/" in target:
        found = [CellId.parse(target, configs)]
    elif target in ALL:
        found = [cell for paper in configs.papers() for cell in listed_cells(paper, configs)]
    elif target in configs.papers():
        found = listed_cells(target, configs)
    else:
        known = target_names(configs)
        try:
            require_known("target", target, known, "entrobench estimate --list")
        except UnknownName as error:
            raise UnknownName(f"{error}\n  Known: {', '.join(known)}, or one cell") from error
        paper, _, name = target.partition("_")
        found = _artifact_cells(paper, name, configs)
    if seeds is not None:
        found = [
            CellId(cell.paper, cell.experiment, cell.method, seed)
            for cell in found
            for seed in (range(seeds) if configs.method(cell.method).trains else [cell.seed])
        ]
    return list(dict.fromkeys(found))


def runnable(cells: Sequence[CellId], scale: str, configs: Configs) -> list[CellId]:
    """Those that can run at this scale. Raises ConfigError, with the reason, where none can."""
    settings = configs.scale(scale)
    found = [cell for cell in cells if not why_not(cell, settings, configs)]
    if cells and not found:
        require_runnable(cells[0], settings, configs)
    return found


def _artifact_cells(paper: str, name: str, configs: Configs) -> list[CellId]:
    listed = listed_cells(paper, configs)
    cells = []
    for group in configs.target_groups(paper)[name]:
        for method in group.methods:
            matching = [c for c in listed if (c.experiment, c.method) == (group.experiment, method)]
            if not matching:
                raise ConfigError(
                    f"{configs.root}/papers/{paper}/cells.yaml: target {name} needs "
                    f"{group.experiment}/{method}, which `cells` does not list. Add it there."
                )
            cells += [cell for cell in matching if not group.seeds or cell.seed in group.seeds]
    return cells


def earlier_cells(cells: list[CellId], configs: Configs) -> list[CellId]:
    """Cells that are no part of `cells` but have to be trained first, because one of them starts from it."""
    missing: list[CellId] = []
    for cell in cells:
        earlier = previous_cell(cell, configs)
        while earlier is not None and earlier not in cells and earlier not in missing:
            missing.append(earlier)
            earlier = previous_cell(earlier, configs)
    return missing
