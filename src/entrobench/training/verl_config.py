"""From a cell's flat verl overrides to a composed, validated verl configuration."""

import copy
import difflib
import functools
from pathlib import Path
from typing import Any

from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.errors import InstantiationException
from omegaconf import DictConfig, OmegaConf, open_dict
from omegaconf.errors import OmegaConfBaseException

from entrobench.configs import flattened
from entrobench.errors import ConfigError

# Mappings that verl passes on as they are, so that any key may stand in them
FREE_FORM = (
    "ray_kwargs.ray_init.",
    "actor_rollout_ref.model.override_config.",
    "actor_rollout_ref.actor.fsdp_config.mixed_precision.",
    "actor_rollout_ref.rollout.engine_kwargs.",
    "reward.custom_reward_function.reward_kwargs.",
    "reward.reward_kwargs.",
    "data.apply_chat_template_kwargs.",
)
# Keys that verl has and no engine of ours reads, or by its old name only -> what the engine reads
UNREAD = {
    "actor_rollout_ref.actor.grad_clip": "actor_rollout_ref.actor.optim.clip_grad",
    "actor_rollout_ref.actor.optim.grad_clip": "actor_rollout_ref.actor.optim.clip_grad",
}
# Fields of verl's dataclasses that its YAML files leave out
NOT_IN_YAML = (
    "actor_rollout_ref.rollout.enable_sleep_mode",
    "actor_rollout_ref.actor.checkpoint.save_lora_only",
)
# A variable of every process of a run, different from that of every other run
RUN_ID = "ENTROBENCH_RUN_ID"


def compose_verl_config(overrides: dict[str, Any]) -> DictConfig:
    """Compose verl's ppo_trainer configuration with `overrides` (dotted key -> value), validated as by verl.

    Raises ConfigError for a key that verl does not have (with the nearest that it has) or that no engine of
    ours reads, for a value whose type differs from the default's, and for what verl's validation refuses.
    """
    config = copy.deepcopy(_default_config())
    known = flattened(OmegaConf.to_container(config, resolve=False))
    with open_dict(config):
        for key, value in overrides.items():
            if not key.startswith(FREE_FORM) and key not in NOT_IN_YAML:
                _check_key(key, value, known)
            OmegaConf.update(config, key, value, force_add=True)
    _validate(config)
    return config


def give_run_id(config: DictConfig, run_id: str) -> None:
    """Have Ray give `run_id` to every process of the run, on every node."""
    key = f"ray_kwargs.ray_init.runtime_env.env_vars.{RUN_ID}"
    OmegaConf.update(config, key, run_id, force_add=True)


@functools.cache
def _default_config() -> DictConfig:
    import verl

    GlobalHydra.instance().clear()
    with initialize_config_dir(str(Path(verl.__file__).parent / "trainer" / "config"), version_base=None):
        return compose("ppo_trainer")


def _check_key(key: str, value: Any, known: dict[str, Any]) -> None:
    if key in UNREAD:
        raise ConfigError(
            f"verl has the configuration key {key}, and its engine reads {UNREAD[key]}: set that"
        )
    if key not in known:
        nearest = difflib.get_close_matches(key, known, n=1, cutoff=0.6)
        hint = f" Did you mean {nearest[0]}?" if nearest else ""
        raise ConfigError(f"verl has no configuration key {key}.{hint}")
    default = known[key]
    if default is None or value is None or (isinstance(default, str) and "${" in default):
        return
    is_number = isinstance(default, int | float) and not isinstance(default, bool)
    accepted: Any = (
        (int, float) if is_number else (type(default), list) if key.endswith("_files") else type(default)
    )
    if not isinstance(value, accepted) or (isinstance(value, bool) and is_number):
        raise ConfigError(
            f"verl key {key}: expected {type(default).__name__} (default {default!r}), "
            f"found {type(value).__name__} {value!r}"
        )


def _validate(config: DictConfig) -> None:
    from verl.trainer.ppo.utils import need_critic, need_reference_policy
    from verl.utils.config import omega_conf_to_dataclass, validate_config

    try:
        validate_config(
            config=config, use_reference_policy=need_reference_policy(config), use_critic=need_critic(config)
        )
        # The actor's has been made by validate_config
        for part in (config.algorithm, config.actor_rollout_ref.model, config.actor_rollout_ref.rollout):
            omega_conf_to_dataclass(part)
    except (AssertionError, ValueError, TypeError, OmegaConfBaseException, InstantiationException) as error:
        raise ConfigError(f"verl refuses this configuration: {error}") from error
