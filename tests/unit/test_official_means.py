"""Official means over categories, by hand."""

import pytest

from entrobench.statistics.official_means import (
    ACEBENCH_ATOM,
    ACEBENCH_SINGLE_TURN,
    OFFICIAL_MEANS,
    acebench,
    bfcl_live,
    bfcl_non_live,
    unweighted,
)

NON_LIVE = {
    "simple": [1, 1, 1, 0],
    "java": [1, 0],
    "javascript": [1],
    "multiple": [1, 0],
    "parallel": [0.25, 0.25],
    "parallel_multiple": [0, 0, 0],
}
LIVE = {
    "live_simple": [1, 1],
    "live_multiple": [1, 0, 0, 0, 0, 0],
    "live_parallel": [1],
    "live_parallel_multiple": [0.5],
}
ACE = {name: [1.0, 0.5] for name in ACEBENCH_ATOM} | {
    ACEBENCH_SINGLE_TURN[0]: [1.0, 1.0, 1.0, 0.0],
    ACEBENCH_SINGLE_TURN[1]: [0.0, 0.0, 1.0, 0.0],
}


def test_non_live_is_the_mean_of_four_categories_simple_that_of_three_languages():
    # Simple = (3/4 + 1/2 + 1) / 3 = 3/4; Non-Live = (3/4 + 1/2 + 1/4 + 0) / 4 = 3/8.
    # Over its 14 problems it would be 6 / 14 = .429, over six categories (.75 + .5 + 1 + .5 + .25) / 6 = .5
    assert bfcl_non_live(NON_LIVE) == pytest.approx(3 / 8)


def test_live_is_the_mean_over_problems():
    # (2 + 1 + 1 + 0.5) / (2 + 6 + 1 + 1) = .45; over categories it would be (1 + 1/6 + 1 + 1/2) / 4 = .667
    assert bfcl_live(LIVE) == pytest.approx(0.45)


def test_acebench_is_the_mean_of_eight_categories():
    # Atom = 3/4 six times, Single-turn = (3/4 + 1/4) / 2 = 1/2; all: (6 x 3/4 + 3/4 + 1/4) / 8 = 5.5 / 8
    assert unweighted(ACE, ACEBENCH_ATOM) == pytest.approx(0.75)
    assert unweighted(ACE, ACEBENCH_SINGLE_TURN) == pytest.approx(0.5)
    assert acebench(ACE) == pytest.approx(5.5 / 8)


@pytest.mark.parametrize(
    ("name", "values"), [("bfcl_live", LIVE), ("bfcl_non_live", NON_LIVE), ("acebench_en", ACE)]
)
def test_a_category_that_is_missing_empty_or_unknown_is_refused(name, values):
    mean, one = OFFICIAL_MEANS[name], next(iter(values))
    for wrong in (
        {key: value for key, value in values.items() if key != one},
        values | {one: []},
        values | {"other": [1]},
    ):
        with pytest.raises(ValueError, match="expected problems in each of"):
            mean(wrong)
