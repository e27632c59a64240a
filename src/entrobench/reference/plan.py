"""configs/reference.yaml: which cells the reference run is made of."""

from collections.abc import Iterator
from typing import Literal

from pydantic import Field

from entrobench.cells import CellId
from entrobench.configs import Configs, Strict, load_yaml, require_known


class Group(Strict):
    """Methods on one experiment. methods: `all` that train. baseline: what each is compared with."""

    name: str
    title: str
    experiment: str
    methods: list[str] | Literal["all"]
    seeds: list[int] = Field(min_length=1)
    baseline: str


class Reference(Strict):
    """configs/reference.yaml. scale: of all its cells."""

    scale: str
    groups: list[Group]

    def group(self, name: str) -> Group:
        """A group. Raises UnknownName."""
        require_known("group", name, [group.name for group in self.groups], "configs/reference.yaml")
        return next(group for group in self.groups if group.name == name)


def load_reference(configs: Configs) -> Reference:
    """Read configs/reference.yaml. Raises ConfigError."""
    return load_yaml(configs.root / "reference.yaml", Reference)


def methods_of(group: Group, configs: Configs) -> list[str]:
    """Names of the group's methods, the baseline first."""
    trained = [name for name in configs.names("methods") if configs.method(name).trains]
    names = trained if group.methods == "all" else group.methods
    return [group.baseline, *(name for name in names if name != group.baseline)]


def cells_of(group: Group, configs: Configs) -> Iterator[CellId]:
    """The group's cells, all methods of the first seed first. Raises UnknownName."""
    for seed in group.seeds:
        for method in methods_of(group, configs):
            yield CellId.parse(f"{group.experiment}/{method}/seed{seed}", configs)
