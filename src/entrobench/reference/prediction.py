"""How well each paper's first-order quantity predicts the entropy change that an update makes.

Of each recorded token the trainer has the entropy of its state before and after all updates of the step. The
papers say what that change is to first order, per token, up to a factor that all tokens of a step share:

    PAPO      A (t2 - t1),  t1 = p (log p + H)                                         (2605.11775, Eq. 7, 8)
    OPEFO     -A (1 - p)^2 (log p + H)                                                 (2605.11491, Eq. 6)
    REPO      -A p (log p + H)                                                         (2603.11682, Cor. 1)
    Clip-Cov  -(A - mean A)(log p - mean log p), means over the tokens of the step     (2505.22617)

A is the advantage that the update used, after shaping. A token's state moves with every other token of the
batch as well, which no formula of one token knows: a correlation of 1 is not to be had. How much of a token's
move is its own says their common premise, that log p moves with A.
"""

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

FEWEST_TOKENS = 10


def _surplus(tokens: pd.DataFrame) -> pd.Series:
    return tokens["logp"] + tokens["entropy"]


def _opefo(tokens: pd.DataFrame) -> pd.Series:
    return -tokens["shaped_advantage"] * (1 - np.exp(tokens["logp"])) ** 2 * _surplus(tokens)


def _clip_cov(tokens: pd.DataFrame) -> pd.Series:
    advantage, logp = tokens["shaped_advantage"], tokens["logp"]
    return -(advantage - advantage.mean()) * (logp - logp.mean())


FORMULAS: dict[str, Callable[[pd.DataFrame], pd.Series]] = {
    "PAPO": lambda t: t["shaped_advantage"] * (t["t2"] - t["t1"]),
    "OPEFO": _opefo,
    "REPO": lambda t: -t["shaped_advantage"] * np.exp(t["logp"]) * _surplus(t),
    "Clip-Cov": _clip_cov,
}
# Compared as the formulas are, but with the change of log p
PREMISE = "A, of log p"


def predictions(tokens: pd.DataFrame) -> pd.DataFrame:
    """One row for each recorded step and formula, of a run's token_stats.parquet.

    step, formula, tokens: number of them. pearson, spearman: of predicted and measured change of each token.
    sign: share, of the tokens where neither is 0, whose changes have the same sign. slope: of the
    measured change regressed on the predicted one, which says how large the factor is. predicted, measured:
    sums. Empty numbers where fewer than FEWEST_TOKENS tokens have a predicted change.
    """
    rows: list[dict[str, Any]] = []
    for step, of_step in tokens.groupby("step"):
        of_entropy = (of_step["entropy_after"] - of_step["entropy"]).to_numpy(float)
        pairs = {name: (formula(of_step).to_numpy(float), of_entropy) for name, formula in FORMULAS.items()}
        of_logp = (of_step["logp_after"] - of_step["logp"]).to_numpy(float)
        pairs[PREMISE] = of_step["shaped_advantage"].to_numpy(float), of_logp
        for name, (predicted, measured) in pairs.items():
            row = {"step": step, "formula": name, "tokens": len(of_step)}
            rows.append(row | {"predicted": predicted.sum(), "measured": measured.sum()})
            if (predicted != 0).sum() >= FEWEST_TOKENS:
                rows[-1] |= _agreement(predicted, measured)
    return pd.DataFrame(rows).reindex(
        columns=["step", "formula", "tokens", "pearson", "spearman", "sign", "slope", "predicted", "measured"]
    )


def _agreement(predicted: np.ndarray, measured: np.ndarray) -> dict[str, float]:
    moves = (predicted != 0) & (measured != 0)
    same = np.sign(predicted[moves]) == np.sign(measured[moves])
    with warnings.catch_warnings():  # of a constant: the correlation is not a number, and is shown as that
        warnings.simplefilter("ignore", stats.ConstantInputWarning)
        return {
            "pearson": float(stats.pearsonr(predicted, measured).statistic),
            "spearman": float(stats.spearmanr(predicted, measured).statistic),
            "sign": float(same.mean()) if len(same) else np.nan,
            "slope": float(predicted @ measured / (predicted @ predicted)),
        }


def summary(frame: pd.DataFrame) -> pd.DataFrame:
    """Formula -> how well it predicts, over the recorded steps of all runs of `frame` (predictions with KEY).

    pearson, spearman, sign: means over steps. per_step: Spearman's correlation, over steps and runs, of the
    sums. slope: median over steps. runs, steps: how many it is of.
    """
    rows = []
    for formula, of_formula in frame.groupby("formula", observed=True, sort=False):
        known = of_formula.dropna(subset=["spearman"])
        sums = stats.spearmanr(known["predicted"], known["measured"]).statistic if len(known) > 2 else np.nan
        rows.append(
            {
                "formula": formula,
                "pearson": known["pearson"].mean(),
                "spearman": known["spearman"].mean(),
                "sign": known["sign"].mean(),
                "per_step": float(sums),
                "slope": known["slope"].median(),
                "runs": len(known[["method", "seed"]].drop_duplicates()),
                "steps": len(known),
            }
        )
    return pd.DataFrame(rows)
