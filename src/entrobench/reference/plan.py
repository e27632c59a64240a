"""configs/reference.yaml: which cells the reference run is made of."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pydantic import Field, model_validator

from entrobench.cells import CellId, listed_cells, previous_cell, resolve, why_not
from entrobench.configs import Configs, Strict, load_yaml, require_known
from entrobench.report.artifacts import figure_lines, load_artifacts
from entrobench.runs.identity import settings_of


class Group(Strict):
    """Methods on one experiment, in the order in which they are run, each compared with `baseline` if there
    is one; or the listed cells of a paper, for its own tables and figures.
    """

    name: str
    title: str
    seeds: list[int] = Field(min_length=1)
    experiment: str = ""
    methods: list[str] = Field(default_factory=list)
    baseline: str = ""
    paper: str = ""

    @property
    def heading(self) -> str:
        """The title as a section begins with it."""
        return self.title[0].upper() + self.title[1:]

    @model_validator(mode="after")
    def _is_of_one_kind(self) -> "Group":
        if bool(self.experiment and self.methods) == bool(self.paper):
            raise ValueError("expected experiment and methods, or paper")
        return self


class Reference(Strict):
    """configs/reference.yaml. scale: of all its cells."""

    scale: str
    groups: list[Group]

    def group(self, name: str) -> Group:
        """A group. Raises UnknownName."""
        require_known("group", name, [group.name for group in self.groups], "configs/reference.yaml")
        return next(group for group in self.groups if group.name == name)

    def comparisons(self) -> list[Group]:
        """The groups that compare methods."""
        return [group for group in self.groups if group.baseline]


def load_reference(configs: Configs) -> Reference:
    """Read configs/reference.yaml. Raises ConfigError."""
    return load_yaml(configs.root / "reference.yaml", Reference)


def cells_of(group: Group, reference: Reference, configs: Configs) -> Iterator[CellId]:
    """The group's cells, all seeds of the first method first; of a paper those that can run at this scale:
    first those that others go on from, so that none of them is left out as the same run as another, and last
    those that go on. Raises UnknownName.
    """
    if group.experiment:
        for method in group.methods:
            for seed in group.seeds:
                yield CellId.parse(f"{group.experiment}/{method}/seed{seed}", configs)
        return
    scale = configs.scale(reference.scale)
    listed = [cell for cell in listed_cells(group.paper, configs) if cell.seed in group.seeds]
    earlier = {cell: previous_cell(cell, configs) for cell in listed}
    yield from sorted(
        (cell for cell in listed if not why_not(cell, scale, configs)),
        key=lambda cell: (earlier[cell] is not None, cell not in earlier.values()),
    )


def shows_interventions(cell: CellId, scale: str, configs: Configs) -> bool:
    """Whether a figure of its paper shows, at this scale, replaced tokens of the cell's answers."""
    return any(
        figure.needs_interventions and (cell.experiment, cell.method) in figure_lines(figure, scale, configs)
        for figure in load_artifacts(cell.paper, configs).figures.values()
    )


def signature(cell: CellId, reference: Reference, configs: Configs) -> str:
    """What the cell's training and evaluation depend on, as text: cells that differ in model, size or paper
    only where this scale has one stand-in for both are the same run.
    """
    resolved = resolve(str(cell), reference.scale, configs, Path("results"))
    evaluation: dict[str, dict[str, Any]] = resolved["evaluation"]
    depends = {
        "training": settings_of(resolved) if resolved["trains"] else None,
        "model": [resolved["model"].get(key) for key in ("name", "trained_by", "starts_at")],
        "training set": [resolved["dataset"]["train_file"], resolved["dataset"]["prompt"]],
        "evaluation": {
            name: {key: value for key, value in entry.items() if key != "stands_for"}
            for name, entry in evaluation.items()
        },
    }
    if not resolved["trains"]:
        del depends["training set"]
    return json.dumps(depends, sort_keys=True)
