"""verl's agent loop for environments: rollouts of several turns, which verl finds by agent_loop.yaml.

What the environment says is context: its tokens have response_mask 0 and so count in no loss, statistic,
entropy or length. Log-probabilities of generated tokens are the server's, each at its own token. A failing
environment ends its trajectory with reward 0 and is counted. Each worker of verl has a pool of environments
of its own; a trajectory waits for its environment before it generates anything. A trajectory that the trainer
no longer waits for (early_stop.py) is left out.
"""

import time
from dataclasses import dataclass, field
from functools import cache
from typing import Any
from uuid import uuid4

from verl.experimental.agent_loop.agent_loop import AgentLoopBase, AgentLoopMetrics, AgentLoopOutput
from verl.workers.rollout.replica import TokenOutput

from entrobench.environments.conversation import Ending, Outcome, TurnLimits, executed, shown
from entrobench.environments.server import EnvironmentFailed, Episode, Goals, Pool
from entrobench.environments.worlds import world_kind
from entrobench.training.early_stop import is_stopped

# Of an output's extra_fields: what became of its task (conversation.Outcome)
OUTCOME = "environment"


@dataclass
class _Trajectory:
    """Tokens of a conversation, as verl wants them: after the prompt, mask 1 where the model wrote."""

    messages: list[dict[str, Any]]
    tokens: list[int]
    mask: list[int] = field(default_factory=list)
    log_probs: list[float] | None = None
    turns: int = 0
    generate_seconds: float = 0.0
    environment_seconds: float = 0.0
    extra: dict[str, Any] = field(default_factory=dict)


