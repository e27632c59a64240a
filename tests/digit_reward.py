"""Reward of the training tests: a random model can earn it, so that groups are mixed."""

from typing import Any


def compute_score(data_source: str, solution_str: str, ground_truth: str, **_: Any) -> dict[str, float]:
    """1 where the completion holds a digit; no reward at all for data_source "test/impossible"."""
    is_rewarded = any(c.isdigit() for c in solution_str) and data_source != "test/impossible"
    return {"score": float(is_rewarded), "acc": float(is_rewarded)}
