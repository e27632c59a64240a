"""Training curves of a run that can be zoomed: Vega-Lite, drawn by the browser."""

import json
from functools import cache
from typing import Any

import altair as alt
import pandas as pd

# What is drawn of a run, in this order, where it has it: title -> columns of metrics.parquet in one panel
PANELS = {
    "reward": ["reward"],
    "mean token entropy (nats)": ["entropy"],
    "entropy of correct and wrong responses": ["entropy/correct", "entropy/wrong"],
    "response length (tokens)": ["response_length"],
    "weights of the branches": ["omega_pos", "omega_neg"],
    "lambda": ["opefo/lambda"],
    "zeta": ["repo/zeta"],
    "entropy flow of a step (OPEFO, Eq. 6)": ["flow/rising", "flow/falling", "flow/net"],
    "gradient norm": ["grad_norm"],
    "rollout against trainer, KL": ["mismatch/kl"],
    "share of tokens clipped": ["actor/clip_fraction_upper", "actor/clip_fraction_lower"],
    "groups of one verdict": ["groups/all_correct", "groups/all_wrong"],
    "seconds of a step": ["timing_s/step"],
}
COLOURS = ["#0072B2", "#D55E00", "#009E73"]
# More points than a screen has columns are thinned
MOST_POINTS = 1500


def specs_of(curve: pd.DataFrame) -> dict[str, str]:
    """Title -> Vega-Lite as JSON. curve: metrics.parquet."""
    every = -(-len(curve) // MOST_POINTS)
    shown = curve.iloc[::every]
    return {
        title: _spec(shown, title, present)
        for title, columns in PANELS.items()
        if (present := [column for column in columns if column in curve and curve[column].notna().any()])
    }


def _spec(curve: pd.DataFrame, title: str, columns: list[str]) -> str:
    rows = curve[["step", *columns]].melt("step", var_name="column").dropna().round({"value": 6})
    chart = _chart(title, tuple(columns), len(curve) < 50)
    filled = chart | {"data": {"values": rows.to_dict("records")}}
    # "<" would end the script that holds it
    return json.dumps(filled, separators=(",", ":")).replace("<", "\\u003c")


@cache
def _chart(title: str, columns: tuple[str, ...], has_points: bool) -> dict[str, Any]:
    """Without its data, which altair would take long to look through."""
    colour = alt.Color(
        "column:N",
        scale=alt.Scale(domain=list(columns), range=COLOURS[: len(columns)]),
        legend=alt.Legend(title=None, orient="bottom") if len(columns) > 1 else None,
    )
    chart = (
        alt.Chart(alt.Data(values=[]), title=title, width="container", height=180)
        .mark_line(point=has_points)
        .encode(
            alt.X("step:Q", title="step"),
            alt.Y("value:Q", title=None, scale=alt.Scale(zero=False, padding=8)),
            colour,
            tooltip=["step:Q", "column:N", alt.Tooltip("value:Q", format=".5g")],
        )
        .add_params(alt.selection_interval(bind="scales", zoom="wheel![event.shiftKey]"))
    )
    return dict(chart.to_dict())
