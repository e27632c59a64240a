"""Claims about recorded tokens: by hand, undecided where the data are, and with intervals of responses."""

import numpy as np
import pandas as pd
import pytest
from pydantic import ValidationError

from entrobench.report.token_claims import TokenClaim, judge, statistic_of


def claim(statistic, of, **settings):
    return TokenClaim(experiment="e", method="m", statistic=statistic, of=of, **settings)


def record(responses=40, length=20, seed=0, **columns):
    """Random tokens; `columns` are functions of a generator and the number of tokens."""
    random = np.random.default_rng(seed)
    n = responses * length
    frame = pd.DataFrame({
        "run": 0, "step": 8, "sequence": np.repeat(np.arange(responses), length), "length": length,
        "position": np.tile(np.arange(length), responses),
        "correct": np.repeat(np.arange(responses) % 2 == 0, length),
        "branch": np.where(np.arange(n) % 3 == 0, 1, -1), "polarity": random.normal(size=n),
        "entropy": random.random(n), "entropy_after": random.random(n), "logp": -random.random(n),
        "logp_after": -random.random(n),
    })  # fmt: skip
    return frame.assign(**columns)


def value(of, tokens):
    return statistic_of(of, tokens)(np.arange(len(tokens)))


def test_by_hand():
    tokens = record(responses=2, length=5).assign(
        entropy=[1.0, 2, 3, 4, 5, 6, 7, 8, 9, 10], polarity=[0.0] * 8 + [-3.0, 1.0], entropy_after=0.0
    )
    assert value(claim("correlation", ["entropy", "entropy_change"]), tokens) == pytest.approx(-1)
    assert value(claim("difference", ["entropy"], split="correct"), tokens) == pytest.approx(3 - 8)
    assert value(claim("share_within", ["polarity"], within=1.0), tokens) == pytest.approx(0.9)
    assert value(claim("top_share", ["polarity"]), tokens) == pytest.approx(1)
    # the highest fifth by |P| are the last two, of entropy 9 and 10
    assert value(claim("top_mean", ["polarity", "entropy"]), tokens) == pytest.approx(9.5 - 5.5)
    # first positions have entropy 1 and 6, last ones 5 and 10
    assert value(claim("early", ["entropy"]), tokens) == pytest.approx(3.5 - 6.0)
    assert value(claim("late", ["entropy"]), tokens) == pytest.approx(7.5 - 5.0)


def test_verdicts_follow_the_interval():
    tokens = record()
    tokens["entropy_after"] = tokens["entropy"] + tokens["polarity"]
    of = claim("correlation", ["polarity", "entropy_change"])
    assert judge(of, tokens)[0] == "supported"
    assert judge(of.model_copy(update={"is_below": True}), tokens)[0] == "not supported"
    assert judge(of, record())[0] == "not separable", "nothing goes with nothing"
    verdict, numbers = judge(claim("difference", ["entropy"], split="correct"), record().assign(correct=True))
    assert verdict == "not separable"
    assert "too few tokens" in numbers


def test_the_interval_is_of_responses_not_of_tokens():
    """Tokens of a response alike: 20 responses are 20 numbers, however long they are."""
    per_response = [0.5] * 12 + [2.0] * 8
    tokens = record(responses=20, length=200).assign(polarity=np.repeat(per_response, 200))
    verdict, _ = judge(claim("share_within", ["polarity"], within=1.0, above=0.5), tokens)
    assert verdict == "not separable"


def test_the_interval_covers():
    """Of 100 records of 40 responses, whose responses differ, the interval misses the truth in few."""
    misses = 0
    for seed in range(100):
        random = np.random.default_rng(seed)
        shifts = np.repeat(random.normal(0, 1, 40), 20)
        tokens = record(seed=seed).assign(entropy=shifts + random.normal(0, 1, 800))
        misses += judge(claim("difference", ["entropy"], split="correct"), tokens)[0] != "not separable"
    assert misses <= 13, "5 are expected; more than 13 has a chance below 0.1 % at 95 % coverage"


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"statistic": "correlation", "of": ["entropy"]}, "correlation: expected 2 quantities"),
        ({"statistic": "early", "of": ["entropies"]}, "no quantities"),
        ({"statistic": "difference", "of": ["entropy"]}, "go together"),
        ({"statistic": "early", "of": ["entropy"], "split": "branch"}, "go together"),
    ],
)
def test_a_claim_that_cannot_be_is_refused(settings, said):
    with pytest.raises(ValidationError, match=said):
        TokenClaim(experiment="e", method="m", **settings)
