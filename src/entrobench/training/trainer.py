"""verl's synchronous trainer, with a Shaper between the advantages and the update.

What is ours: the shaper sees the global batch on the driver before it is split, its state is
part of the checkpoint, prompts are taken in the order of the data, dynamic sampling is DAPO's and ends with
an error instead of running for ever, each phase leaves a sign of life, a run that is asked to stop ends after
a step with a checkpoint, and old checkpoints are deleted whatever life of the run made them. Everything else
is verl's.
"""

import random
import time
from collections import Counter, defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import torch
import transfer_queue as tq
from omegaconf import DictConfig, OmegaConf
from tensordict import TensorDict
from transfer_queue import KVBatchMeta
from verl.trainer.ppo.v1.replay_buffer import DAPO_FILTERED_REWARD_COUNTS_KEY
from verl.trainer.ppo.v1.trainer_sync import PPOTrainerSync
from verl.utils import tensordict_utils as tu
from verl.utils.debug import marked_timer
from verl.workers.utils.padding import response_from_nested, response_to_nested

from entrobench.algorithms import SHAPERS, Shaped, Shaper, TokenBatch
from entrobench.algorithms.covariance import choose_tokens
from entrobench.algorithms.health import (
    MismatchGate,
    batch_health,
    clip_masks,
    entropy_by_verdict,
    environment_rates,
    group_rates,
    mismatch,
)
from entrobench.errors import ConfigError, TrainingFailed
from entrobench.kernels.token_stats import TokenStats
from entrobench.runs.checkpoints import load_controller, prune, save_controller
from entrobench.runs.run_files import Curve, Progress, StopRequest
from entrobench.runs.save_clock import SaveClock
from entrobench.training.agent_loop import OUTCOME
from entrobench.training.board import Board
from entrobench.training.covariance_loss import CHOSEN_TOKENS, covariance_rule
from entrobench.training.early_stop import EarlyStop, forget_stop, stop_rollouts
from entrobench.training.engine import STAT_FIELDS
from entrobench.training.sampling import (
    SURPLUS_KEY,
    CountedPrompts,
    mini_batch_rows,
    place_of,
    prompt_name,
)
from entrobench.training.step_loss import ACTOR_SETTINGS
from entrobench.training.token_record import TokenRecord, token_frame

# What the actor reads of a row: verl's engines and losses, and StepLoss. All else that TransferQueue has,
# such as the dataset's columns, would be sent to each of its processes and indexed for each mini-batch
ACTOR_FIELDS = (
    *("prompts", "responses", "input_ids", "position_ids", "attention_mask"),
    *("multi_modal_inputs", "routed_experts", "response_mask", "loss_mask"),
    *("old_log_probs", "advantages", "entropy", "ref_log_prob", "rollout_is_weights", CHOSEN_TOKENS),
)
# verl looks for finished rollouts every 2 s by default, which is longer than a whole smoke step
REPLAY_POLL_SECONDS = 0.1


class DynamicSamplingExhausted(TrainingFailed):
    """Too many groups were all correct or all wrong to fill the batch within the allowed generations."""


