"""Training curves of several methods, a panel for each column, with bands over training seeds."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import matplotlib as mpl

mpl.use("Agg")

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from entrobench.files import atomic_path

# Okabe and Ito's palette: told apart by colour-blind readers and in print
COLOURS = ["#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#F0E442", "#999999"]
STYLES = ["-", "--", ":"]
# Column of a curve -> what stands at its axis; other columns stand under their own names
LABELS = {
    "reward": "mean reward of the batch",
    "entropy": "mean token entropy (nats)",
    "response_length": "mean response length (tokens)",
    "omega_pos": "ω⁺ (entropy-raising updates)",
    "omega_neg": "ω⁻ (entropy-lowering updates)",
}
# Columns whose neutral value is drawn
NEUTRAL = {"omega_pos": 1.0, "omega_neg": 1.0}
WARM_UP = "papo/warmup_steps"


def draw_curves(
    curves: Mapping[str, Sequence[pd.DataFrame]], panels: Sequence[Sequence[str]], title: str
) -> Figure:
    """Draw each panel's columns over steps; a line is the mean over seeds, a band reaches from the lowest to
    the highest.

    curves: name of a method -> its metrics.parquet of each seed; none where it was not run, which the legend
    says.
    """
    width = 4 * max(len(panels), 1)
    figure, grid = plt.subplots(1, len(panels), figsize=(width, 3.6), layout="constrained", squeeze=False)
    axes = list(grid[0])
    for (name, runs), colour in zip(curves.items(), COLOURS, strict=False):
        axes[0].plot([], [], color=colour, label=name if runs else f"{name}: not run")
        for ax, columns in zip(axes, panels, strict=True):
            for column, style in zip(columns, STYLES, strict=False):
                _draw(ax, [run for run in runs if column in run], column, colour, style)
    for ax, columns in zip(axes, panels, strict=True):
        _finish(ax, columns)
        for warm_up in {run[WARM_UP].iloc[0] for runs in curves.values() for run in runs if WARM_UP in run}:
            ax.axvline(warm_up, color="0.6", linewidth=0.8, linestyle=":")
            where = (warm_up, 0.02)
            ax.annotate(
                "warm-up ends", where, xycoords=("data", "axes fraction"), fontsize=7, rotation=90, ha="right"
            )
    axes[0].legend(fontsize=8)
    figure.suptitle(title, fontsize=10)
    return figure


def _draw(ax: Axes, runs: Sequence[pd.DataFrame], column: str, colour: str, style: str) -> None:
    if not runs:
        return
    table = pd.concat([run.set_index("step")[column] for run in runs], axis=1)
    ax.plot(table.index, table.mean(axis=1), style, color=colour)
    if len(runs) > 1:
        ax.fill_between(
            table.index, table.min(axis=1), table.max(axis=1), color=colour, alpha=0.15, linewidth=0
        )


def _finish(ax: Axes, columns: Sequence[str]) -> None:
    ax.set_xlabel("training step")
    ax.grid(alpha=0.25)
    if len(columns) == 1:
        ax.set_ylabel(LABELS.get(columns[0], columns[0]))
    else:
        for column, style in zip(columns, STYLES, strict=False):
            ax.plot([], [], style, color="0.4", label=LABELS.get(column, column))
        ax.legend(fontsize=8)
    for value in {NEUTRAL[column] for column in columns if column in NEUTRAL}:
        ax.axhline(value, color="0.6", linewidth=0.8)


def save(figure: Figure, folder: Path, name: str) -> None:
    """Write `name`.png (150 dpi) and `name`.pdf."""
    for suffix, options in ((".png", {"dpi": 150}), (".pdf", {})):
        with atomic_path(folder / f"{name}{suffix}") as temporary:
            figure.savefig(temporary, format=suffix.removeprefix("."), **options)  # type: ignore[arg-type]
    plt.close(figure)
