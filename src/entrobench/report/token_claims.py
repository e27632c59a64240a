"""Claims about recorded tokens: a number of one cell's tokens against a bound.

The tokens of a response go together, so the interval is that of a jackknife which leaves out groups of whole
responses, of all seeds and recorded steps (Kott 2001, "The delete-a-group jackknife"): with G groups and the
number computed without each of them, its variance is (G - 1) / G times the sum of squared differences, and
the interval has Student's t of G - 1 degrees of freedom.
"""

from collections.abc import Callable, Sequence
from typing import Literal

import numpy as np
import pandas as pd
from pydantic import model_validator
from scipy.special import stdtrit

from entrobench.configs import Strict
from entrobench.report import tokens as of_tokens

GROUPS = 20
LEVEL = 0.05


class TokenClaim(Strict):
    """statistic, of quantities of tokens (report/tokens.py):

    correlation   Spearman's, of two quantities
    difference    mean of a quantity in the first part of `split` less that in the second
    share_within  share of tokens whose magnitude is at most `within`
    top_share     share of the sum of magnitudes that the highest fifth of tokens has
    top_mean      mean of the second quantity among the highest fifth by the first, less the mean of all
    early         mean of a quantity in the first 15 % of positions less that in the rest
    late          the same of the last 15 %

    above: what it has to be above; where `is_below` below.
    """

    experiment: str
    method: str
    statistic: Literal["correlation", "difference", "share_within", "top_share", "top_mean", "early", "late"]
    of: list[str]
    split: Literal["", "correct", "branch"] = ""
    within: float = 0.0
    above: float = 0.0
    is_below: bool = False

    @model_validator(mode="after")
    def _has_what_it_needs(self) -> "TokenClaim":
        names = 2 if self.statistic in ("correlation", "top_mean") else 1
        if len(self.of) != names:
            raise ValueError(f"{self.statistic}: expected {names} quantities, found {self.of}")
        if unknown := [name for name in self.of if name not in of_tokens.QUANTITIES]:
            raise ValueError(f"no quantities {unknown}; there are {', '.join(of_tokens.QUANTITIES)}")
        if (self.statistic == "difference") != bool(self.split):
            raise ValueError("difference and split go together")
        return self


def _difference(values: np.ndarray, is_in: np.ndarray) -> float:
    if is_in.all() or not is_in.any():
        return float("nan")
    return float(values[is_in].mean() - values[~is_in].mean())


def _top(values: np.ndarray) -> np.ndarray:
    magnitudes = np.abs(values)
    return magnitudes >= np.quantile(magnitudes, 1 - of_tokens.HIGHEST)


def statistic_of(claim: TokenClaim, tokens: pd.DataFrame) -> Callable[[np.ndarray], float]:
    """A function of rows (numbers of tokens, with repetitions) that gives the claim's number."""
    columns = [of_tokens.quantity(name, tokens).to_numpy(float) for name in claim.of]
    place = of_tokens.quantity("relative_position", tokens).to_numpy()
    parts = of_tokens.parts(claim.split, tokens)
    in_first = tokens.index.isin(next(iter(parts.values())).index)

    def compute(rows: np.ndarray) -> float:
        values = columns[0][rows]
        if claim.statistic == "correlation":
            return float(pd.Series(values).rank().corr(pd.Series(columns[1][rows]).rank()))  # Spearman's
        if claim.statistic == "difference":
            return _difference(values, in_first[rows])
        if claim.statistic == "share_within":
            return float((np.abs(values) <= claim.within).mean())
        if claim.statistic == "top_share":
            magnitudes = np.abs(values)
            return float(magnitudes[_top(values)].sum() / magnitudes.sum())
        if claim.statistic == "top_mean":
            others = columns[1][rows]
            return float(others[_top(values)].mean() - others.mean())
        is_in = place[rows] < 0.15 if claim.statistic == "early" else place[rows] > 0.85
        return _difference(values, is_in)

    return compute


Verdict = Literal["supported", "not supported", "not separable"]


def judge(claim: TokenClaim, tokens: pd.DataFrame) -> tuple[Verdict, str]:
    """Verdict and numbers. tokens: of all seeds, with `run` and `sequence` naming a response."""
    responses = [
        np.asarray(rows) for rows in tokens.groupby(["run", "step", "sequence"], sort=False).indices.values()
    ]
    compute = statistic_of(claim, tokens)
    value = compute(np.concatenate(responses))
    half = _half_width(compute, responses)
    low, high = value - half, value + half
    numbers = f"{value:.3g} [{low:.3g}, {high:.3g}] in {len(responses)} responses, against {claim.above:g}"
    if not np.isfinite([value, low, high]).all():
        return "not separable", f"{numbers}: too few tokens"
    is_on_one_side = low > claim.above or high < claim.above
    if not is_on_one_side:
        return "not separable", numbers
    return ("supported" if (value < claim.above) == claim.is_below else "not supported"), numbers


def _half_width(compute: Callable[[np.ndarray], float], responses: Sequence[np.ndarray]) -> float:
    """Of the interval; see above. NaN for fewer than two responses."""
    number = min(GROUPS, len(responses))
    if number < 2:
        return float("nan")
    places = np.random.default_rng(0).permutation(len(responses)) % number
    without = np.array(
        [
            compute(
                np.concatenate(
                    [rows for rows, place in zip(responses, places, strict=True) if place != group]
                )
            )
            for group in range(number)
        ]
    )
    variance = (number - 1) / number * ((without - without.mean()) ** 2).sum()
    return float(stdtrit(number - 1, 1 - LEVEL / 2) * np.sqrt(variance))
