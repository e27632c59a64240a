"""Figures of the papers: a panel of each kind (report/artifacts.py), from what runs have recorded.

Over training seeds a line is the mean and a band reaches from the lowest to the highest; tokens of all seeds
are drawn together.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from entrobench.files import atomic_path
from entrobench.report import tokens as of_tokens
from entrobench.report.artifacts import Panel
from entrobench.report.categories import CATEGORIES, category
from entrobench.report.recorded import CUMULATIVE, Recorded, tokens_of
from entrobench.rewards.detectors import response_quality

# Okabe and Ito's palette: told apart by colour-blind readers and in print
COLOURS = ["#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#F0E442", "#999999",
           "#332288"]  # fmt: skip
STYLES = ["-", "--", ":"]
# Column of a curve -> what stands at its axis; other columns stand under their own names
LABELS = {
    "reward": "mean reward of the batch",
    "entropy": "mean token entropy (nats)",
    CUMULATIVE: "sum of the steps' mean token entropy (nats)",
    "response_length": "mean response length (tokens)",
    "omega_pos": "ω⁺ (entropy-raising updates)",
    "omega_neg": "ω⁻ (entropy-lowering updates)",
    "entropy/correct": "entropy of correct responses (nats)",
    "entropy/wrong": "entropy of wrong responses (nats)",
    "opefo/lambda": "λ (OPEFO, Eq. 9)",
    "flow/net": "net entropy flow Σ ΔH (OPEFO, Eq. 6)",
    "actor/flow_clipped_upper": "Σ ΔH of tokens clipped above",
    "actor/flow_clipped_lower": "Σ ΔH of tokens clipped below",
    "actor/clip_fraction_upper": "share of tokens clipped above",
    "actor/clip_fraction_lower": "share of tokens clipped below",
    "training/rollout_probs_diff_mean": "mean |p of rollout - p of trainer|",
    "mismatch/lowest_ratio": "lowest p of trainer / p of rollout",
    "mismatch/highest_ratio": "highest p of trainer / p of rollout",
}
# Columns whose neutral value is drawn
NEUTRAL = {"omega_pos": 1.0, "omega_neg": 1.0, "opefo/lambda": 0.0, "flow/net": 0.0}
WARM_UP = "papo/warmup_steps"
BINS = 40
SHOWN_TOKENS = 15
# Values of long tails are drawn up to this share from either end
TAIL = 0.005

# Panels that draw every method in its own colour; others say in their title whose tokens they are of
HAS_A_LINE_EACH = {
    "curves",
    "scores",
    "trajectory",
    "bars",
    "concentration",
    "categories",
    "falling",
    "quality",
    "interventions",
}

Lines = Mapping[str, Sequence[Recorded]]


def draw_figure(lines: Lines, panels: Sequence[Panel], title: str) -> Figure:
    """lines: name of a method -> its seeds' runs; none where it was not run, which the legend says."""
    rows = -(-len(panels) // 3)
    columns = -(-len(panels) // rows)
    figure = Figure((4.4 * columns, 3.6 * rows), layout="constrained")
    grid = figure.subplots(rows, columns, squeeze=False)
    axes = [ax for row in grid for ax in row]
    if panels[0].kind in HAS_A_LINE_EACH:
        for (name, runs), colour in zip(lines.items(), COLOURS, strict=False):
            axes[0].plot([], [], color=colour, label=name if runs else f"{name}: not run")
    for ax, panel in zip(axes, panels, strict=False):
        ax.grid(alpha=0.25)
        DRAWN[panel.kind](ax, panel, lines)
        if _is_empty(ax):
            ax.text(0.5, 0.5, "not run", transform=ax.transAxes, ha="center", color="0.4")
    for ax in axes[len(panels) :]:
        ax.set_axis_off()
    if panels[0].kind in HAS_A_LINE_EACH:
        axes[0].legend(fontsize=8)
    figure.suptitle(title, fontsize=10)
    return figure


def _is_empty(ax: Axes) -> bool:
    """Lines without a point only carry a name into the legend."""
    return not (ax.patches or ax.collections or any(np.size(line.get_xdata()) for line in ax.lines))


def save(figure: Figure, folder: Path, name: str) -> None:
    """Write `name`.png (150 dpi) and `name`.pdf; the same figure is the same bytes."""
    options: dict[str, dict[str, Any]] = {".png": {"dpi": 150}, ".pdf": {"metadata": {"CreationDate": None}}}
    for suffix, of_format in options.items():
        with atomic_path(folder / f"{name}{suffix}", keep_same=True) as temporary:
            figure.savefig(temporary, format=suffix.removeprefix("."), **of_format)


# -- over training steps -------------------------------------------------------------------------------------


def _curves(ax: Axes, panel: Panel, lines: Lines) -> None:
    for (_, runs), colour in zip(lines.items(), COLOURS, strict=False):
        curves = [run.curve for run in runs if run.curve is not None]
        for column, style in zip(panel.of, STYLES, strict=False):
            draw_over_steps(ax, [curve for curve in curves if column in curve], column, colour, style)
        for warm_up in {curve[WARM_UP].iloc[0] for curve in curves if WARM_UP in curve}:
            ax.axvline(warm_up, color="0.6", linewidth=0.8, linestyle=":")
            where = (warm_up, 0.02)
            ax.annotate(
                "warm-up ends", where, xycoords=("data", "axes fraction"), fontsize=7, rotation=90, ha="right"
            )
    _steps_and_names(ax, panel.of)
    for value in {NEUTRAL[column] for column in panel.of if column in NEUTRAL and not _is_empty(ax)}:
        ax.axhline(value, color="0.6", linewidth=0.8)


def _scores(ax: Axes, panel: Panel, lines: Lines) -> None:
    for (_, runs), colour in zip(lines.items(), COLOURS, strict=False):
        found = [table for run in runs if (table := _checkpoints(run, panel.of)) is not None]
        means = [table.assign(score=100 * table[panel.of].mean(axis=1)) for table in found]
        draw_over_steps(ax, means, "score", colour, "o-")
    _steps_and_names(ax, [f"score (%): {', '.join(panel.of)}"])


def draw_over_steps(
    ax: Axes, frames: Sequence[pd.DataFrame], column: str, colour: str, style: str = "-"
) -> None:
    """The mean of a column over runs at each step, and between their lowest and highest a band."""
    if not frames:
        return
    table = pd.concat([frame.set_index("step")[column] for frame in frames], axis=1).sort_index()
    ax.plot(table.index, table.mean(axis=1), style, color=colour, markersize=3)
    if len(frames) > 1:
        ax.fill_between(
            table.index, table.min(axis=1), table.max(axis=1), color=colour, alpha=0.15, linewidth=0
        )


def _steps_and_names(ax: Axes, names: Sequence[str]) -> None:
    ax.set_xlabel("training step")
    if len(names) == 1:
        ax.set_ylabel(LABELS.get(names[0], names[0]))
        return
    for name, style in zip(names, STYLES, strict=False):
        ax.plot([], [], style, color="0.4", label=LABELS.get(name, name))
    ax.legend(fontsize=8)


def _checkpoints(run: Recorded, benchmarks: Sequence[str]) -> pd.DataFrame | None:
    table = run.checkpoints
    return table if table is not None and set(benchmarks) <= set(table.columns) else None


def _trajectory(ax: Axes, panel: Panel, lines: Lines) -> None:
    x, benchmarks = panel.of[0], panel.of[1:]
    for (_, runs), colour in zip(lines.items(), COLOURS, strict=False):
        found = [table for run in runs if (table := _checkpoints(run, benchmarks)) is not None]
        for table in found:
            score = 100 * table[benchmarks].mean(axis=1)
            ax.plot(table[x], score, "-" if x == "entropy" else "", color=colour, alpha=0.4)
            ax.plot(table[x], score, "o", color=colour, markersize=4, alpha=0.6)
            highest = int(score.to_numpy().argmax())
            ax.plot(table[x].iloc[highest], score.iloc[highest], "o", color=colour, markersize=8)
    ax.set_xlabel(LABELS[x])
    ax.set_ylabel(f"score (%): {', '.join(benchmarks)}\nlarge: highest of a run")


def _bars(ax: Axes, panel: Panel, lines: Lines) -> None:
    width = 0.8 / max(len(lines), 1)
    for place, ((_, runs), colour) in enumerate(zip(lines.items(), COLOURS, strict=False)):
        scores = [run.scores for run in runs if run.scores is not None]
        for column, benchmark in enumerate(panel.of):
            rows = [
                rows.iloc[0] for score in scores if len(rows := score[score["benchmark"] == benchmark]) > 0
            ]
            if rows:
                value, low, high = (
                    100 * np.mean([row[k] for row in rows]) for k in ("value", "ci_low", "ci_high")
                )
                x = column + (place - (len(lines) - 1) / 2) * width
                ax.bar(x, value, width, color=colour)
                ax.errorbar(x, value, [[value - low], [high - value]], color="0.2", linewidth=1)
    ax.set_xticks(range(len(panel.of)), panel.of, fontsize=8)
    ax.set_ylabel("score (%), mean of the seeds' 95 % intervals")


# -- of recorded tokens --------------------------------------------------------------------------------------


def _tokens(panel: Panel, runs: Sequence[Recorded]) -> pd.DataFrame | None:
    tokens = tokens_of(runs)
    if tokens is None:
        return None
    return of_tokens.highest(panel.top, tokens) if panel.top else tokens


def _inner(values: pd.Series) -> tuple[float, float]:
    """Between the tails; a little apart where all values are equal."""
    low, high = values.quantile([TAIL, 1 - TAIL])
    return (float(low), float(high)) if high > low else (float(low) - 0.5, float(high) + 0.5)


def _histogram(ax: Axes, panel: Panel, lines: Lines) -> None:
    found = {name: tokens for name, runs in lines.items() if (tokens := _tokens(panel, runs)) is not None}
    series = {
        " ".join(filter(None, (of_tokens.label(name) if len(panel.of) > 1 else "", part))) or line:
        of_tokens.quantity(name, rows)
        for line, tokens in found.items()
        for name in panel.of
        for part, rows in of_tokens.parts(panel.split, tokens).items()
        if len(rows)
    }  # fmt: skip
    if series:
        low, high = _inner(pd.concat(list(series.values())))
        for (name, values), colour in zip(series.items(), COLOURS, strict=False):
            weights = np.full(len(values), 1 / len(values))
            ax.hist(
                values,
                BINS,
                range=(low, high),
                weights=weights,
                color=colour,
                alpha=0.5,
                label=name,
            )
        ax.legend(fontsize=8)
    ax.set_yscale("log" if panel.log else "linear")
    ax.locator_params(axis="x", nbins=6)  # labels like -0.075 do not run into each other
    ax.set_xlabel(of_tokens.label(panel.of[0]) if len(panel.of) == 1 else "value")
    ax.set_ylabel("share of tokens")


def _density(ax: Axes, panel: Panel, lines: Lines) -> None:
    """Of the first line that has tokens: a heat map, with the mean of y in twenty bins of equal counts."""
    ax.set_xlabel(of_tokens.label(panel.of[0]))
    ax.set_ylabel(of_tokens.label(panel.of[1]))
    for name, runs in lines.items():
        tokens = _tokens(panel, runs)
        if tokens is None:
            continue
        x, y = (of_tokens.quantity(each, tokens) for each in panel.of)
        ax.hexbin(x, y, gridsize=40, bins="log", cmap="Blues", extent=(*_inner(x), *_inner(y)), mincnt=1)
        bins = pd.qcut(x.rank(method="first"), min(20, len(x)), labels=False)
        ax.plot(x.groupby(bins).mean(), y.groupby(bins).mean(), "o-", color=COLOURS[1], markersize=3,
                label="mean of a bin")  # fmt: skip
        if x.nunique() > 1 and y.nunique() > 1:
            ax.set_title(
                f"{name}, {len(x):,} tokens: Pearson {x.corr(y):.2f}, Spearman {x.rank().corr(y.rank()):.2f}",
                fontsize=8,
            )
        return


def _points(ax: Axes, panel: Panel, lines: Lines) -> None:
    *xs, y = panel.of
    for line, runs in lines.items():
        tokens = _tokens(panel, runs)
        if tokens is None:
            continue
        shown = tokens.sample(min(len(tokens), 4000), random_state=0)
        for name, colour in zip(xs, COLOURS, strict=False):
            ax.plot(of_tokens.quantity(name, shown), of_tokens.quantity(y, shown), ".", color=colour,
                    markersize=2, alpha=0.5, label=of_tokens.label(name))  # fmt: skip
        ax.set_title(line, fontsize=8)
        ax.legend(fontsize=8)
        break
    ax.set_xlabel("advantage")
    ax.set_ylabel(of_tokens.label(y))


def _concentration(ax: Axes, panel: Panel, lines: Lines) -> None:
    percent = np.linspace(0, 100, 201)
    share = ax.twinx()
    for (_, runs), colour in zip(lines.items(), COLOURS, strict=False):
        tokens = _tokens(panel, runs)
        if tokens is None:
            continue
        values = np.sort(of_tokens.quantity(panel.of[0], tokens).abs().to_numpy())
        ax.plot(percent, np.percentile(values, percent), color=colour)
        above = np.append(np.cumsum(values[::-1])[::-1], 0) / max(values.sum(), 1e-300)
        share.plot(
            percent, 100 * np.interp(percent, np.linspace(0, 100, len(above)), above), "--", color=colour
        )
    ax.set_yscale("symlog", linthresh=1e-6)
    ax.set_xlabel("percentile")
    ax.set_ylabel(f"magnitude of {of_tokens.label(panel.of[0])}")
    share.set_ylabel("share of the sum above (%, dashed)")


def _positions(ax: Axes, panel: Panel, lines: Lines) -> None:
    """Of the first line that has tokens: percentile bands, median, mean; with a split means only."""
    ax.set_xlabel(of_tokens.label("relative_position"))
    ax.set_ylabel(of_tokens.label(panel.of[0]))
    ax.set_yscale("symlog" if panel.log else "linear", **({"linthresh": 1e-6} if panel.log else {}))
    for line, runs in lines.items():
        tokens = _tokens(panel, runs)
        if tokens is None:
            continue
        for (part, rows), colour in zip(of_tokens.parts(panel.split, tokens).items(), COLOURS, strict=False):
            place = (of_tokens.quantity("relative_position", rows) * 20).clip(upper=19).astype(int)
            grouped = of_tokens.quantity(panel.of[0], rows).groupby(place)
            x = (grouped.mean().index.to_numpy() + 0.5) / 20
            if not panel.split:
                for low, high, alpha in ((0.1, 0.9, 0.15), (0.25, 0.75, 0.3)):
                    ax.fill_between(x, grouped.quantile(low), grouped.quantile(high), color=COLOURS[5],
                                    alpha=alpha, linewidth=0)  # fmt: skip
                ax.plot(x, grouped.median(), color=COLOURS[1], label="median")
            ax.plot(x, grouped.mean(), color=colour, label=part or "mean")
        ax.set_title(line, fontsize=8)
        ax.legend(fontsize=8)
        return


def _ranked_tokens(ax: Axes, panel: Panel, lines: Lines) -> None:
    """Of the first line that has tokens."""
    ax.set_xlabel(f"sum of {of_tokens.label(panel.of[0])}")
    for line, runs in lines.items():
        tokens = _tokens(panel, runs)
        if tokens is None:
            continue
        sums = of_tokens.quantity(panel.of[0], tokens).groupby(tokens["text"]).sum().sort_values()
        _ranked(ax, sums)
        ax.set_title(line, fontsize=8)
        return


def _categories(ax: Axes, panel: Panel, lines: Lines) -> None:
    width = 0.8 / max(len(lines), 1)
    for place, ((_, runs), colour) in enumerate(zip(lines.items(), COLOURS, strict=False)):
        tokens = _tokens(panel, runs)
        if tokens is None:
            continue
        kinds = tokens["text"].map({text: category(text) for text in tokens["text"].unique()})
        chosen = of_tokens.highest(panel.of[0], tokens).index
        shares = pd.Series(tokens.index.isin(chosen)).groupby(kinds.to_numpy()).mean()
        x = np.arange(len(CATEGORIES)) + (place - (len(lines) - 1) / 2) * width
        ax.bar(x, 100 * shares.reindex(CATEGORIES), width, color=colour)
    ax.set_xticks(range(len(CATEGORIES)), [c.replace(" ", "\n") for c in CATEGORIES], fontsize=8)
    ax.set_ylabel(f"tokens in the highest fifth (%) of\n{of_tokens.label(panel.of[0])}", fontsize=8)


def _means_at(tokens: pd.DataFrame, step: int, of: str) -> pd.Series:
    """By text: mean entropy, or share of all tokens, in the responses of one step."""
    at = tokens[tokens["step"] == step]
    return (
        at.groupby("text")["entropy"].mean() if of == "entropy" else at["text"].value_counts(normalize=True)
    )


def _change(tokens: pd.DataFrame, of: str) -> pd.Series:
    """By text: how much that changed between the first and the last recorded step; where it stood in both."""
    first, last = (_means_at(tokens, step, of) for step in (tokens["step"].min(), tokens["step"].max()))
    return (last - first).dropna().sort_values()


def _changes(ax: Axes, panel: Panel, lines: Lines) -> None:
    """Of the first line that has tokens."""
    of = panel.of[0]
    ax.set_xlabel("change of " + ("mean entropy (nats)" if of == "entropy" else "the share of all tokens"))
    for line, runs in lines.items():
        tokens = _tokens(panel, runs)
        if tokens is None:
            continue
        _ranked(ax, _change(tokens, of))
        ax.set_title(f"{line}, steps {tokens['step'].min()} and {tokens['step'].max()}", fontsize=8)
        return


def _ranked(ax: Axes, values: pd.Series) -> None:
    """Bars of the lowest and highest values, each with its token."""
    shown = pd.concat([values[values < 0].head(SHOWN_TOKENS), values[values > 0].tail(SHOWN_TOKENS)])
    colours = [COLOURS[1] if value < 0 else COLOURS[0] for value in shown]
    ax.barh(range(len(shown)), shown.to_numpy(), color=colours)
    # A token may hold a dollar sign, which would begin a formula
    names = [text.replace("\n", r"\n").replace("$", r"\$") for text in shown.index]
    ax.set_yticks(range(len(shown)), names, fontsize=5, family="monospace")


def _falling(ax: Axes, panel: Panel, lines: Lines) -> None:
    places = ("correct only", "wrong only", "both")
    width = 0.8 / max(len(lines), 1)
    for place, ((_, runs), colour) in enumerate(zip(lines.items(), COLOURS, strict=False)):
        tokens = _tokens(panel, runs)
        if tokens is None:
            continue
        change = _change(tokens, "entropy")
        fastest = set(change.head(max(round(of_tokens.HIGHEST * len(change)), 1)).index)
        correct, wrong = (set(tokens.loc[tokens["correct"] == value, "text"]) for value in (True, False))
        found = [len(fastest & each) for each in (correct - wrong, wrong - correct, correct & wrong)]
        x = np.arange(3) + (place - (len(lines) - 1) / 2) * width
        ax.bar(x, 100 * np.array(found) / max(len(fastest), 1), width, color=colour)
    ax.set_xticks(range(3), places, fontsize=8)
    ax.set_ylabel("tokens whose entropy fell most,\nby the responses they occur in (%)")


def _interventions(ax: Axes, panel: Panel, lines: Lines) -> None:
    width = 0.8 / max(len(lines), 1)
    for place, ((_, runs), colour) in enumerate(zip(lines.items(), COLOURS, strict=False)):
        found = [run.interventions for run in runs if run.interventions is not None]
        if not found:
            continue
        impacts = pd.concat(found).groupby("group")["impact"].agg(["mean", "sem"]).reindex(panel.of) * 100
        x = np.arange(len(panel.of)) + (place - (len(lines) - 1) / 2) * width
        ax.bar(x, impacts["mean"], width, color=colour)
        ax.errorbar(x, impacts["mean"], 1.96 * impacts["sem"], fmt="none", color="0.2")
    if not _is_empty(ax):
        ax.axhline(0, color="0.6", linewidth=0.8)
    ax.set_xticks(range(len(panel.of)), [group.replace("_", " ") for group in panel.of], fontsize=8)
    ax.set_ylabel("accuracy lost by the replacement (points)")


def _quality(ax: Axes, panel: Panel, lines: Lines) -> None:
    kinds = ("format_violation", "language_mixing", "repetition")
    for (_, runs), colour in zip(lines.items(), COLOURS, strict=False):
        tokens = _tokens(panel, runs)
        if tokens is None:
            continue
        found = [
            response_quality("".join(part["text"]), part["token"].tolist()) | {"step": step}
            for (step, _), part in tokens.groupby(["step", "sequence"])
        ]
        shares = 100 * pd.DataFrame(found).groupby("step")[list(kinds)].mean()
        for kind, style in zip(kinds, STYLES, strict=True):
            ax.plot(shares.index, shares[kind], style, color=colour)
    _steps_and_names(ax, [kind.replace("_", " ") for kind in kinds])
    ax.set_ylabel("responses (%)")


DRAWN: dict[str, Callable[[Axes, Panel, Lines], None]] = {
    "curves": _curves,
    "scores": _scores,
    "trajectory": _trajectory,
    "bars": _bars,
    "histogram": _histogram,
    "density": _density,
    "points": _points,
    "concentration": _concentration,
    "positions": _positions,
    "tokens": _ranked_tokens,
    "categories": _categories,
    "changes": _changes,
    "falling": _falling,
    "quality": _quality,
    "interventions": _interventions,
}
