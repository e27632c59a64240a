"""configs/reference.yaml: which cells the reference run is made of."""

from collections.abc import Iterator

from pydantic import Field

from entrobench.cells import CellId
from entrobench.configs import Configs, Strict, load_yaml, require_known


class Group(Strict):
    """Methods on one experiment, in the order in which they are run. baseline: what each is compared with."""

    name: str
    title: str
    experiment: str
    methods: list[str]
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


def cells_of(group: Group, configs: Configs) -> Iterator[CellId]:
    """The group's cells, all seeds of the first method first. Raises UnknownName."""
    for method in group.methods:
        for seed in group.seeds:
            yield CellId.parse(f"{group.experiment}/{method}/seed{seed}", configs)
