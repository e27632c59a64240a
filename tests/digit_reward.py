"""Reward of the training tests: a random model can earn it, so that groups are mixed."""

from typing import Any

from entrobench.gpu_check import digit_reward


def compute_score(data_source: str, solution_str: str, ground_truth: str, **_: Any) -> dict[str, float]:
    """1 where the completion holds a digit; no reward at all for data_source "test/impossible"."""
    completion = "" if data_source == "test/impossible" else solution_str
    return digit_reward.compute_score(data_source, completion, ground_truth)
