"""verl's custom reward function; verl loads this file by its path in its reward workers."""

from typing import Any

from entrobench.rewards.math_answers import grade


def compute_score(
    data_source: str, solution_str: str, ground_truth: str, incorrect: float = 0.0, **_: Any
) -> dict[str, float]:
    """Reward 1 for a correct final answer, else `incorrect`, which an answer that the grader could not decide
    earns too; such answers are counted.

    `acc` is what dynamic sampling filters groups by. verl calls this from threads of its reward workers.
    """
    verdict = grade(solution_str, str(ground_truth)).verdict
    is_correct = float(verdict == "correct")
    return {"score": is_correct or incorrect, "acc": is_correct, "grader_error": float(verdict == "error")}