class EntropyTrainer(PPOTrainerSync):
    """PPOTrainerSync with an optional Shaper. Reads `config.entrobench` (run_dir, shaper, recording,
    mismatch, drop_tied_groups, keep_checkpoints, milestones; control_dir: where the guard and the workers of
    environments look, which is run_dir but in a session).
    """

    _step: "_Step"
    _shaped: Shaped

    def __init__(self, config: DictConfig) -> None:
        super().__init__(config)
        self._begin_run()

    def _begin_run(self) -> None:
        """The state of a run that begins, whether from its first step or from a checkpoint."""
        settings = self.config.entrobench
        run_dir, control_dir = Path(settings.run_dir), Path(settings.control_dir)
        self.replay_buffer.poll_interval = REPLAY_POLL_SECONDS
        self._progress = Progress(control_dir, run_dir)
        self._curve = Curve(run_dir)
        self._board: Board | None = None  # from the first step of this life
        self._shaper = _make_shaper(self.config)
        self._record = _make_record(self.config, run_dir)
        self._prompts_generated = 0
        # Kept apart from verl's metrics, which it averages over sub-steps and so rounds
        self._step_metrics: dict[str, float] = {}
        self._tied: Counter[float] = Counter()
        self._of_environment: dict[str, float] = {}
        self._mismatch_gate = MismatchGate(**settings.mismatch)
        self._stop = StopRequest(control_dir)
        self._saved_step = 0
        forget_stop(control_dir)
        self._clock = SaveClock(control_dir)
        # Once the run is to stop: the steps that it would have made
        self._steps_wanted: int | None = None

    # -- prompts in data order, bounded dynamic sampling -----------------------------------------------------

    def on_step_begin(self) -> None:
        super().on_step_begin()
        self._prompts_generated = 0
        filter_groups = self.config.algorithm.filter_groups
        self.replay_buffer.filter_groups_metric = filter_groups.metric if filter_groups.enable else None
        self.replay_buffer.gen_batch_size = self._generation_batch()
        buffer: Any = self.replay_buffer  # sampling.DataOrderReplayBuffer
        buffer.early_stop = self._early_stop()
        self._progress.beat("generate", self.global_steps)

    def _early_stop(self) -> "_StopOfRollouts | None":
        """Dynamic sampling generates again within a step, and so waits for every rollout."""
        environment = self.config.entrobench.environment
        if (
            environment is None
            or environment.early_stop is None
            or self.config.algorithm.filter_groups.enable
        ):
            return None
        return _StopOfRollouts(self, EarlyStop(*environment.early_stop))

    def _generation_batch(self) -> int:
        """Prompts that are generated at once: with dynamic sampling several training batches."""
        filter_groups = self.config.algorithm.filter_groups
        batches: int = filter_groups.max_inflight_gen_batches if filter_groups.enable else 1
        return batches * int(self.config.data.train_batch_size)

    def _init_dataloader(self) -> None:
        super()._init_dataloader()
        self.train_dataloader = CountedPrompts(self.train_dataloader)

    def _fetch_one_gen_batch(self) -> TensorDict:
        first = self.train_dataloader.fetched
        batch = super()._fetch_one_gen_batch()
        tu.assign_non_tensor_stack(batch, "uid", [prompt_name(first + row) for row in range(len(batch))])
        return batch

    def _next_train_batch(self, num_prompts: int | None = None) -> TensorDict:
        wanted = num_prompts or self._generation_batch()
        for _ in range(self.train_dataloader.fetches_to_skip(wanted)):
            self._fetch_one_gen_batch()
        return super()._next_train_batch(wanted)

    def _submit_batch_to_rollout(self, batch: TensorDict) -> int:
        """Count this step's prompts against `algorithm.filter_groups.max_num_gen_batches`, which V1 ignores.

        Raises DynamicSamplingExhausted instead of generating one prompt more than allowed.
        """
        filter_groups = self.config.algorithm.filter_groups
        limit = filter_groups.max_num_gen_batches * self._generation_batch()
        if filter_groups.enable and 0 < limit < self._prompts_generated + len(batch):
            raise DynamicSamplingExhausted(
                f"dynamic sampling: step {self.global_steps} generated {self._prompts_generated} prompts "
                f"({filter_groups.max_num_gen_batches} batches of {self._generation_batch()}) and still has "
                f"fewer than {self.config.data.train_batch_size} groups with both correct and incorrect "
                "answers.\n"
                "  The task is too hard or too easy for this model. Change the data, raise "
                "algorithm.filter_groups.max_num_gen_batches, or use a method without dynamic sampling "
                "(grpo). Checkpoints are intact."
            )
        self._prompts_generated += len(batch)
        return super()._submit_batch_to_rollout(batch)

    def _sampling_metrics(self, batch: KVBatchMeta) -> dict[str, float]:
        kept = {
            _group_of(key)
            for key, tag in zip(batch.keys, batch.tags, strict=True)
            if not tag.get("is_padding", False)
        }
        return {
            "sampling/prompts_generated": self._prompts_generated,
            "sampling/kept_share": len(kept) / self._prompts_generated,
            "sampling/passes": self.train_dataloader.passes(),
        }

    # -- tied groups -----------------------------------------------------------------------------------------

    def _balance_batch(
        self,
        batch: KVBatchMeta,
        metrics: dict[str, Any],
        logging_prefix: str = "global_seqlen",
        keep_minibatch: bool = False,
    ) -> KVBatchMeta:
        dropped = metrics.get(DAPO_FILTERED_REWARD_COUNTS_KEY, {})
        self._tied = Counter({float(accuracy): number for accuracy, number in dropped.items()})
        if self.config.entrobench.environment is not None:
            self._of_environment = self._environment_metrics(batch)
        if self.config.entrobench.drop_tied_groups:
            batch = self._drop_tied_groups(batch)
        return super()._balance_batch(batch, metrics, logging_prefix, keep_minibatch)

    def _drop_tied_groups(self, batch: KVBatchMeta) -> KVBatchMeta:
        """Leave out groups whose responses all earned the same, without replacing them (REPO, Section 4).

        A batch of such groups only is kept as it is: its advantages are 0, and verl needs a batch.
        """
        scores = tq.kv_batch_get(
            keys=batch.keys, partition_id=batch.partition_id, select_fields=["rm_scores"]
        )
        rewards = [score.sum().item() for score in scores["rm_scores"].unbind()]
        of_group: dict[str, set[float]] = defaultdict(set)
        for key, reward in zip(batch.keys, rewards, strict=True):
            of_group[_group_of(key)].add(reward)
        tied = {group for group, values in of_group.items() if len(values) == 1}
        if not 0 < len(tied) < len(of_group):
            return batch
        for group in tied:
            self._tied[float(self._is_correct(of_group[group].pop()))] += 1
        tq.kv_clear(
            keys=[key for key in batch.keys if _group_of(key) in tied], partition_id=batch.partition_id
        )
        return _select(batch, [row for row, key in enumerate(batch.keys) if _group_of(key) not in tied])

    # -- token statistics and shaping ------------------------------------------------------------------------

    def _compute_old_log_prob(self, batch: KVBatchMeta, metrics: dict[str, Any]) -> KVBatchMeta:
        self._progress.beat("old_log_prob", self.global_steps)
        batch.extra_info["token_stats"] = True
        batch.fields = list(ACTOR_FIELDS)
        batch = super()._compute_old_log_prob(batch, metrics)
        batch.extra_info["token_stats"] = False
        return batch

    def _compute_advantage(self, batch: KVBatchMeta, metrics: dict[str, Any]) -> KVBatchMeta:
        self._progress.beat("advantage", self.global_steps)
        batch = super()._compute_advantage(batch, metrics)
        step = self._read_step(batch)
        token_batch, mask_BT = step.batch, step.batch.mask_BT
        difference = (token_batch.stats.logp - step.old_log_probs_BT)[mask_BT].abs()
        # verl logs the padded batch's entropy in the loss's aggregation; this is the token mean of real rows,
        # fp32
        self._step_metrics = {
            "entropy": token_batch.mean_entropy(),
            "token_stats/log_prob_mismatch_max": difference.max().item(),
            "token_stats/padding_rows": sum(tag.get("is_padding", False) for tag in batch.tags),
        }
        shaped = Shaped(token_batch.advantages_BT, {})
        if self._shaper is not None:
            shaped = self._shaper.shape(token_batch)
            fields = {"advantages": response_to_nested(shaped.advantages_BT, step.response_mask)}
            batch = tq.kv_batch_put(
                keys=batch.keys,
                partition_id=batch.partition_id,
                fields=TensorDict(fields, batch_size=len(batch)),
            )
        self._step_metrics |= shaped.metrics | batch_health(token_batch, shaped.advantages_BT)
        self._step_metrics |= entropy_by_verdict(token_batch, step.is_correct_B)
        self._step_metrics |= self._sampling_metrics(batch)
        surplus = int(metrics.get(SURPLUS_KEY, 0))
        self._step_metrics |= group_rates(token_batch, step.is_correct_B, self._tied, surplus)
        self._step_metrics |= self._of_environment
        if step.rollout_log_probs_BT is not None:
            self._step_metrics |= mismatch(
                token_batch.stats.logp[mask_BT], step.rollout_log_probs_BT[mask_BT]
            )
        self._shaped, self._step = shaped, step
        return batch

    def _read_step(self, batch: KVBatchMeta) -> "_Step":
        """What the shaper, the health metrics and the record need of this step's batch."""
        fields = [
            *STAT_FIELDS.values(),
            "old_log_probs",
            "advantages",
            "response_mask",
            "rm_scores",
            "responses",
        ]
        data = tq.kv_batch_get(
            keys=batch.keys, partition_id=batch.partition_id, select_fields=[*fields, "rollout_log_probs"]
        )
        missing = sorted(set(fields) - set(data.keys()))
        if missing:  # TransferQueue drops an unknown field without a word
            raise TrainingFailed(
                f"the log-probability pass returned no {missing}: is the engine entrobench's?"
            )
        response_mask = data["response_mask"]
        # verl has cut `entropy` to the response already
        stats = _response_stats(data, response_mask, already_cut=("entropy",))
        for field in STAT_FIELDS.values():
            data.pop(field, None)
        padded = data.to_padded_tensor()
        is_real_B = torch.tensor([not tag.get("is_padding", False) for tag in batch.tags])
        names = [_group_of(key) for key in batch.keys]
        numbers = {name: number for number, name in enumerate(dict.fromkeys(names))}
        token_batch = TokenBatch(
            advantages_BT=padded["advantages"].float(),
            stats=stats,
            mask_BT=padded["response_mask"].bool() & is_real_B[:, None],
            groups_B=torch.tensor([numbers[name] for name in names]),
            step=self.global_steps,
        )
        rollout = padded.get("rollout_log_probs", None)
        reward_B = padded["rm_scores"].float().sum(1)
        return _Step(
            batch=token_batch,
            response_mask=response_mask,
            tokens_BT=padded["responses"],
            reward_B=reward_B,
            is_correct_B=self._is_correct(reward_B),
            old_log_probs_BT=padded["old_log_probs"].float(),
            rollout_log_probs_BT=None if rollout is None else rollout.float(),
        )

    def _is_correct(self, reward: Any) -> Any:
        """Whether a reward, or each of a tensor, is a correct response's; of a task, that of all goals."""
        return reward > 0 if self.config.entrobench.environment is None else reward > 1 - 1e-6

    def _environment_metrics(self, batch: KVBatchMeta) -> dict[str, float]:
        """What became of the tasks of all rollouts, those of tied groups too. Raises TrainingFailed where
        every environment of a step has failed.
        """
        data = tq.kv_batch_get(
            keys=batch.keys, partition_id=batch.partition_id, select_fields=["extra_fields"]
        )
        outcomes = [fields[OUTCOME] for fields in data.pop("extra_fields").tolist()]
        if all(outcome["ending"] == "failed" for outcome in outcomes):
            raise TrainingFailed(
                f"step {self.global_steps}: the environment of each of {len(outcomes)} rollouts failed, the "
                f"first: {outcomes[0]['failure']}\n  Checkpoints are intact."
            )
        wanted = len({_group_of(key) for key in batch.keys}) * self.config.actor_rollout_ref.rollout.n
        return environment_rates(outcomes) | {"environment/left_out": 1 - len(outcomes) / wanted}

    # -- the update ------------------------------------------------------------------------------------------

    def _update_actor(self, batch: KVBatchMeta, metrics: dict[str, Any]) -> KVBatchMeta:
        self._progress.beat("update_actor", self.global_steps)
        batch = self._choose_by_covariance(batch)
        batch.extra_info[ACTOR_SETTINGS] = self._actor_settings()
        batch.fields = list(ACTOR_FIELDS)
        batch = super()._update_actor(batch, metrics)
        if self._record is not None:
            rollout = self.config.actor_rollout_ref.rollout
            # Without dynamic micro-batches verl wants whole ones
            micro = 1 if rollout.log_prob_use_dynamic_bsz else rollout.log_prob_micro_batch_size_per_gpu
            rows = self._record.rows(self.global_steps, self._step.batch.mask_BT, self._ranks() * micro)
            if rows:
                started = time.monotonic()
                self._record.write(self.global_steps, self._measure_update(batch, rows))
                self._step_metrics["record/seconds"] = time.monotonic() - started
        return batch

    def _ranks(self) -> int:
        return max(self.actor_rollout_wg._dispatch_info["actor"]) + 1

    def _choose_by_covariance(self, batch: KVBatchMeta) -> KVBatchMeta:
        """Write CHOSEN_TOKENS into the batch where the step's loss wants them."""
        actor = self.config.actor_rollout_ref.actor
        rule = covariance_rule(actor)
        if rule is None:
            return batch
        if actor.shuffle:
            raise ConfigError("actor_rollout_ref.actor.shuffle: Clip-Cov and KL-Cov choose tokens without it")
        size = actor.ppo_mini_batch_size * self.config.actor_rollout_ref.rollout.n
        chosen_BT = choose_tokens(
            rule,
            self._shaped.advantages_BT,
            self._step.old_log_probs_BT,
            self._step.batch.mask_BT,
            [
                sorted(rows, key=lambda row: place_of(batch.keys[row]))
                for rows in mini_batch_rows(len(batch), self._ranks(), size)
            ],
            torch.Generator().manual_seed(
                random.Random(f"{self.config.data.seed}/{self.global_steps}").getrandbits(63)
            ),
        )
        chosen = chosen_BT.sum().item() / self._step.batch.mask_BT.sum().item()
        self._step_metrics["covariance/chosen_share"] = chosen
        fields = {CHOSEN_TOKENS: response_to_nested(chosen_BT.float(), self._step.response_mask)}
        return tq.kv_batch_put(
            keys=batch.keys, partition_id=batch.partition_id, fields=TensorDict(fields, batch_size=len(batch))
        )

    def _actor_settings(self) -> dict[str, Any]:
        """Where the actor's configuration is to differ from verl's for the updates of this step."""
        return dict(self._shaped.actor)

    def _measure_update(self, batch: KVBatchMeta, rows: list[int]) -> pd.DataFrame:
        """Token statistics of the recorded rows once more, with the updated weights."""
        part = _select(batch, rows)
        part.extra_info |= {"calculate_entropy": True, "compute_loss": False, "token_stats": True}
        self.actor_rollout_wg.compute_log_prob(part)
        data = tq.kv_batch_get(
            keys=part.keys,
            partition_id=part.partition_id,
            select_fields=[*STAT_FIELDS.values(), "response_mask"],
        )
        after = _response_stats(data, data["response_mask"])
        # The recorded rows may be shorter than the longest of the batch
        length = after.logp.shape[1]
        before = self._step.batch
        kept = TokenBatch(
            advantages_BT=before.advantages_BT[rows, :length],
            stats=TokenStats(*(values[rows, :length] for values in before.stats)),
            mask_BT=before.mask_BT[rows, :length],
            groups_B=before.groups_B[rows],
            step=before.step,
        )
        shaped_BT = self._shaped.advantages_BT[rows, :length]
        actor = self.config.actor_rollout_ref.actor
        settings = self._actor_settings()
        upper_BT, lower_BT = clip_masks(
            after.logp - kept.stats.logp,
            shaped_BT,
            kept.mask_BT,
            settings.get("clip_ratio_low", actor.clip_ratio_low),
            settings.get("clip_ratio_high", actor.clip_ratio_high),
            actor.policy_loss.loss_mode,
        )
        return token_frame(
            kept,
            shaped_BT,
            self._step.tokens_BT[rows, :length],
            self._step.is_correct_B[rows],
            after,
            upper_BT.to(torch.int8) - lower_BT.to(torch.int8),
            lambda token: self.tokenizer.decode([token]),
        )

    def on_step_end(self) -> None:
        self._clock.step()
        if self.global_steps < self.total_training_steps:  # the last one is saved by verl
            self._save_where_due()
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
        # verl's means of these count padding rows; mismatch/* are those of real tokens
        row = {name: value for name, value in metrics.items() if not name.startswith("rollout_corr/")}
        numbers = self._curve.append(self.global_steps, row)
        self._board = self._board or Board(Path(self.config.entrobench.run_dir), self.global_steps)
        self._board.append(self.global_steps, numbers)
        if "mismatch/kl" in row:
            self._mismatch_gate.check(self.global_steps, row["mismatch/kl"])
        if self._steps_wanted is not None:
            self._stop.answer(self.global_steps, self._steps_wanted)

    # -- state across an interruption ------------------------------------------------------------------------

    def _save_where_due(self) -> None:
        """Save a checkpoint that verl's interval does not ask for: a milestone's, one by time, or a stopping
        run's last. A run stops where it is asked to, and where its job would end in the next step.

        Before the weights go to vLLM, like verl's own: afterwards the GPU's memory is vLLM's.
        """
        if self._clock.is_over() and not self._stop.is_asked():
            print("entrobench: the job may end before another step: this one is the last", flush=True)
            self._stop.ask("the end of the job")
        is_stopping = self._stop.is_asked()
        is_due = self._clock.is_due() or self.global_steps in self.config.entrobench.milestones
        if (is_stopping or is_due) and self._saved_step != self.global_steps:
            with marked_timer("save_checkpoint", self.timing_raw, color="green"):
                self._save_checkpoint()
        if is_stopping:
            self._steps_wanted = self.total_training_steps
            self.total_training_steps = self.global_steps  # ends verl's loop after this step's metrics

    def _save_checkpoint(self) -> None:
        """Save the shaper's state before verl names this checkpoint the latest; then delete old ones."""
        self._progress.beat("save_checkpoint", self.global_steps)
        started = time.monotonic()
        checkpoints = Path(self.config.trainer.default_local_dir)
        self._curve.keep_ahead(self.global_steps, self._row_so_far())
        if self._shaper is not None:
            save_controller(checkpoints / f"global_step_{self.global_steps}", self._shaper.state_dict())
        super()._save_checkpoint()
        self._saved_step = self.global_steps
        self._clock.saved(time.monotonic() - started)
        prune(
            checkpoints,
            self.config.entrobench.keep_checkpoints,
            self.config.entrobench.milestones,
            self.config.trainer.nnodes * self.config.trainer.n_gpus_per_node,
            needs_controller=self.config.entrobench.shaper is not None,
        )

    def _row_so_far(self) -> dict[str, float]:
        """The step's metrics but for those that verl computes at its end."""
        is_real_B = self._step.batch.mask_BT.any(1)
        lengths_B = self._step.batch.mask_BT.sum(1)[is_real_B]
        return {
            **self._step_metrics,
            "reward": self._step.reward_B[is_real_B].mean().item(),
            "response_length": lengths_B.double().mean().item(),
        }

    def _load_checkpoint(self) -> None:
        super()._load_checkpoint()
        last_row = self._curve.last_step()
        if last_row < self.global_steps:
            print(
                f"entrobench: no metrics of steps {last_row + 1} to {self.global_steps}: the run was killed "
                f"between the checkpoint and their row",
                flush=True,
            )
        if self._record is not None:
            self._record.truncate_after(self.global_steps)
        if self.global_steps > 0:
            print(f"entrobench: resuming after step {self.global_steps}", flush=True)
            if self._shaper is not None:
                folder = Path(self.config.trainer.default_local_dir) / f"global_step_{self.global_steps}"
                self._shaper.load_state_dict(load_controller(folder))


