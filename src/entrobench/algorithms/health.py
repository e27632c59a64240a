"""Health metrics of a step, the same for every method."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from entrobench.algorithms.entropy_flow import entropy_flow
from entrobench.algorithms.shaper import TokenBatch
from entrobench.errors import TrainingFailed

ENTROPY_QUANTILES = (0.1, 0.5, 0.8, 0.9, 0.99)
# torch.quantile refuses more values than this; a fixed stride keeps the choice independent of anything random
QUANTILE_LIMIT = 2**24


def batch_health(batch: TokenBatch, shaped_BT: Tensor) -> dict[str, float]:
    """Metrics of the global batch: `shaped_BT` (B, T) is what the Shaper made of its advantages.

    polarity/fraction_* is the share of response tokens in a branch of P = A T, polarity/mass_* the share of
    sum |P|, polarity/weight_* the mean of |shaped| / |A| there. flow/rising, falling, net: sums over
    the batch of OPEFO's first-order entropy change (Eq. 6), of the shaped advantages.
    """
    mask_BT = batch.mask_BT
    polarity = batch.polarity_BT()[mask_BT].double()
    before, after = batch.advantages_BT[mask_BT].double(), shaped_BT[mask_BT].double()
    entropy = batch.stats.entropy[mask_BT]
    metrics = {}
    total_mass = polarity.abs().sum().item()
    for branch, is_in in (("positive", polarity > 0), ("negative", polarity < 0)):
        mass = polarity[is_in].abs().sum().item()
        metrics[f"polarity/fraction_{branch}"] = is_in.double().mean().item()
        metrics[f"polarity/mass_{branch}"] = mass / total_mass if total_mass else 0.0
        metrics[f"polarity/weight_{branch}"] = (
            (after[is_in].abs() / before[is_in].abs()).mean().item() if is_in.any() else 1.0
        )
    flow = entropy_flow(shaped_BT, batch.stats)[mask_BT].double()
    rising, falling = flow.clamp(min=0).sum().item(), -flow.clamp(max=0).sum().item()
    metrics |= {"flow/rising": rising, "flow/falling": falling, "flow/net": rising - falling}
    sample = entropy[:: entropy.numel() // QUANTILE_LIMIT + 1]
    quantiles = torch.quantile(sample, torch.tensor(ENTROPY_QUANTILES))
    for share, value in zip(ENTROPY_QUANTILES, quantiles.tolist(), strict=True):
        metrics[f"entropy/q{round(100 * share)}"] = value
    return metrics


def entropy_by_verdict(batch: TokenBatch, is_correct_B: Tensor) -> dict[str, float]:
    """entropy/correct, entropy/wrong: the token means over correct and over wrong responses (exchange, Fig.
    2a); without the one that there is none of.

    is_correct_B: bool (B,).
    """
    verdicts = {"correct": is_correct_B, "wrong": ~is_correct_B}
    masks = {name: batch.mask_BT & is_in_B[:, None] for name, is_in_B in verdicts.items()}
    return {
        f"entropy/{name}": batch.stats.entropy[mask_BT].double().mean().item()
        for name, mask_BT in masks.items()
        if mask_BT.any()
    }


def group_rates(
    batch: TokenBatch, is_correct_B: Tensor, dropped: Mapping[float, int], surplus: int = 0
) -> dict[str, float]:
    """Share of the step's groups whose responses are all correct, and all wrong.

    is_correct_B: bool (B,). dropped: accuracy that all responses of a group shared -> number of groups that
    dynamic sampling dropped for it. surplus: mixed groups that it discarded because the batch was full.
    """
    is_real_B = batch.mask_BT.any(1)
    groups = batch.groups_B[is_real_B]
    correct = is_correct_B[is_real_B]
    shares = [correct[groups == group].double().mean().item() for group in groups.unique()]
    total = len(shares) + sum(dropped.values()) + surplus
    return {
        "groups/all_correct": (shares.count(1.0) + dropped.get(1.0, 0)) / total,
        "groups/all_wrong": (shares.count(0.0) + dropped.get(0.0, 0)) / total,
    }


def environment_rates(outcomes: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """What became of the tasks of a step's rollouts (environments.conversation.Outcome, as records, with
    generate_seconds): shares of all, turns, and the environment's share of a rollout's seconds.
    """
    endings = Counter(outcome["ending"] for outcome in outcomes)
    in_environment = sum(outcome["seconds"] for outcome in outcomes)
    in_all = in_environment + sum(outcome["generate_seconds"] for outcome in outcomes)
    names = ("completed", "turns", "cut", "context", "failed")
    return {
        **{f"environment/{name}": endings[name] / len(outcomes) for name in names},
        "environment/turn_count": sum(outcome["turns"] for outcome in outcomes) / len(outcomes),
        "environment/seconds_share": in_environment / in_all if in_all else 0.0,
    }


def mismatch(trainer_logp: Tensor, rollout_logp: Tensor) -> dict[str, float]:
    """How far the rollout engine's log-probabilities (N,) are from the trainer's for the same tokens.

    KL(rollout || trainer) by the estimator r - 1 - log r with r = p_trainer / p_rollout; the lowest and the
    highest r; and the largest ratio either way.
    """
    log_ratio = (trainer_logp - rollout_logp).double()
    return {
        "mismatch/kl": (log_ratio.expm1() - log_ratio).mean().item(),
        "mismatch/lowest_ratio": log_ratio.min().exp().item(),
        "mismatch/highest_ratio": log_ratio.max().exp().item(),
        "mismatch/max_ratio": log_ratio.abs().max().exp().item(),
    }


class MismatchGate:
    """Ends a run whose rollout engine samples from another policy than the trainer trains."""

    def __init__(self, kl: float, steps: int) -> None:
        self.limit, self.steps = kl, steps
        self._above: list[tuple[int, float]] = []

    def check(self, step: int, kl: float) -> None:
        """Raise TrainingFailed after `steps` steps in a row with a KL above the limit, or that is NaN."""
        self._above = [] if kl <= self.limit else [*self._above, (step, kl)]
        if len(self._above) < self.steps:
            return
        values = ", ".join(f"{kl:.3g} in step {step}" for step, kl in self._above)
        raise TrainingFailed(
            f"rollouts do not come from the policy that is trained: mismatch/kl {values}; expected at most "
            f"{self.limit:g}.\n"
            "  Look at the weight transfer (a value that grows from step to step means stale weights, or an "
            "adapter that does not arrive), at the dtypes of trainer and rollout "
            "(actor_rollout_ref.actor.fsdp_config.mixed_precision, actor_rollout_ref.rollout.dtype), and at "
            "vLLM's version in manifest.json; mismatch/max_ratio of metrics.jsonl has the worst token.\n"
            "  Checkpoints are intact; those of the steps named learnt from such rollouts. The limit is "
            "`mismatch` in configs/scales/."
        )


def clip_masks(
    log_ratio_BT: Tensor,
    advantages_BT: Tensor,
    mask_BT: Tensor,
    low: float,
    high: float,
    loss_mode: str,
) -> tuple[Tensor, Tensor]:
    """Tokens (B, T) whose gradient PPO's clip removes: A > 0 beyond 1 + high, and A < 0 below 1 - low.

    log_ratio_BT: log of new over old probability. loss_mode: verl's; with gspo the ratio is the response's
    geometric mean, KL-Cov clips nothing.
    """
    if loss_mode.startswith("kl_cov"):
        return torch.zeros_like(mask_BT), torch.zeros_like(mask_BT)
    if loss_mode == "gspo":
        lengths_B1 = mask_BT.sum(1, keepdim=True).clamp(min=1)
        log_ratio_BT = ((log_ratio_BT * mask_BT).sum(1, keepdim=True) / lengths_B1).expand_as(mask_BT)
    ratio_BT = log_ratio_BT.exp()
    upper = mask_BT & (advantages_BT > 0) & (ratio_BT > 1 + high)
    lower = mask_BT & (advantages_BT < 0) & (ratio_BT < 1 - low)
    return upper, lower
