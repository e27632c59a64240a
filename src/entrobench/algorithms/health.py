"""Health metrics of a step, the same for every method."""

from collections.abc import Mapping

import torch
from torch import Tensor

from entrobench.algorithms.shaper import TokenBatch

ENTROPY_QUANTILES = (0.1, 0.5, 0.8, 0.9, 0.99)
# torch.quantile refuses more values than this; a fixed stride keeps the choice independent of anything random
QUANTILE_LIMIT = 2**24


def batch_health(batch: TokenBatch, shaped_BT: Tensor) -> dict[str, float]:
    """Metrics of the global batch: `shaped_BT` (B, T) is what the Shaper made of its advantages.

    polarity/fraction_* is the share of response tokens in a branch of P = A T, polarity/mass_* the share of
    sum |P|, polarity/weight_* the mean of |shaped| / |A| there.
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
    sample = entropy[:: entropy.numel() // QUANTILE_LIMIT + 1]
    quantiles = torch.quantile(sample, torch.tensor(ENTROPY_QUANTILES))
    for share, value in zip(ENTROPY_QUANTILES, quantiles.tolist(), strict=True):
        metrics[f"entropy/q{round(100 * share)}"] = value
    return metrics


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


def mismatch(trainer_logp: Tensor, rollout_logp: Tensor) -> dict[str, float]:
    """How far the rollout engine's log-probabilities (N,) are from the trainer's for the same tokens.

    KL(rollout || trainer) by the estimator r - 1 - log r with r = p_trainer / p_rollout, and the largest
    ratio either way.
    """
    log_ratio = (trainer_logp - rollout_logp).double()
    return {
        "mismatch/kl": (log_ratio.expm1() - log_ratio).mean().item(),
        "mismatch/max_ratio": log_ratio.abs().max().exp().item(),
    }


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
    geometric mean, kl_cov clips nothing.
    """
    if loss_mode == "kl_cov":
        return torch.zeros_like(mask_BT), torch.zeros_like(mask_BT)
    if loss_mode == "gspo":
        lengths_B1 = mask_BT.sum(1, keepdim=True).clamp(min=1)
        log_ratio_BT = ((log_ratio_BT * mask_BT).sum(1, keepdim=True) / lengths_B1).expand_as(mask_BT)
    ratio_BT = log_ratio_BT.exp()
    upper = mask_BT & (advantages_BT > 0) & (ratio_BT > 1 + high)
    lower = mask_BT & (advantages_BT < 0) & (ratio_BT < 1 - low)
    return upper, lower
