"""The trainer of a relay (see relay.py): it changes the method every few steps."""

from typing import Any

from omegaconf import DictConfig, OmegaConf, open_dict

from entrobench.algorithms import SHAPERS
from entrobench.training.relay import ACTOR, ACTOR_DEFAULTS, Leg
from entrobench.training.trainer import EntropyTrainer


class RelayTrainer(EntropyTrainer):
    """EntropyTrainer whose method is that of the leg that the step belongs to. Reads
    `config.entrobench.relay`.
    """

    def __init__(self, config: DictConfig) -> None:
        super().__init__(config)
        legs: Any = OmegaConf.to_container(config.entrobench.relay)
        self._legs = [Leg(**leg) for leg in legs]
        self._leg_steps = config.entrobench.relay_steps
        self._leg: Leg | None = None

    def on_step_begin(self) -> None:
        leg = self._legs[(self.global_steps - 1) // self._leg_steps]
        if leg is not self._leg:
            self._switch(leg)
        super().on_step_begin()

    def _switch(self, leg: Leg) -> None:
        print(f"entrobench: relay: {leg.method} from step {self.global_steps}", flush=True)
        self._leg = leg
        with open_dict(self.config):
            for key, value in leg.settings.items():
                OmegaConf.update(self.config, key, value)
            self.config.entrobench.drop_tied_groups = leg.drop_tied_groups
        self._shaper = None if leg.shaper is None else SHAPERS[leg.shaper["name"]](**leg.shaper["settings"])

    def _method_step(self) -> int:
        return (self.global_steps - 1) % self._leg_steps + 1

    def _actor_settings(self) -> dict[str, Any]:
        assert self._leg is not None
        own = {key: self._leg.settings[ACTOR + key] for key in ACTOR_DEFAULTS}
        return own | super()._actor_settings()
