"""The training of every cell, rehearsed without its GPUs: the memory of each phase of a step."""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from tabulate import tabulate

from entrobench.cells import CellId, resolve
from entrobench.configs import Configs
from entrobench.cost.estimate import architecture_of
from entrobench.cost.memory import (
    GIB,
    Cards,
    Settings,
    cached_sequences,
    cards_of,
    fitting,
    phases,
    wanted_by,
    why_not,
    workload_of,
)
from entrobench.errors import ConfigError

HEADER = ("experiment", "cells", "GPUs", "generate", "transfer", "log-prob", "update", "tokens",
          "tokens", "ranks", "offloaded", "vLLM", "TP", "cached")  # fmt: skip


@dataclass(frozen=True)
class Fit:
    """How cells of one experiment that need the same train on `cards`.

    settings: None where nothing fits, and then `note` says what would help. gigabytes: phase -> GiB of one
    GPU. sequences: of full length, in the cache of one vLLM server.
    """

    experiment: str
    cells: tuple[str, ...]
    cards: Cards
    settings: Settings | None
    gigabytes: dict[str, float]
    sequences: float
    note: str = ""


def rehearse_training(
    cells: Iterable[CellId],
    scale_name: str,
    configs: Configs,
    results: Path,
    gb: float,
    gpus: int | None = None,
) -> list[Fit]:
    """How each cell that trains would fit on cards of `gb` GiB, those that need the same together.

    gpus: of a run, in place of what the cell states. Raises UnknownName, ConfigError, MissingInput.
    """
    together: dict[Any, list[str]] = {}
    for cell in cells:
        resolved = resolve(str(cell), scale_name, configs, results)
        if not resolved["verl"]:
            continue
        work = workload_of(resolved, architecture_of(resolved["model"]["name"], scale_name, configs, results))
        cards = cards_of(resolved, gb)
        if gpus is not None:
            cards = replace(cards, count=gpus, per_node=min(gpus, cards.per_node))
        key = (f"{cell.paper}/{cell.experiment}", work, wanted_by(resolved), cards)
        together.setdefault(key, []).append(str(cell))
    fits = []
    for (experiment, work, wanted, cards), names in together.items():
        settings = fitting(work, wanted, cards)
        if settings is None:
            fits.append(Fit(experiment, tuple(names), cards, None, {}, 0.0, why_not(work, wanted, cards)))
            continue
        gigabytes = {phase: need / GIB for phase, need in phases(work, settings, cards).items()}
        sequences = cached_sequences(work, settings, cards)
        fits.append(Fit(experiment, tuple(names), cards, settings, gigabytes, sequences))
    return fits


def require_fit(fits: list[Fit]) -> None:
    """Raise ConfigError where some cell fits in no way."""
    notes = [f"{fit.experiment}, {_named(fit)}: {fit.note}" for fit in fits if fit.settings is None]
    if notes:
        raise ConfigError("\n".join(notes) + "\nAll settings: entrobench rehearse train")


def as_text(fits: list[Fit]) -> str:
    """The fits as a table, and below it what would help those that do not fit."""
    gb = max((fit.cards.gb for fit in fits), default=0.0)
    usable = max((fit.cards.usable / GIB for fit in fits), default=0.0)
    lines = [
        f"GB that one GPU needs in each phase of a step, of {usable:.0f} usable on a card of {gb:.0f}:",
        str(
            tabulate([HEADER, *map(_row, fits)], headers="firstrow", tablefmt="plain", disable_numparse=True)
        ),
        "\ntokens: of one micro-batch on one GPU, in an update and in a pass for log-probabilities; ranks: "
        "GPUs that\nshare a sequence; vLLM: its share of the card; TP: GPUs of a server; cached: longest "
        "sequences that its\ncache holds.",
    ]
    lines += [f"\n{fit.experiment}, {_named(fit)}: {fit.note}" for fit in fits if fit.settings is None]
    return "\n".join(lines)


def _named(fit: Fit) -> str:
    methods = sorted({cell.split("/")[2] for cell in fit.cells})
    return ", ".join(methods[:3]) + (f" and {len(methods) - 3} more" if len(methods) > 3 else "")


def _row(fit: Fit) -> tuple[str, ...]:
    start = (fit.experiment, str(len(fit.cells)), str(fit.cards.count))
    if fit.settings is None:
        return (*start, "does not fit")
    settings = fit.settings
    offloaded = "weights, optimizer" if settings.offloads_weights else "optimizer"
    return (
        *start,
        *(f"{need:.0f}" for need in fit.gigabytes.values()),
        str(settings.update_tokens),
        str(settings.log_prob_tokens),
        str(settings.ranks_per_sequence),
        offloaded if settings.offloads_optimizer else "",
        f"{settings.memory_share:.2f}",
        str(settings.tensor_parallel),
        f"{fit.sequences:.0f}",
    )
