"""verl's custom reward function for Tool-N1; verl loads this file by its path in its reward workers."""

from typing import Any

from entrobench.rewards.tool_call import grade_tool_call


def compute_score(
    data_source: str, solution_str: str, ground_truth: str, incorrect: float = 0.0, **_: Any
) -> dict[str, float]:
    """Reward 1 for exactly the gold calls, else `incorrect`; a gold that cannot be read is counted.

    `acc` is what dynamic sampling filters groups by.
    """
    verdict = grade_tool_call(solution_str, str(ground_truth)).verdict
    is_correct = float(verdict == "correct")
    return {"score": is_correct or incorrect, "acc": is_correct, "grader_error": float(verdict == "error")}
