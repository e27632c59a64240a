"""Models: fetched at their pinned revision, converted, or made on the spot."""

from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from entrobench.cli.options import checkout_configs, complete_model

Folder = Annotated[Path, typer.Argument(help="Where the model is written.")]


def add_to(app: typer.Typer) -> None:
    """Add this group's verbs."""
    for verb in (fetch_model, convert_smollm2, pretrain_model):
        app.command(rich_help_panel="Models")(verb)


def fetch_model(
    model: Annotated[str, typer.Argument(help="Name of configs/models.", autocompletion=complete_model)],
    folder: Folder,
) -> None:
    """Get a published model at its pinned revision, from the mirror or the hub."""
    from entrobench.models.hub import fetch_model

    fetch_model(checkout_configs().model(model), folder)


def convert_smollm2(
    folder: Folder,
    gguf: Annotated[
        Path | None,
        typer.Option(help="GGUF file (default: that of the installed package)."),
    ] = None,
) -> None:
    """Convert SmolLM2-135M-Instruct to Hugging Face's format."""
    from entrobench.models.smollm2 import convert, find_gguf

    convert(gguf or find_gguf(), folder)


def pretrain_model(
    folder: Folder,
    steps: Annotated[int | None, typer.Option(help="Optimizer steps.")] = None,
    seed: Annotated[int | None, typer.Option(help="Of weights and data.")] = None,
    threads: Annotated[int, typer.Option(help="Of torch.")] = 1,
    min_accuracy: Annotated[float | None, typer.Option(help="In-domain mean@8 that it has to reach.")] = None,
    max_accuracy: Annotated[float | None, typer.Option(help="In-domain mean@8 that it may reach.")] = None,
    min_entropy: Annotated[float | None, typer.Option(help="Nats a token that it has to keep.")] = None,
    agent: Annotated[
        bool, typer.Option("--agent", help="The one that does errands over several turns, too.")
    ] = False,
    kept: Annotated[
        Path | None, typer.Option(help="A model to copy instead, if it was pretrained with these settings.")
    ] = None,
) -> None:
    """Pretrain a tiny base model of the smoke scale; fails outside its bounds of accuracy and entropy."""
    from entrobench.models.pretraining import AGENT, Pretraining, copy_kept

    sizes = {name: value for name, value in (("steps", steps), ("seed", seed)) if value is not None}
    settings = replace(AGENT if agent else Pretraining(), **sizes)
    if kept is not None and copy_kept(kept, folder, settings):
        print(f"{folder}: {kept}, which was pretrained with these settings")
        return

    import torch

    from entrobench.models import tiny_agent
    from entrobench.models.tiny import Bounds, arithmetic, pretrain

    torch.set_num_threads(threads)
    given = {"min_accuracy": min_accuracy, "max_accuracy": max_accuracy, "min_entropy": min_entropy}
    bounds = Bounds(**{name: value for name, value in given.items() if value is not None})
    pretrain(folder, settings, bounds, tiny_agent.agent() if agent else arithmetic())
