"""Figures of a group of methods on one experiment, and small files of them."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO

import numpy as np
import pandas as pd
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter, StrMethodFormatter
from PIL import Image

from entrobench.configs import Configs
from entrobench.files import atomic_path
from entrobench.reference.head_to_head import LAST_STEPS, last_steps
from entrobench.report.figure import COLOURS, draw_over_steps

COLOUR_OF = dict(zip(("papo", "exchange", "repo", "opefo"), COLOURS, strict=False))
PER_PANEL = 6
# Times the baseline's entropy at the end, or as far below it: then a method is far from it
FAR = 1.5
ENTROPY, BASELINE_COLOUR = "mean token entropy (nats)", "0.6"


def entropy_figure(table: pd.DataFrame, curves: pd.DataFrame, baseline: str, configs: Configs) -> Figure:
    """Entropy over steps: a few methods of one paper a panel, and the baseline in each. Methods that end far
    from it have panels of their own, whose axis is logarithmic; the axes of the others are the same.

    table: of head_to_head. curves: of all of its methods and seeds.
    """
    panels = _panels(dict(zip(table["method"], table["entropy_last"], strict=True)), baseline, configs)
    runs = {
        str(name): [run for _, run in frame.groupby("seed")]
        for name, frame in curves.groupby("method", observed=True)
    }
    columns = min(3, len(panels))
    rows = -(-len(panels) // columns)
    figure = Figure((4.6 * columns, 3.2 * rows), layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False).ravel()
    near = []
    for ax, (title, names, is_far) in zip(axes, panels, strict=False):
        ax.set_title(title, fontsize=9)
        for name, colour in ((baseline, BASELINE_COLOUR), *zip(names, COLOURS, strict=False)):
            draw_over_steps(ax, runs[name], "entropy", colour)
            ax.plot([], [], color=colour, label=configs.method(name).title)
        ax.legend(fontsize=6)
        ax.grid(alpha=0.25, which="both")
        if is_far:
            ax.set_yscale("log")
            _plain_numbers(ax.yaxis)
        else:
            near.append(ax)
    lows, highs = zip(*(ax.get_ylim() for ax in near), strict=True)
    for ax in near:
        ax.set_ylim(min(lows), max(highs))
    for ax in axes[len(panels) :]:
        ax.set_axis_off()
    figure.supxlabel("training step", fontsize=9)
    figure.supylabel(ENTROPY, fontsize=9)
    return figure


def _panels(
    entropy_last: Mapping[str, float], baseline: str, configs: Configs
) -> list[tuple[str, Sequence[str], bool]]:
    """Of each panel its title, its methods without the baseline, and whether they end far from it."""
    of_panel: dict[tuple[bool, str], list[str]] = {}
    for method, entropy in entropy_last.items():
        ratio = entropy / entropy_last[baseline]
        is_far = not 1 / FAR <= ratio <= FAR
        title = f"far from {configs.method(baseline).title}" if is_far else configs.method(method).paper
        of_panel.setdefault((is_far, title), [])
        if method != baseline:
            of_panel[is_far, title].append(method)
    return [
        (title, names[start : start + PER_PANEL], is_far)
        for (is_far, title), names in sorted(of_panel.items())
        for start in range(0, max(len(names), 1), PER_PANEL)
    ]


def score_figure(table: pd.DataFrame, curves: pd.DataFrame, configs: Configs) -> Figure:
    """A row a method, best score first: its score with the interval; its entropy at the end, a dot a seed."""
    figure = Figure((8.5, 1.2 + 0.2 * len(table)), layout="constrained")
    of_score, of_entropy = figure.subplots(1, 2, sharey=True, width_ratios=(3, 2))
    ends = last_steps(curves).groupby(["method", "seed"], observed=True)["entropy"].mean()
    rows = table.to_dict("records")
    for place, row in enumerate(rows):
        colour = COLOUR_OF[configs.method(row["method"]).paper]
        low, score, high = (100 * row[name] for name in ("score_low", "score", "score_high"))
        error = np.array([[score - low], [high - score]])
        of_score.errorbar(score, place, xerr=error, fmt="o", color=colour, markersize=4, linewidth=1)
        seeds = ends[row["method"]]
        of_entropy.plot(seeds, [place] * len(seeds), "o", color=colour, markersize=4, alpha=0.6)
    for paper, colour in COLOUR_OF.items():
        of_score.plot([], [], "o", color=colour, label=paper)
    of_score.legend(fontsize=7)
    names = [configs.method(row["method"]).title for row in rows]
    of_score.set_yticks(range(len(rows)), names, fontsize=7)
    of_score.set_ylim(len(rows) - 0.5, -0.5)
    of_score.set_xlabel("in-domain score (%)", fontsize=8)
    of_entropy.set_xscale("log")
    _plain_numbers(of_entropy.xaxis)
    of_entropy.set_xlabel(f"{ENTROPY}, last {LAST_STEPS} steps", fontsize=8)
    for ax in (of_score, of_entropy):
        ax.grid(alpha=0.25, which="both")
    return figure


def _plain_numbers(axis: Axis) -> None:
    """Ticks of a logarithmic axis at 0.1, 0.2, 0.5, 1, ..."""
    axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axis.set_major_formatter(StrMethodFormatter("{x:g}"))
    axis.set_minor_formatter(NullFormatter())


def write_in_few_colours(figure: Path | IO[bytes], target: Path) -> None:
    """A PNG in 128 colours: a third of the bytes, and more than a figure has but for the edges of letters."""
    with atomic_path(target, keep_same=True) as temporary, Image.open(figure) as image:
        few = image.convert("RGB").quantize(128, dither=Image.Dither.NONE)
        few.save(temporary, "png", optimize=True)
