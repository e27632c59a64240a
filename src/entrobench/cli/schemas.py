"""JSON schemas of every configuration file, for editors: made from the models that read the files."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from entrobench.files import write_atomic
from entrobench.paths import repository_root

if TYPE_CHECKING:
    from pydantic import BaseModel

FOLDER = Path("workflow") / "schemas"
# Name of a schema -> the files below configs/ that it describes
FILES = {
    "config": ["config.yaml"],
    "site": ["site.example.yaml"],
    "trainer": ["trainer.yaml"],
    "estimate": ["estimate.yaml"],
    "statistics": ["statistics.yaml"],
    "reference": ["reference.yaml"],
    "other_files": ["other_files.yaml"],
    "scale": ["scales/*.yaml"],
    "device": ["devices/*.yaml"],
    "method": ["methods/*.yaml"],
    "model": ["models/*.yaml"],
    "dataset": ["datasets/*.yaml"],
    "benchmark": ["benchmarks/*.yaml"],
    "prompt": ["prompts/*.yaml"],
    "protocol": ["papers/*/protocol.yaml"],
    "cells": ["papers/*/cells.yaml"],
    "artifacts": ["papers/*/artifacts.yaml"],
    "publication": ["papers/*/publication.yaml"],
    "claims": ["papers/*/claims.yaml"],
}


def add_to(app: typer.Typer) -> None:
    """Add this group's verb."""
    app.command(rich_help_panel="Development")(schemas)


def schemas(
    folder: Annotated[Path | None, typer.Option(help="Default: workflow/schemas of the checkout.")] = None,
) -> None:
    """Write the JSON schemas of the configuration files, which editors complete and check with."""
    target = folder or repository_root() / FOLDER
    for name, text in schema_texts().items():
        write_atomic(target / schema_file(name), text)
    print(f"{len(FILES)} schemas: {target}")


def schema_file(name: str) -> str:
    """File of a schema in its folder."""
    return f"{name}.schema.json"


def schema_texts() -> dict[str, str]:
    """Name of a schema -> its text."""
    head = {"$schema": "https://json-schema.org/draft/2020-12/schema"}
    return {
        name: json.dumps(head | model.model_json_schema(), indent=1, ensure_ascii=False) + "\n"
        for name, model in models().items()
    }


def models() -> dict[str, type["BaseModel"]]:
    """Name of a schema -> the model that reads its files."""
    from entrobench import configs
    from entrobench.cost.estimate import Assumptions
    from entrobench.data.verification import OtherFiles
    from entrobench.machine.site import Site
    from entrobench.reference.plan import Reference
    from entrobench.report.artifacts import Artifacts
    from entrobench.report.claims import Claims
    from entrobench.report.publication import Publication
    from entrobench.report.resolution import StatisticsAssumptions

    return {
        "config": configs.RunConfig,
        "site": Site,
        "trainer": configs.Trainer,
        "estimate": Assumptions,
        "statistics": StatisticsAssumptions,
        "reference": Reference,
        "other_files": OtherFiles,
        "scale": configs.Scale,
        "device": configs.Device,
        "method": configs.Method,
        "model": configs.Model,
        "dataset": configs.Dataset,
        "benchmark": configs.Benchmark,
        "prompt": configs.PromptFile,
        "protocol": configs.Protocol,
        "cells": configs.CellList,
        "artifacts": Artifacts,
        "publication": Publication,
        "claims": Claims,
    }
