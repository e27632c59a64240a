"""verl's agent-loop worker with one agent loop for all of its trajectories, and one put a prompt.

verl builds an agent loop for each trajectory, by Hydra and out of the whole configuration, and puts each
response into TransferQueue by itself. The worker does both on the one thread on which it does everything:
each is a third of that thread's work where responses are short.
"""

from collections import defaultdict
from typing import Any

import hydra
import ray
from verl.experimental.agent_loop.agent_loop import (
    AgentLoopBase,
    DictConfigWrap,
    ToolListWrap,
    _agent_loop_registry,
)
from verl.trainer.ppo.v1 import agent_loop_tq
from verl.trainer.ppo.v1.agent_loop_tq import AgentLoopManagerTQ, AgentLoopWorkerTQ
from verl.utils.tensordict_utils import list_of_dict_to_tensordict

_actor_class: Any = AgentLoopWorkerTQ
_plain_class = _actor_class.__ray_metadata__.modified_class
_Row = tuple[str, dict[str, Any], dict[str, Any]]  # key, fields, tag


class GroupedPuts:
    """A TransferQueue whose rows of responses wait for the status of their prompt and are put before it.

    A prompt's last status, finished or failure, comes when all of its responses have ended; nobody reads the
    rows of a prompt that has none.
    """

    def __init__(self, queue: Any) -> None:
        self._queue = queue
        self._waiting: dict[tuple[str, str], list[_Row]] = defaultdict(list)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._queue, name)

    async def async_kv_batch_put(
        self,
        keys: list[str],
        fields: list[dict[str, Any]],
        tags: list[dict[str, Any]],
        partition_id: str,
    ) -> None:
        """Keep rows, whose keys are `<prompt>_<response>_<part>`, until the status of their prompt is put."""
        for row in zip(keys, fields, tags, strict=True):
            prompt = row[0].rsplit("_", 2)[0]
            self._waiting[partition_id, prompt].append(row)

    async def async_kv_put(self, key: str, partition_id: str, tag: dict[str, Any]) -> None:
        """Put the rows of the prompt `key` that wait, then its tag."""
        rows = self._waiting.pop((partition_id, key), [])
        # Rows of a put have the same fields: verl takes those of the first
        for names in {frozenset(fields): None for _, fields, _ in rows}:
            alike = [row for row in rows if row[1].keys() == names]
            await self._queue.async_kv_batch_put(
                keys=[row[0] for row in alike],
                fields=list_of_dict_to_tensordict([row[1] for row in alike]),
                tags=[row[2] for row in alike],
                partition_id=partition_id,
            )
        await self._queue.async_kv_put(key=key, partition_id=partition_id, tag=tag)


class _Worker(_plain_class):  # type: ignore[valid-type, misc]
    """Its agent loops hold nothing of a trajectory: `run` has that in local variables."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._agent_loops: dict[str, AgentLoopBase] = {}
        # What verl's worker puts with, in the process of this worker only
        agent_loop_tq.tq = GroupedPuts(agent_loop_tq.tq)
        agent_loop_tq.list_of_dict_to_tensordict = list  # type: ignore[assignment]

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