@dataclass(frozen=True)
class _StopOfRollouts:
    """What the replay buffer is given to end rollouts early (sampling.RolloutStop)."""

    trainer: EntropyTrainer
    rule: EarlyStop

    def stop_where_enough(self, keys: list[str]) -> bool:
        trainer = self.trainer
        if not self.rule.is_enough(keys, trainer.config.actor_rollout_ref.rollout.n):
            return False
        stop_rollouts(trainer.config.entrobench.control_dir, trainer.global_steps)
        trainer.checkpoint_manager.abort_replicas(reject_request=True)
        return True

    def resume(self) -> None:
        self.trainer.checkpoint_manager.resume_generation_replicas()


@dataclass(frozen=True)
class _Step:
    """One step's batch on the driver. (B, T) tensors are right-padded; response_mask is verl's, jagged.
    is_correct_B: of a task with goals, whether all of them are met.
    """

    batch: TokenBatch
    response_mask: torch.Tensor
    tokens_BT: torch.Tensor
    reward_B: torch.Tensor
    is_correct_B: torch.Tensor
    old_log_probs_BT: torch.Tensor
    rollout_log_probs_BT: torch.Tensor | None


def _response_stats(
    data: TensorDict, response_mask: torch.Tensor, already_cut: tuple[str, ...] = ()
) -> TokenStats:
    """TokenStats (B, T) of the responses, from the engine's jagged fields over whole sequences."""
    cut = {
        name: data[field] if field in already_cut else response_from_nested(data[field], response_mask)
        for name, field in STAT_FIELDS.items()
    }
    return TokenStats(**{name: values.float().to_padded_tensor(0.0) for name, values in cut.items()})


def _group_of(key: str) -> str:
    """The prompt that a trajectory answers, from TransferQueue's key <uid>_<session>_<index>."""
    return key.split("_")[0]


def _select(batch: KVBatchMeta, rows: list[int]) -> KVBatchMeta:
    return KVBatchMeta(
        keys=[batch.keys[row] for row in rows],
        tags=[batch.tags[row] for row in rows],
        partition_id=batch.partition_id,
        fields=batch.fields,
        extra_info=dict(batch.extra_info),
    )


def _make_record(config: DictConfig, run_dir: Path) -> TokenRecord | None:
    recording = config.entrobench.recording
    if recording is None:
        return None
    return TokenRecord(run_dir, recording.every, recording.sequences, config.data.seed)


def _make_shaper(config: DictConfig) -> Shaper | None:
    shaper = config.entrobench.shaper
    if shaper is None:
        return None
    settings: Any = OmegaConf.to_container(shaper.settings)
    return SHAPERS[shaper.name](**settings)
