"""verl's FSDP engine, with log-probabilities, entropy and token statistics from our kernels.

Loaded in the workers through `actor_rollout_ref.model.external_lib`. Log-probabilities and entropy, of
updates too, are fp32 whatever the dtype of the logits: verl computes them in that dtype, and in bf16 a ratio
of new to old probability would move in steps. The driver asks for the statistics by
`batch.extra_info["token_stats"] = True`; each comes back as one more per-token field beside `log_probs`.
Updates run with the actor settings of their step (ACTOR_SETTINGS), padding rows count in no mean, and a cell
may ask for full-precision logits.
"""

from pathlib import Path
from typing import Any

import torch
from tensordict import TensorDict
from torch.distributed.fsdp.sharded_grad_scaler import ShardedGradScaler
from torch.distributed.tensor import DTensor
from verl.utils import tensordict_utils as tu
from verl.utils.dataset.dataset_utils import DatasetPadMode
from verl.utils.device import get_device_name
from verl.workers.engine import EngineRegistry
from verl.workers.engine.fsdp.transformer_impl import FSDPEngineWithLMHead
from verl.workers.rollout import base

from entrobench.errors import ConfigError
from entrobench.files import read_json, write_json
from entrobench.kernels.token_stats import log_prob_and_entropy, token_stats
from entrobench.training.attention import PACKED_VARLEN, packed_boundaries
from entrobench.training.step_loss import ACTOR_SETTINGS, StepLoss, real_rows

STAT_FIELDS = {"logp": "stat_logp", "entropy": "entropy", "sum_p2": "stat_sum_p2", "t2": "stat_t2"}

# What verl's engine can do and this one cannot: key of a batch's non-tensor data -> what to set instead
REFUSED = {
    "use_fused_kernels": "actor_rollout_ref.model.use_fused_kernels=False: they make no logits",
    "calculate_sum_pi_squared": "actor_rollout_ref.actor.calculate_sum_pi_squared=False: token_stats have it",
    "distillation_use_topk": "no distillation",
    "distillation_only": "no distillation",
}

# Key of the model's override_config: the head's logits are computed and kept in fp32 (REPO, App. A.1)
FULL_PRECISION_LOGITS = "entrobench_full_precision_logits"
# Key of the same: steps whose checkpoints hold the model in Hugging Face's format too; all by default
EXPORT_STEPS = "entrobench_export_steps"
# Keys of the override_config that say what the trainer does: nobody could load a model that carried them
OF_THE_TRAINER = (FULL_PRECISION_LOGITS, EXPORT_STEPS, "attn_implementation")

