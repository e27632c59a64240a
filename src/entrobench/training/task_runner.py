"""verl's task runner, which builds our trainer in place of its own."""

import functools
from typing import Any

import ray
from omegaconf import DictConfig
from verl.trainer.main_ppo import TaskRunnerV1
from verl.trainer.ppo.v1 import trainer_base

from entrobench.training.session_trainer import SessionTrainer
from entrobench.training.trainer import EntropyTrainer


def register(config: DictConfig) -> None:
    """Make verl build our trainer for `trainer.v1.trainer_mode=sync`.

    A trainer under a new name would not do: verl compares the mode with "sync" in many places.
    """
    is_session = config.entrobench.session is not None
    trainer_base.TRAINER_REGISTRY["sync"] = SessionTrainer if is_session else EntropyTrainer


@functools.cache
def task_runner_class() -> Any:
    """verl's TaskRunnerV1 as a Ray actor that registers our trainer in its own process first."""
    actor_class: Any = TaskRunnerV1
    plain_class = actor_class.__ray_metadata__.modified_class

    class TaskRunner(plain_class):  # type: ignore[valid-type, misc]
        def run(self, config: DictConfig) -> None:
            register(config)
            super().run(config)

    return ray.remote(TaskRunner)
