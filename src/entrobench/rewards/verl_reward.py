"""verl's custom reward function; verl loads this file by its path in its reward workers."""

import math
from typing import Any

from entrobench.errors import ConfigError
from entrobench.rewards.graders import grader_of


def compute_score(
    data_source: str, solution_str: str, ground_truth: Any, incorrect: float = 0.0, **_: Any
) -> dict[str, float]:
    """Reward 1 for a correct final answer, else `incorrect`, which an answer that the grader could not decide
    earns too; such answers are counted, and so are those on which the second opinion differs.

    `acc` is what dynamic sampling filters groups by. verl calls this from threads of its reward workers.
    Raises UnknownName for a data source without a grader, ConfigError for a reward that is no finite number.
    """
    if not math.isfinite(incorrect):
        raise ConfigError(f"reward for an incorrect answer: expected a finite number, found {incorrect!r}")
    result = grader_of(data_source)(solution_str, ground_truth)
    is_correct = float(result.verdict == "correct")
    return {
        "score": is_correct or incorrect,
        "acc": is_correct,
        "grader_error": float(result.verdict == "error"),
        "grader_disagreement": float(result.verdict != result.second_verdict),
    }