# Of a checkpoint, beside verl's files
GRADIENT_SCALER = "gradient_scaler.json"
GROWTH_INTERVAL = 400  # verl's, in updates


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

    scaler: Any = None  # verl makes one for FP16

    def _build_fsdp_module(self, module: torch.nn.Module) -> Any:
        if self.model_config.override_config.get(FULL_PRECISION_LOGITS, False):
            keep_logits_in_fp32(module)
        for key in OF_THE_TRAINER:  # verl has made attributes of them, which would be saved with the model
            vars(module.config).pop(key, None)
        built = super()._build_fsdp_module(module)
        if self.scaler is not None and get_device_name() == "cpu":  # that of verl is for CUDA: off on a CPU
            self.scaler = ShardedGradScaler(device="cpu", growth_interval=GROWTH_INTERVAL)
        return built

    def save_checkpoint(
        self, local_path: str, hdfs_path: str | None = None, global_step: int = 0, *args: Any, **kwargs: Any
    ) -> None:
        """verl's checkpoint, with the model for evaluation at EXPORT_STEPS only and, in FP16, the state of
        the gradient scaler, which verl forgets: a resumed run would begin with a scale that overflows, and
        skip updates until it has come down again.
        """
        manager = self.checkpoint_manager
        contents = manager.checkpoint_save_contents
        export_steps = self.model_config.override_config.get(EXPORT_STEPS)
        if export_steps is not None and global_step not in export_steps:
            manager.checkpoint_save_contents = [name for name in contents if name != "hf_model"]
        try:
            super().save_checkpoint(local_path, hdfs_path, global_step, *args, **kwargs)
        finally:
            manager.checkpoint_save_contents = contents
        if self.scaler is not None and self.rank == 0:
            write_json(Path(local_path) / GRADIENT_SCALER, self.scaler.state_dict())

    def load_checkpoint(self, local_path: str, *args: Any, **kwargs: Any) -> None:
        """verl's checkpoint and the gradient scaler's state. Raises FileNotFoundError where FP16 lacks it."""
        super().load_checkpoint(local_path, *args, **kwargs)
        if self.scaler is not None:
            self.scaler.load_state_dict(read_json(Path(local_path) / GRADIENT_SCALER))

    def train_batch(self, data: TensorDict, loss_function: Any) -> Any:
        """verl's update of one mini-batch, with the actor settings that the driver sent for this step. A mean
        over sequences is one over the rows that the mini-batch has, not over its configured size.
        """
        rows = real_rows(data["loss_mask"], self.get_data_parallel_group())
        tu.assign_non_tensor(data, global_batch_size=rows)
        settings = tu.get_non_tensor_data(data=data, key=ACTOR_SETTINGS, default=None) or {}
        outputs = super().train_batch(data, StepLoss(loss_function, dict(settings)))
        if self.scaler is not None and self.is_mp_src_rank_with_outputs():
            outputs["metrics"]["loss_scale"] = [self.scaler.get_scale()]
        return outputs

    def prepare_model_inputs(self, micro_batch: TensorDict) -> tuple[dict[str, Any], dict[str, Any]]:
        """verl's arguments of the model, with the boundaries of its packed sequences for PACKED_VARLEN."""
        inputs, output_args = super().prepare_model_inputs(micro_batch)
        is_packed = "pad_size" in output_args
        if is_packed and self.model_config.hf_config._attn_implementation == PACKED_VARLEN:
            inputs |= packed_boundaries(micro_batch["input_ids"].offsets(), output_args["pad_size"])
        return inputs, output_args

    def prepare_model_outputs(
        self, output: Any, output_args: dict[str, Any], micro_batch: TensorDict, logits_processor_func: Any
    ) -> dict[str, torch.Tensor]:
        """`log_probs` and, where asked for, `entropy`, or STAT_FIELDS where `token_stats` was asked for:
        jagged fp32 tensors.

        Position i predicts token i + 1; the last position of a sequence means nothing. Gradient flows back
        from `log_probs` and `entropy`. Raises ConfigError for what REFUSED names and for padded batches.
        """
        for key, remedy in REFUSED.items():
            if tu.get_non_tensor_data(data=micro_batch, key=key, default=False):
                raise ConfigError(f"token statistics: {key} of a batch is not supported: set {remedy}")
        pad_mode = tu.get_non_tensor_data(micro_batch, key="pad_mode", default=DatasetPadMode.NO_PADDING)
        if pad_mode != DatasetPadMode.NO_PADDING:
            raise ConfigError(f"token statistics: expected pad_mode NO_PADDING; found {pad_mode}")
        fields: dict[str, torch.Tensor] = {}
        if tu.get_non_tensor_data(data=micro_batch, key="token_stats", default=False):
            if torch.is_grad_enabled():
                raise ConfigError("token statistics have no gradient: ask for them outside updates")
            stats = token_stats(*self._decoding_states(output.logits, output_args, micro_batch))
            fields = {field: getattr(stats, name) for name, field in STAT_FIELDS.items()}
            fields["log_probs"] = stats.logp
        else:
            states = self._decoding_states(output.logits, output_args, micro_batch)
            fields["log_probs"], entropy = log_prob_and_entropy(*states)
            if tu.get_non_tensor_data(data=micro_batch, key="calculate_entropy", default=False):
                fields["entropy"] = entropy
        return {
            name: self._as_jagged(field, output_args, micro_batch, output.logits.shape[1])
            for name, field in fields.items()
        }

    def _decoding_states(
        self, logits: torch.Tensor, output_args: dict[str, Any], micro_batch: TensorDict
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Logits (N, V), next tokens (N,) and temperature (N,) of all positions, padding included."""
        if isinstance(logits, DTensor):
            logits = logits.full_tensor()
        next_tokens = output_args["input_ids_rmpad_rolled"]
        if tu.get_non_tensor_data(data=micro_batch, key="use_remove_padding", default=True):
            return logits.squeeze(0), next_tokens, output_args["temperature_rmpad"]
        is_token_BT = _is_token(micro_batch, logits.shape[1])
        next_tokens_BT = next_tokens.new_zeros(is_token_BT.shape).masked_scatter(is_token_BT, next_tokens)
        temperature_BT = output_args["temperature"][:, None].expand(is_token_BT.shape)
        return logits.flatten(0, 1), next_tokens_BT.flatten(), temperature_BT.flatten()

    def _as_jagged(
        self, field_N: torch.Tensor, output_args: dict[str, Any], micro_batch: TensorDict, length: int
    ) -> torch.Tensor:
        """A field of `_decoding_states` by sequence, without padding."""
        if tu.get_non_tensor_data(data=micro_batch, key="use_remove_padding", default=True):
            field_N = self._gather_and_unpad_packed(field_N, output_args["pad_size"])
        else:
            is_token_BT = _is_token(micro_batch, length)
            field_N = field_N.view(is_token_BT.shape)[is_token_BT]
        return torch.nested.nested_tensor_from_jagged(field_N, micro_batch["input_ids"].offsets())


def _is_token(micro_batch: TensorDict, length: int) -> torch.Tensor:
    """(B, length), False at the padding on the right."""
    offsets = micro_batch["input_ids"].offsets()
    return torch.arange(length, device=offsets.device)[None] < offsets.diff()[:, None]


for _device, _vendor in (("cpu", "cpu"), ("cuda", "nvidia")):
    EngineRegistry.register(
        model_type="language_model", backend=["fsdp", "fsdp2"], device=_device, vendor=_vendor
    )(TokenStatsEngine)

base._ROLLOUT_REGISTRY[("vllm", "async")] = "entrobench.training.weight_transfer.ServerAdapter"
