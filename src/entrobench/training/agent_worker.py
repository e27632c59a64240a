"""verl's agent-loop worker with one agent loop for all of its trajectories.

verl builds one for each trajectory, by Hydra and out of the whole configuration, on the thread on which the
worker does everything else: a third of what that thread does for short responses.
"""

from typing import Any

import hydra
import ray
from verl.experimental.agent_loop.agent_loop import (
    AgentLoopBase,
    DictConfigWrap,
    ToolListWrap,
    _agent_loop_registry,
)
from verl.trainer.ppo.v1.agent_loop_tq import AgentLoopManagerTQ, AgentLoopWorkerTQ

_actor_class: Any = AgentLoopWorkerTQ
_plain_class = _actor_class.__ray_metadata__.modified_class


class _Worker(_plain_class):  # type: ignore[valid-type, misc]
    """Its agent loops hold nothing of a trajectory: `run` has that in local variables."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._agent_loops: dict[str, AgentLoopBase] = {}

    async def _run_agent_loop(
        self,
        sampling_params: dict[str, Any],
        trajectory: dict[str, Any],
        *,
        agent_name: str,
        trace: bool = True,
        **kwargs: Any,
    ) -> Any:
        if agent_name not in self._agent_loops:
            self._agent_loops[agent_name] = self._agent_loop(agent_name)
        output = await self._agent_loops[agent_name].run(sampling_params, **kwargs)
        return await self._agent_loop_postprocess(output, trajectory["validate"], **kwargs)

    def _agent_loop(self, name: str) -> AgentLoopBase:
        loop: AgentLoopBase = hydra.utils.instantiate(
            config=_agent_loop_registry[name],
            trainer_config=DictConfigWrap(config=self.config),
            server_manager=self.llm_client,
            tokenizer=self.tokenizer,
            processor=self.processor,
            hf_model_type=self.hf_model_type,
            dataset_cls=self.dataset_cls,
            data_config=DictConfigWrap(self.config.data),
            tools=ToolListWrap(self.tools),
        )
        return loop


class AgentLoopManager(AgentLoopManagerTQ):
    """Named in the configuration: actor_rollout_ref.rollout.agent.agent_loop_manager_class."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.agent_loop_workers_class = ray.remote(_Worker)
