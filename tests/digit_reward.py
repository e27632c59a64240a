"""Reward of the training tests: a random model can earn it, so that groups are mixed."""

from typing import Any

from entrobench.gpu_check import digit_reward

# A metric of which no group has two values
CONSTANT = "constant"


def compute_score(data_source: str, solution_str: str, ground_truth: str, **_: Any) -> dict[str, float]:
    """1 where the completion holds a digit."""
    return digit_reward.compute_score(data_source, solution_str, ground_truth) | {CONSTANT: 0.0}
