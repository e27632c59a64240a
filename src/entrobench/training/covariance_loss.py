"""verl's Clip-Cov and KL-Cov losses, on tokens that the driver has chosen over the whole mini-batch.

The driver writes CHOSEN_TOKENS into the batch (algorithms/covariance.py); StepLoss hands the micro-batch's
part of it on as `chosen_tokens_BT` of its configuration: verl's losses have no argument for it.
"""

from typing import Any

import torch
from omegaconf import DictConfig
from torch import Tensor
from verl.trainer.ppo.core_algos import agg_loss, register_policy_loss
from verl.utils.torch_functional import masked_mean

from entrobench.algorithms.covariance import CovarianceRule

CHOSEN_TOKENS = "entrobench_chosen_tokens"
CLIP_COV, KL_COV = "clip_cov_mini_batch", "kl_cov_mini_batch"


def covariance_rule(actor: DictConfig) -> CovarianceRule | None:
    """How the driver is to choose tokens for verl's ActorConfig; None where its loss needs no choice."""
    settings = actor.policy_loss
    if settings.loss_mode == CLIP_COV:
        return CovarianceRule(settings.clip_cov_ratio, (settings.clip_cov_lb, settings.clip_cov_ub))
    return CovarianceRule(settings.kl_cov_ratio) if settings.loss_mode == KL_COV else None


@register_policy_loss(CLIP_COV)
def clip_cov(
    old_log_prob: Tensor,
    log_prob: Tensor,
    advantages: Tensor,
    response_mask: Tensor,
    loss_agg_mode: str,
    config: Any,
    rollout_is_weights: Tensor | None = None,
) -> tuple[Tensor, dict[str, Any]]:
    """PPO's loss without the chosen tokens; see verl's compute_policy_loss_clip_cov."""
    log_ratio = log_prob - old_log_prob
    ratio = log_ratio.exp()
    clipped = ratio.clamp(1 - config.clip_ratio_low, 1 + config.clip_ratio_high)
    losses = torch.maximum(-advantages * ratio, -advantages * clipped) * ~config.chosen_tokens_BT
    return _aggregated(losses, log_ratio, response_mask, loss_agg_mode, config, rollout_is_weights)


@register_policy_loss(KL_COV)
def kl_cov(
    old_log_prob: Tensor,
    log_prob: Tensor,
    advantages: Tensor,
    response_mask: Tensor,
    loss_agg_mode: str,
    config: Any,
    rollout_is_weights: Tensor | None = None,
) -> tuple[Tensor, dict[str, Any]]:
    """The policy gradient with a penalty on |log ratio| of the chosen tokens; see verl's
    compute_policy_loss_kl_cov.
    """
    log_ratio = log_prob - old_log_prob
    penalty = config.policy_loss.ppo_kl_coef * log_ratio.abs() * config.chosen_tokens_BT
    losses = -advantages * log_ratio.exp() + penalty
    return _aggregated(losses, log_ratio, response_mask, loss_agg_mode, config, rollout_is_weights)


def _aggregated(
    losses: Tensor,
    log_ratio: Tensor,
    mask: Tensor,
    mode: str,
    config: Any,
    rollout_is_weights: Tensor | None,
) -> tuple[Tensor, dict[str, Any]]:
    if rollout_is_weights is not None:
        losses = losses * rollout_is_weights
    loss = agg_loss(loss_mat=losses, loss_mask=mask, loss_agg_mode=mode, **config.global_batch_info)
    return loss, {"actor/ppo_kl": masked_mean(log_ratio.abs(), mask).item()}
