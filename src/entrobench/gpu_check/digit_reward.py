"""A reward that random weights can earn, so that groups are mixed and an update has a gradient."""

from typing import Any


def compute_score(data_source: str, solution_str: str, ground_truth: str, **_: Any) -> dict[str, float]:
    """1 where the completion holds a digit."""
    has_digit = float(any(c.isdigit() for c in solution_str))
    return {"score": has_digit, "acc": has_digit}
