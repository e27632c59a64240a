"""Quantities of recorded tokens (token_stats.parquet) that figures are drawn of."""

from collections.abc import Callable

import numpy as np
import pandas as pd

from entrobench.errors import ConfigError

# The share of tokens that "the highest" are, as exchange and PAPO count them
HIGHEST = 0.2


def _probability_change(tokens: pd.DataFrame) -> pd.Series:
    return np.exp(tokens["logp_after"]) - np.exp(tokens["logp"])


def _perplexity(tokens: pd.DataFrame) -> pd.Series:
    return np.exp(-tokens.groupby(["step", "sequence"])["logp"].transform("mean"))


def _logit_gradient(tokens: pd.DataFrame) -> pd.Series:
    return tokens["advantage"].abs() * np.sqrt(
        (1 - 2 * np.exp(tokens["logp"]) + tokens["sum_p2"]).clip(lower=0)
    )


def _relative(tokens: pd.DataFrame) -> pd.Series:
    return tokens["position"] / (tokens["length"] - 1).clip(lower=1)


# Name -> (what stands at the axis, how it is computed); other names are columns of the record
QUANTITIES: dict[str, tuple[str, Callable[[pd.DataFrame], pd.Series]]] = {
    "polarity": ("polarity P = A T", lambda t: t["polarity"]),
    "polarity_magnitude": ("|P|", lambda t: t["polarity"].abs()),
    "entropy": ("token entropy (nats)", lambda t: t["entropy"]),
    "entropy_change": ("measured entropy change (nats)", lambda t: t["entropy_after"] - t["entropy"]),
    "logp": ("log p of the sampled token", lambda t: t["logp"]),
    "advantage": ("A", lambda t: t["advantage"]),
    "shaped_advantage": ("A after shaping", lambda t: t["shaped_advantage"]),
    "t1_advantage": ("t1 A", lambda t: t["t1"] * t["advantage"]),
    "t2_advantage": ("t2 A", lambda t: t["t2"] * t["advantage"]),
    "probability_change": ("change of the probability by the update", _probability_change),
    "probability_shift": (
        "|change of the probability| by the update",
        lambda t: _probability_change(t).abs(),
    ),
    "perplexity": ("perplexity of the response", _perplexity),
    # Exchange, Eq. 4, without the norm of the hidden state
    "logit_gradient": ("|A| ‖e - π‖", _logit_gradient),
    "relative_position": ("relative position in the response", _relative),
}
SPLITS = {
    "correct": {"correct": lambda t: t["correct"], "wrong": lambda t: ~t["correct"]},
    "branch": {
        "positive polarity": lambda t: t["branch"] > 0,
        "negative polarity": lambda t: t["branch"] < 0,
    },
}


def quantity(name: str, tokens: pd.DataFrame) -> pd.Series:
    """One value a token. Raises ConfigError for a name that is none."""
    if name not in QUANTITIES:
        raise ConfigError(f"no quantity of tokens {name}; there are {', '.join(QUANTITIES)}")
    return QUANTITIES[name][1](tokens)


def label(name: str) -> str:
    """What stands at an axis of it."""
    return QUANTITIES[name][0] if name in QUANTITIES else name


def parts(split: str, tokens: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """The tokens apart by correctness or polarity; all under an empty name without a split."""
    if not split:
        return {"": tokens}
    return {name: tokens[is_in(tokens).to_numpy()] for name, is_in in SPLITS[split].items()}


def highest(name: str, tokens: pd.DataFrame) -> pd.DataFrame:
    """The tokens with the highest fifth of the magnitudes of a quantity."""
    values = quantity(name, tokens).abs()
    return tokens[(values >= values.quantile(1 - HIGHEST)).to_numpy()]
