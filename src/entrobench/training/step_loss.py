"""verl's PPO loss with the actor settings and chosen tokens of one step, and the two clip fractions apart."""

import copy
import functools
from typing import Any

import torch
from tensordict import TensorDict
from verl.utils import tensordict_utils as tu
from verl.utils.device import get_device_id
from verl.utils.metric import AggregationType, Metric
from verl.workers.utils.padding import no_padding_2_padding

from entrobench.algorithms.entropy_flow import flow_of
from entrobench.algorithms.health import clip_masks
from entrobench.training.covariance_loss import CHOSEN_TOKENS

# Field of a batch's non-tensor data: dotted key of verl's ActorConfig -> value for the updates of this step
ACTOR_SETTINGS = "entrobench_actor_settings"


def with_settings(config: Any, settings: dict[str, Any]) -> Any:
    """A copy of a verl ActorConfig with `settings` (dotted keys) in it; verl's own object stays as it is.

    Raises AttributeError for a key that the configuration does not have.
    """
    changed = copy.copy(config)
    for key, value in settings.items():
        first, _, rest = key.partition(".")
        current = getattr(changed, first)
        # verl's configurations refuse assignment; a copy of one step's is ours
        object.__setattr__(changed, first, with_settings(current, {rest: value}) if rest else value)
    return changed


def real_rows(loss_mask: torch.Tensor, dp_group: Any) -> int:
    """Rows of a mini-batch, over all ranks, with a token in the loss: verl's padding rows have none.

    loss_mask: jagged, this rank's rows of the mini-batch.
    """
    rows = torch.stack([mask.any() for mask in loss_mask.unbind()]).sum().to(get_device_id())
    torch.distributed.all_reduce(rows, group=dp_group)
    return max(1, int(rows))


class StepLoss:
    """Wraps verl's `partial(ppo_loss, config=...)`; called once per micro-batch."""

    def __init__(self, loss_function: "functools.partial[Any]", settings: dict[str, Any]) -> None:
        self.config = with_settings(loss_function.keywords["config"], settings)
        self.loss = functools.partial(loss_function.func, config=self.config)

    def __call__(self, model_output: dict[str, Any], data: TensorDict, dp_group: Any = None) -> Any:
        """(loss, metrics) as verl's, with actor/clip_fraction_{upper,lower} over the tokens of the
        mini-batch, and actor/flow_clipped_{upper,lower}: OPEFO's first-order entropy change (Eq. 6, Fig. 2c)
        summed over the tokens that the clip takes from a mini-batch, by the policy before the step.
        """
        if CHOSEN_TOKENS in data:
            chosen = data.select(CHOSEN_TOKENS).to_padded_tensor()[CHOSEN_TOKENS].bool()
            object.__setattr__(self.config, "chosen_tokens_BT", chosen)
        loss, metrics = self.loss(model_output=model_output, data=data, dp_group=dp_group)
        masks = self._clip_masks(model_output, data)
        flow_BT = _entropy_flow(data)
        tokens = tu.get_non_tensor_data(data=data, key="batch_num_tokens", default=None)
        dp_size = tu.get_non_tensor_data(data=data, key="dp_size", default=1)
        for side, is_clipped_BT in zip(("upper", "lower"), masks, strict=True):
            # A sum over micro-batches and a mean over ranks, as verl aggregates its own token means
            share = is_clipped_BT.sum().item() * dp_size / tokens
            metrics[f"actor/clip_fraction_{side}"] = Metric(value=share, aggregation=AggregationType.SUM)
            if flow_BT is not None:
                flow = flow_BT[is_clipped_BT].sum().item() * dp_size
                metrics[f"actor/flow_clipped_{side}"] = Metric(value=flow, aggregation=AggregationType.SUM)
        # What the updates really ran with: a controller's value has arrived when it stands here
        for key in ("clip_ratio_high", "entropy_coeff"):
            value = float(getattr(self.config, key))
            metrics[f"actor/{key}"] = Metric(value=value, aggregation=AggregationType.MEAN)
        return loss, metrics

    @torch.no_grad()
    def _clip_masks(
        self, model_output: dict[str, Any], data: TensorDict
    ) -> tuple[torch.Tensor, torch.Tensor]:
        log_prob_BT = no_padding_2_padding(model_output["log_probs"], data)
        batch = data.select("response_mask", "old_log_probs", "advantages").to_padded_tensor()
        return clip_masks(
            log_prob_BT - batch["old_log_probs"],
            batch["advantages"],
            batch["response_mask"].bool(),
            self.config.clip_ratio_low,
            self.config.clip_ratio_high,
            self.config.policy_loss.loss_mode,
        )


@torch.no_grad()
def _entropy_flow(data: TensorDict) -> torch.Tensor | None:
    """OPEFO's Eq. 6 of each token, (B, T), by the policy before the step; None without its entropy."""
    if "entropy" not in data:
        return None
    batch = data.select("old_log_probs", "advantages", "entropy").to_padded_tensor()
    return flow_of(batch["advantages"], batch["old_log_probs"], batch["entropy"])
