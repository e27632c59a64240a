"""verl's synchronous trainer, with a Shaper between the advantages and the update.

What is ours: the shaper sees the global batch on the driver before it is split (contract 3), its state is
part of the checkpoint, dynamic sampling ends with an error instead of running for ever, and each phase leaves
a sign of life. Everything else is verl's.
"""

import functools
from pathlib import Path
from typing import Any

import torch
import transfer_queue as tq
from omegaconf import DictConfig, OmegaConf
from tensordict import TensorDict
from transfer_queue import KVBatchMeta
from verl.trainer.ppo.v1 import trainer_base
from verl.trainer.ppo.v1.trainer_sync import PPOTrainerSync
from verl.workers.utils.padding import response_from_nested, response_to_nested

from entrobench.algorithms import SHAPERS, Shaper, TokenBatch
from entrobench.errors import TrainingFailed
from entrobench.kernels.token_stats import TokenStats
from entrobench.training.engine import STAT_FIELDS
from entrobench.training.run_files import Curve, Progress, load_controller, save_controller

# verl looks for finished rollouts every 2 s by default, which is longer than a whole smoke step
REPLAY_POLL_SECONDS = 0.1


class DynamicSamplingExhausted(TrainingFailed):
    """Too many groups were all correct or all wrong: the batch could not be filled within the allowed
    generations.
    """


