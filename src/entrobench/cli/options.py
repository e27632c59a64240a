"""Options that several verbs share, with completion from the configuration."""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from entrobench.paths import repository_root

if TYPE_CHECKING:
    from entrobench.configs import Configs


def checkout_configs() -> "Configs":
    """The configuration of this checkout."""
    from entrobench.configs import Configs

    return Configs(repository_root() / "configs")


def _names(kind: str, incomplete: str) -> list[str]:
    return [name for name in checkout_configs().names(kind) if name.startswith(incomplete)]


def _cells(incomplete: str) -> list[str]:
    from entrobench.cells import listed_cells

    configs = checkout_configs()
    names = [str(cell) for paper in configs.papers() for cell in listed_cells(paper, configs)]
    return [name for name in names if name.startswith(incomplete)]


def _papers(incomplete: str) -> list[str]:
    return [name for name in ("all", *checkout_configs().papers()) if name.startswith(incomplete)]


def complete_scale(incomplete: str) -> list[str]:
    """Scales that begin with what was typed."""
    return _names("scales", incomplete)


def complete_method(incomplete: str) -> list[str]:
    """Methods that begin with what was typed."""
    return _names("methods", incomplete)


def complete_dataset(incomplete: str) -> list[str]:
    """Training sets that begin with what was typed."""
    return _names("datasets", incomplete)


def complete_benchmark(incomplete: str) -> list[str]:
    """Benchmarks that begin with what was typed."""
    return _names("benchmarks", incomplete)


def complete_prompt(incomplete: str) -> list[str]:
    """Prompt files that begin with what was typed."""
    return _names("prompts", incomplete)


def complete_model(incomplete: str) -> list[str]:
    """Models that begin with what was typed."""
    return _names("models", incomplete)


Scale = Annotated[
    str, typer.Option(help="smoke, slice, mini or paper: configs/scales.", autocompletion=complete_scale)
]
Results = Annotated[Path, typer.Option(help="Results folder.")]
Cell = Annotated[
    str,
    typer.Argument(help="<paper>/<experiment>/<method>/seed<k>.", autocompletion=_cells),
]
Cells = Annotated[
    list[str],
    typer.Argument(help="<paper>/<experiment>/<method>/seed<k>, one or several.", autocompletion=_cells),
]
Paper = Annotated[str, typer.Option(help="A paper, or all.", autocompletion=_papers)]
PromptOf = Annotated[
    str,
    typer.Option(
        "--prompt", help="The paper whose protocol says how the rows are asked.", autocompletion=_papers
    ),
]
AllowDirty = Annotated[bool, typer.Option("--allow-dirty", help="Although the checkout has changes.")]
Seeds = Annotated[int | None, typer.Option(help="Seeds 0 to N - 1 of every trained cell.")]
Limit = Annotated[int | None, typer.Option(help="Keep a seeded slice of so many.")]
Seed = Annotated[int, typer.Option(help="Of the slice.")]


def set_allow_dirty(allow_dirty: bool) -> None:
    """Tell this process and what it starts to run although the checkout has changes, where that is asked."""
    if allow_dirty:
        os.environ["ENTROBENCH_ALLOW_DIRTY"] = "1"