class EnvironmentAgentLoop(AgentLoopBase):
    """One trajectory: reset, turns of generation and execution, goals. Reads `config.entrobench.environment`
    (name, turns, turn_tokens, observation_tokens, processes) and the task from the row's extra_info.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        settings = self.config.entrobench.environment
        self._limits = TurnLimits(settings.turns, settings.turn_tokens, settings.observation_tokens)
        self._pool = _pool(settings.name, settings.processes)
        self._control_dir = self.config.entrobench.control_dir

    async def run(self, sampling_params: dict[str, Any], **kwargs: Any) -> Any:
        """An AgentLoopOutput, or an empty list for a trajectory that is not waited for."""
        messages = list(kwargs["raw_prompt"])
        step = int(kwargs["global_steps"])
        trajectory = _Trajectory(messages, await self.ct_build_initial_tokens(messages))
        prompt_length = len(trajectory.tokens)
        goals, failure = None, ""
        try:
            async with self._pool.episode(kwargs["extra_info"]["task"]) as episode:
                ending = await self._converse(trajectory, episode, sampling_params, step)
                if ending == "completed":
                    goals = await self._timed(trajectory, episode.goals())
        except EnvironmentFailed as error:
            ending, failure = "failed", str(error)
        if ending is None:
            return []
        return self._output(trajectory, prompt_length, ending, goals, failure)

    async def _converse(
        self, trajectory: _Trajectory, episode: Episode, sampling_params: dict[str, Any], step: int
    ) -> Ending | None:
        """Turns until the conversation ends; None where the trajectory is not waited for."""
        request_id = uuid4().hex
        while True:
            if is_stopped(self._control_dir, step):
                return None
            room = self._room(trajectory)
            if room < 1:  # a prompt that fills the context
                return "context"
            output = await self._generate(trajectory, sampling_params | {"max_tokens": room}, request_id)
            if is_stopped(self._control_dir, step):
                return None
            written = await self._add_written(trajectory, output)
            if not written or written[-1] != self.tokenizer.eos_token_id:
                return "cut" if room == self._limits.turn_tokens else "context"
            text = self.tokenizer.decode(written, skip_special_tokens=True)
            observation = await self._timed(trajectory, executed(episode, text))
            if observation.is_done:
                return "completed"
            if trajectory.turns >= self._limits.turns:
                return "turns"
            if not await self._observe(trajectory, text, observation.text):
                return "context"

    def _room(self, trajectory: _Trajectory) -> int:
        """Tokens that the next generation may have."""
        rollout = self.rollout_config
        return min(
            self._limits.turn_tokens,
            rollout.response_length - len(trajectory.mask),
            rollout.max_model_len - len(trajectory.tokens),
        )

    async def _generate(
        self, trajectory: _Trajectory, sampling_params: dict[str, Any], request_id: str
    ) -> TokenOutput:
        started = time.monotonic()
        output: TokenOutput = await self.server_manager.generate(
            request_id=request_id, prompt_ids=trajectory.tokens, sampling_params=sampling_params
        )
        trajectory.generate_seconds += time.monotonic() - started
        return output

    async def _add_written(self, trajectory: _Trajectory, output: TokenOutput) -> list[int]:
        """Tokens of a turn, which join the trajectory."""
        trajectory.turns += 1
        first = trajectory.extra or output.extra_fields
        newest = output.extra_fields.get("max_global_steps")
        trajectory.extra = dict(first) | ({} if newest is None else {"max_global_steps": newest})
        has_log_probs = bool(trajectory.log_probs or output.log_probs)
        merged, trajectory.mask, trajectory.log_probs = await self.ct_merge_assistant_token(
            trajectory.tokens,
            output.token_ids,
            trajectory.mask,
            (trajectory.log_probs or []) if has_log_probs else None,
            assistant_logprobs=output.log_probs or None,
        )
        trajectory.tokens = merged.token_ids
        return list(output.token_ids)

    async def _observe(self, trajectory: _Trajectory, written: str, observed: str) -> bool:
        """Add what the environment showed; False where it leaves no room for another turn."""
        content = shown(observed, self.tokenizer, self._limits.observation_tokens)
        before = [*trajectory.messages, {"role": "assistant", "content": written}]
        after = [*before, {"role": "user", "content": content}]
        merged, mask, log_probs = await self.ct_merge_context_msg(
            before, after, trajectory.tokens, trajectory.mask, trajectory.log_probs
        )
        rollout = self.rollout_config
        if len(mask) >= rollout.response_length or len(merged.token_ids) >= rollout.max_model_len:
            return False
        trajectory.messages, trajectory.tokens = after, merged.token_ids
        trajectory.mask, trajectory.log_probs = mask, log_probs
        return True

    async def _timed(self, trajectory: _Trajectory, call: Any) -> Any:
        started = time.monotonic()
        try:
            return await call
        finally:
            trajectory.environment_seconds += time.monotonic() - started

    def _output(
        self, trajectory: _Trajectory, prompt_length: int, ending: Ending, goals: Goals | None, failure: str
    ) -> AgentLoopOutput:
        outcome = Outcome.of(ending, trajectory.turns, goals, trajectory.environment_seconds, failure)
        response = trajectory.tokens[prompt_length:]
        mask, log_probs = trajectory.mask, trajectory.log_probs
        if not response:  # its environment failed first: verl wants a token, and this one counts nowhere
            response, mask = [self.tokenizer.eos_token_id], [0]
            log_probs = [0.0]
        extra = trajectory.extra | {
            OUTCOME: outcome.record() | {"generate_seconds": trajectory.generate_seconds},
            "reward_extra_info": {"acc": float(outcome.is_success)},
            "turn_scores": [],
            "tool_rewards": [],
        }
        return AgentLoopOutput(
            prompt_ids=trajectory.tokens[:prompt_length],
            response_ids=response,
            response_mask=mask,
            response_logprobs=log_probs,
            reward_score=outcome.reward,
            num_turns=2 * trajectory.turns + 1,
            metrics=AgentLoopMetrics(
                generate_sequences=trajectory.generate_seconds, tool_calls=trajectory.environment_seconds
            ),
            extra_fields=extra,
        )


@cache
def _pool(name: str, size: int) -> Pool:
    """This worker's environments."""
    return Pool(world_kind(name), size)
