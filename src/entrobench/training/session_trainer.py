"""The trainer of a session (see session.py): it begins each cell with fresh weights and fresh state."""

import shutil
import time
from pathlib import Path
from typing import Any

import ray
from omegaconf import DictConfig, OmegaConf

from entrobench.cells import read_cell
from entrobench.runs.checkpoints import latest_step
from entrobench.training.run_life import begin_life, finish_run
from entrobench.training.session import ACTOR, ACTOR_FIELDS
from entrobench.training.trainer import EntropyTrainer


class SessionTrainer(EntropyTrainer):
    """EntropyTrainer that trains one cell after the other. Reads `config.entrobench.session`: their whole
    configurations, of which the first is `config`.
    """

    def __init__(self, config: DictConfig) -> None:
        self._configs = [OmegaConf.create(each) for each in config.entrobench.session]
        # The state of a worker that has trained nothing: weights, optimizer, scheduler, random numbers
        self._untrained = Path(config.entrobench.control_dir) / "untrained"
        super().__init__(config)

    def fit(self, agent_loop_manager: Any) -> None:
        """Train every cell to its last step, or until the session is asked to stop."""
        for number, config in enumerate(self._configs):
            started = time.monotonic()
            if number > 0:
                self._begin(config)
            run_dir = Path(self.config.entrobench.run_dir)
            cell = read_cell(run_dir / "cell.yaml")
            from_step = self.global_steps
            begin_life(cell, run_dir, from_step)
            super().fit(agent_loop_manager)
            if self._steps_wanted is not None:
                return
            finish_run(cell, run_dir, from_step, time.monotonic() - started)
        shutil.rmtree(self._untrained)

    def _begin(self, config: DictConfig) -> None:
        """All that verl and EntropyTrainer make of a configuration, anew; workers and vLLM stay."""
        self.config = config
        self.replay_buffer = self._build_replay_buffer()
        self._begin_run()
        self._init_dataloader()
        self._init_dump_executor()
        self.checkpoint_manager.sleep_replicas()
        self._load_checkpoint()
        seed = config.actor_rollout_ref.rollout.seed
        ray.get(
            [
                server.collective_rpc.remote("seed_rollouts", args=(seed + replica.replica_rank,))
                for replica in self.llm_server_manager.get_replicas()
                for server in replica.servers
            ]
        )
        self.on_init_end()

    def _load_checkpoint(self) -> None:
        checkpoints = Path(self.config.trainer.default_local_dir)
        if not self._untrained.exists():
            self.actor_rollout_wg.save_checkpoint(str(self._untrained), None, 0)
        elif latest_step(checkpoints) is None:
            self.actor_rollout_wg.load_checkpoint(local_path=str(self._untrained))
        super()._load_checkpoint()

    def _actor_settings(self) -> dict[str, Any]:
        own = {field: OmegaConf.select(self.config, ACTOR + field) for field in ACTOR_FIELDS}
        return own | super()._actor_settings()
