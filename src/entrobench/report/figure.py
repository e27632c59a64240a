"""Training curves of several cells: reward, entropy and PAPO's weights over steps (PAPO, Figure 5)."""

from pathlib import Path

import matplotlib as mpl

mpl.use("Agg")

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from entrobench.files import atomic_path

# Okabe and Ito's palette: told apart by colour-blind readers and in print
COLOURS = ["#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00"]
WEIGHTS = {"omega_pos": ("ω⁺ (entropy-raising updates)", "-"), "omega_neg": ("ω⁻ (entropy-lowering)", "--")}


def draw_dynamics(curves: dict[str, pd.DataFrame | None], title: str) -> Figure:
    """Draw reward, entropy and weights over steps.

    curves: name of a method -> its metrics.parquet, or None where it was not run (named in the legend as
    such).
    """
    figure, axes = plt.subplots(1, 3, figsize=(12, 3.6), layout="constrained")
    reward, entropy, weights = axes
    for (name, curve), colour in zip(curves.items(), COLOURS, strict=False):
        if curve is None:
            reward.plot([], [], color=colour, label=f"{name}: not run")
            continue
        reward.plot(curve["step"], curve["reward"], color=colour, label=name)
        entropy.plot(curve["step"], curve["entropy"], color=colour)
        if "omega_neg" in curve:
            _draw_weights(weights, curve, colour)
        if "papo/warmup_steps" in curve:
            for ax in axes:
                ax.axvline(curve["papo/warmup_steps"].iloc[0], color="0.6", linewidth=0.8, linestyle=":")
    reward.set_ylabel("mean reward of the batch")
    entropy.set_ylabel("mean token entropy (nats)")
    weights.set_ylabel("polarity weight")
    weights.axhline(1.0, color="0.6", linewidth=0.8)
    for ax in axes:
        ax.set_xlabel("training step")
        ax.grid(alpha=0.25)
    reward.legend(fontsize=8)
    if not any(curve is not None and "omega_neg" in curve for curve in curves.values()):
        weights.set_title("no weighted method was run", fontsize=8)
    elif all(
        (curve["omega_neg"] == 1).all()
        for curve in curves.values()
        if curve is not None and "omega_neg" in curve
    ):
        weights.set_title("the weights never left 1", fontsize=8)
    if weights.get_legend_handles_labels()[0]:
        weights.legend(fontsize=8)
    figure.suptitle(title, fontsize=10)
    return figure


def _draw_weights(ax: Axes, curve: pd.DataFrame, colour: str) -> None:
    for name, (label, style) in WEIGHTS.items():
        ax.plot(curve["step"], curve[name], style, color=colour, label=label)
    warmup_end = curve["papo/warmup_steps"].iloc[0]
    where = (warmup_end, 0.02)
    ax.annotate(
        "warm-up ends", where, xycoords=("data", "axes fraction"), fontsize=7, rotation=90, ha="right"
    )


def save(figure: Figure, folder: Path, name: str) -> None:
    """Write `name`.png (150 dpi) and `name`.pdf."""
    for suffix, options in ((".png", {"dpi": 150}), (".pdf", {})):
        with atomic_path(folder / f"{name}{suffix}") as temporary:
            figure.savefig(temporary, format=suffix.removeprefix("."), **options)  # type: ignore[arg-type]
    plt.close(figure)