class EntropyTrainer(PPOTrainerSync):
    """PPOTrainerSync with an optional Shaper. Reads `config.entrobench` (run_dir, shaper)."""

    def __init__(self, config: DictConfig) -> None:
        super().__init__(config)
        self.replay_buffer.poll_interval = REPLAY_POLL_SECONDS
        run_dir = Path(config.entrobench.run_dir)
        self._progress = Progress(run_dir)
        self._curve = Curve(run_dir)
        self._shaper = _make_shaper(config)
        self._prompts_generated = 0
        # Kept apart from verl's metrics, which it averages over sub-steps and so rounds
        self._step_metrics: dict[str, float] = {}

    # -- bounded dynamic sampling ----------------------------------------------------------------------------

    def on_step_begin(self) -> None:
        super().on_step_begin()
        self._prompts_generated = 0
        self._progress.beat("generate", self.global_steps)

    def _submit_batch_to_rollout(self, batch: TensorDict) -> int:
        """Count the prompts of this step against `algorithm.filter_groups.max_num_gen_batches`, which V1
        ignores.

        Raises DynamicSamplingExhausted instead of generating one prompt more than allowed.
        """
        filter_groups = self.config.algorithm.filter_groups
        train_batch_size = self.config.data.train_batch_size
        limit = filter_groups.max_num_gen_batches * train_batch_size
        if filter_groups.enable and 0 < limit < self._prompts_generated + len(batch):
            raise DynamicSamplingExhausted(
                f"dynamic sampling: step {self.global_steps} generated {self._prompts_generated} prompts "
                f"({filter_groups.max_num_gen_batches} batches of {train_batch_size}) and still has "
                f"fewer than "
                f"{train_batch_size} groups with both correct and incorrect answers.\n  The task is too "
                f"hard or "
                f"too easy for this model. Change the data, raise "
                f"algorithm.filter_groups.max_num_gen_batches, "
                f"or use a method without dynamic sampling (grpo). Checkpoints are intact."
            )
        self._prompts_generated += len(batch)
        return super()._submit_batch_to_rollout(batch)

    # -- token statistics and shaping ------------------------------------------------------------------------

    def _compute_old_log_prob(self, batch: KVBatchMeta, metrics: dict[str, Any]) -> KVBatchMeta:
        self._progress.beat("old_log_prob", self.global_steps)
        batch.extra_info["token_stats"] = True
        batch = super()._compute_old_log_prob(batch, metrics)
        batch.extra_info["token_stats"] = False
        return batch

    def _compute_advantage(self, batch: KVBatchMeta, metrics: dict[str, Any]) -> KVBatchMeta:
        self._progress.beat("advantage", self.global_steps)
        batch = super()._compute_advantage(batch, metrics)
        token_batch, old_log_probs_BT, response_mask = self._read_token_batch(batch)
        mismatch_BT = (token_batch.stats.logp - old_log_probs_BT).abs()
        metrics["token_stats/log_prob_mismatch_max"] = mismatch_BT[token_batch.mask_BT].max().item()
        metrics["token_stats/padding_rows"] = sum(tag.get("is_padding", False) for tag in batch.tags)
        # verl logs the padded batch's entropy in the loss's aggregation; this is the token mean of real rows,
        # fp32
        self._step_metrics = {"entropy": token_batch.mean_entropy()}
        if self._shaper is not None:
            shaped_BT, shaper_metrics = self._shaper.shape(token_batch)
            self._step_metrics |= shaper_metrics
            fields = TensorDict(
                {"advantages": response_to_nested(shaped_BT, response_mask)}, batch_size=len(batch)
            )
            batch = tq.kv_batch_put(keys=batch.keys, partition_id=batch.partition_id, fields=fields)
        return batch

    def _read_token_batch(self, batch: KVBatchMeta) -> tuple[TokenBatch, torch.Tensor, torch.Tensor]:
        """The global batch, verl's own log-probs (B, T), and the jagged response mask that carries the true
        lengths.
        """
        stat_fields = list(STAT_FIELDS.values())
        fields = [*stat_fields, "old_log_probs", "advantages", "response_mask"]
        data = tq.kv_batch_get(keys=batch.keys, partition_id=batch.partition_id, select_fields=fields)
        missing = sorted(set(fields) - set(data.keys()))
        if missing:  # TransferQueue drops an unknown field without a word
            raise TrainingFailed(
                f"the log-probability pass returned no {missing}: is the engine entrobench's?"
            )
        response_mask = data["response_mask"]
        for field in set(stat_fields) - {"entropy"}:  # verl has cut `entropy` to the response already
            data[field] = response_from_nested(data[field], response_mask)
        padded = data.to_padded_tensor()
        is_real_B = torch.tensor([not tag.get("is_padding", False) for tag in batch.tags])
        stats = TokenStats(**{name: padded[field].float() for name, field in STAT_FIELDS.items()})
        mask_BT = padded["response_mask"].bool() & is_real_B[:, None]
        token_batch = TokenBatch(padded["advantages"].float(), stats, mask_BT)
        return token_batch, padded["old_log_probs"].float(), response_mask

    def _update_actor(self, batch: KVBatchMeta, metrics: dict[str, Any]) -> KVBatchMeta:
        self._progress.beat("update_actor", self.global_steps)
        return super()._update_actor(batch, metrics)

    def on_step_end(self) -> None:
        self._progress.beat("update_weights", self.global_steps)
        super().on_step_end()

    def _compute_metrics(
        self,
        batch: KVBatchMeta,
        metrics: dict[str, Any],
        timing_raw: dict[str, float],
        global_steps: int,
        epoch: int,
    ) -> None:
        super()._compute_metrics(batch, metrics, timing_raw, global_steps, epoch)
        metrics |= self._step_metrics
        metrics["reward"] = metrics["critic/score/mean"]
        metrics["response_length"] = metrics["response_length/mean"]
        metrics["grad_norm"] = metrics["actor/grad_norm"]
        self._curve.append(self.global_steps, metrics)

    # -- state across an interruption ------------------------------------------------------------------------

    def _save_checkpoint(self) -> None:
        """Save the shaper's state before verl names this checkpoint the latest."""
        self._progress.beat("save_checkpoint", self.global_steps)
        if self._shaper is not None:
            folder = Path(self.config.trainer.default_local_dir) / f"global_step_{self.global_steps}"
            save_controller(folder, self._shaper.state_dict())
        super()._save_checkpoint()

    def _load_checkpoint(self) -> None:
        super()._load_checkpoint()
        self._curve.truncate_after(self.global_steps)
        if self.global_steps > 0:
            print(f"entrobench: resuming after step {self.global_steps}", flush=True)
            if self._shaper is not None:
                folder = Path(self.config.trainer.default_local_dir) / f"global_step_{self.global_steps}"
                self._shaper.load_state_dict(load_controller(folder))


def _make_shaper(config: DictConfig) -> Shaper | None:
    shaper = config.entrobench.shaper
    if shaper is None:
        return None
    settings: Any = OmegaConf.to_container(shaper.settings)
    return SHAPERS[shaper.name](**settings)


def register() -> None:
    """Make verl build EntropyTrainer for `trainer.v1.trainer_mode=sync`.

    A trainer under a new name would not do: verl compares the mode with "sync" in many places.
    """
    trainer_base.TRAINER_REGISTRY["sync"] = EntropyTrainer


@functools.cache
def task_runner_class() -> Any:
    """verl's TaskRunnerV1 as a Ray actor that registers EntropyTrainer in its own process first."""
    import ray
    from verl.trainer.main_ppo import TaskRunnerV1

    actor_class: Any = TaskRunnerV1
    plain_class = actor_class.__ray_metadata__.modified_class

    class TaskRunner(plain_class):  # type: ignore[valid-type, misc]
        def run(self, config: DictConfig) -> None:
            register()
            super().run(config)

    return ray.remote(TaskRunner)
