"""The socket on which a run hands new weights to its vLLM, under a name that is the run's own.

verl names it after the id of Ray's job, and every run starts a Ray of its own, whose first job always has the
same id: of two runs on one node one took the other's weights, or both waited for ever. The trainer's side is
the rollout that `entrobench.training.engine` registers, vLLM's side its worker extension.
"""

import os
from typing import Any

from verl.workers.rollout.vllm_rollout import ServerAdapter as VerlServerAdapter
from verl.workers.rollout.vllm_rollout.utils import vLLMColocateWorkerExtension
from vllm.utils.torch_utils import set_random_seed

from entrobench.training.verl_config import RUN_ID

ENDING = ".sock"


def of_this_run(handle: str) -> str:
    """verl's address of a socket, with the run's id in its name. Raises KeyError in a process without one."""
    return handle.removesuffix(ENDING) + f"-run-{os.environ[RUN_ID]}{ENDING}"


class ServerAdapter(VerlServerAdapter):
    """In the training worker: sends."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.zmq_handle = of_this_run(self.zmq_handle)


class WorkerExtension(vLLMColocateWorkerExtension):
    """In vLLM's worker: receives."""

    def _get_zmq_handle(self) -> str:
        return of_this_run(super()._get_zmq_handle())

    def seed_rollouts(self, seed: int) -> None:
        """Draw from here on as a worker that starts with this seed."""
        set_random_seed(seed)
