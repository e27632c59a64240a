"""verl's FSDP engine, with token statistics from the log-probability pass that verl makes anyway.

Loaded in the workers through `actor_rollout_ref.model.external_lib`. The driver asks for the statistics by
`batch.extra_info["token_stats"] = True`; each comes back as one more per-token field beside `log_probs`, and
`entropy` is replaced by ours, because verl's is computed in the dtype of the logits. Updates run with the
actor settings of their step (ACTOR_SETTINGS), padding rows count in no mean, and a cell may ask for
full-precision logits.
"""

from typing import Any

import torch
from tensordict import TensorDict
from torch.distributed.tensor import DTensor
from verl.utils import tensordict_utils as tu
from verl.workers.engine import EngineRegistry
from verl.workers.engine.fsdp.transformer_impl import FSDPEngineWithLMHead

from entrobench.errors import ConfigError
from entrobench.kernels.token_stats import TokenStats, token_stats
from entrobench.training.step_loss import ACTOR_SETTINGS, StepLoss, real_rows

STAT_FIELDS = {"logp": "stat_logp", "entropy": "entropy", "sum_p2": "stat_sum_p2", "t2": "stat_t2"}


# Key of the model's override_config: the head's logits are computed and kept in fp32 (REPO, App. A.1)
FULL_PRECISION_LOGITS = "entrobench_full_precision_logits"


def keep_logits_in_fp32(model: torch.nn.Module) -> None:
    """Make the head of a language model compute its logits in fp32, whatever its weights and autocast are.

    Raises ConfigError for a model without a linear head.
    """
    head = getattr(model, "get_output_embeddings", lambda: None)()
    if not isinstance(head, torch.nn.Linear):
        raise ConfigError(f"full-precision logits: {type(model).__name__} has no linear head")

    def forward(hidden: torch.Tensor) -> torch.Tensor:
        bias = None if head.bias is None else head.bias.float()
        with torch.autocast(hidden.device.type, enabled=False):
            return torch.nn.functional.linear(hidden.float(), head.weight.float(), bias)

    head.forward = forward  # type: ignore[method-assign, assignment]


class TokenStatsEngine(FSDPEngineWithLMHead):
    """FSDP engine whose forward pass can return TokenStats for every token of the batch."""

    def _build_fsdp_module(self, module: torch.nn.Module) -> Any:
        if self.model_config.override_config.get(FULL_PRECISION_LOGITS, False):
            keep_logits_in_fp32(module)
        return super()._build_fsdp_module(module)

    def train_batch(self, data: TensorDict, loss_function: Any) -> Any:
        """verl's update of one mini-batch, with the actor settings that the driver sent for this step. A mean
        over sequences is one over the rows that the mini-batch has, not over its configured size.
        """
        rows = real_rows(data["loss_mask"], self.get_data_parallel_group())
        tu.assign_non_tensor(data, global_batch_size=rows)
        settings = tu.get_non_tensor_data(data=data, key=ACTOR_SETTINGS, default=None) or {}
        return super().train_batch(data, StepLoss(loss_function, dict(settings)))

    def prepare_model_outputs(
        self, output: Any, output_args: dict[str, Any], micro_batch: TensorDict, logits_processor_func: Any
    ) -> dict[str, torch.Tensor]:
        """verl's outputs, plus STAT_FIELDS as jagged fp32 tensors where `token_stats` was asked for.

        Raises ValueError with fused kernels, which never materialise the logits.
        """
        if not tu.get_non_tensor_data(data=micro_batch, key="token_stats", default=False):
            return super().prepare_model_outputs(output, output_args, micro_batch, logits_processor_func)
        if tu.get_non_tensor_data(data=micro_batch, key="use_fused_kernels", default=False):
            raise ValueError(
                "token statistics need logits: set actor_rollout_ref.model.use_fused_kernels=False"
            )
        stats = self._token_stats(output.logits, output_args, micro_batch)
        tu.assign_non_tensor_data(micro_batch, "calculate_entropy", False)
        model_output = super().prepare_model_outputs(output, output_args, micro_batch, logits_processor_func)
        offsets = micro_batch["input_ids"].offsets()
        for name, field in STAT_FIELDS.items():
            model_output[field] = torch.nested.nested_tensor_from_jagged(getattr(stats, name), offsets)
        return model_output

    def _token_stats(
        self, logits: torch.Tensor, output_args: dict[str, Any], micro_batch: TensorDict
    ) -> TokenStats:
        """TokenStats of (N,) tensors, N = tokens of the micro-batch without padding, in packed order.

        Position i predicts token i + 1, as in verl's log_probs; the last position of a sequence means
        nothing.
        """
        if isinstance(logits, DTensor):
            logits = logits.full_tensor()
        next_tokens_N = output_args["input_ids_rmpad_rolled"]
        if tu.get_non_tensor_data(data=micro_batch, key="use_remove_padding", default=True):
            stats = token_stats(logits.squeeze(0), next_tokens_N, output_args["temperature_rmpad"])
            return TokenStats(*(self._gather_and_unpad_packed(s, output_args["pad_size"]) for s in stats))
        lengths_B = micro_batch["input_ids"].offsets().diff()
        is_token_BT = torch.arange(logits.shape[1], device=logits.device)[None] < lengths_B[:, None]
        temperature_BT = output_args["temperature"][:, None].expand(is_token_BT.shape)
        return token_stats(logits[is_token_BT], next_tokens_N, temperature_BT[is_token_BT])


for _device, _vendor in (("cpu", "cpu"), ("cuda", "nvidia")):
    EngineRegistry.register(
        model_type="language_model", backend=["fsdp", "fsdp2"], device=_device, vendor=_vendor
    )(TokenStatsEngine)
