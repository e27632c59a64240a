"""Overrides that verl would not understand are refused, with the nearest that it would."""

from pathlib import Path

import pytest
from support import make_model

from entrobench.cells import resolve
from entrobench.configs import Configs
from entrobench.errors import ConfigError
from entrobench.paths import repository_root
from entrobench.training.verl_config import compose_verl_config

pytestmark = pytest.mark.slow

CONFIGS = Configs(repository_root() / "configs")


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """verl reads the model's architecture while it validates; a tiny one stands in."""
    folder = tmp_path_factory.mktemp("model")
    make_model(folder)
    return {"actor_rollout_ref.model.path": str(folder)}


@pytest.mark.parametrize(
    ("override", "message"),
    [
        (
            {"actor_rollout_ref.actor.clip_ratio_hgh": 0.2},
            r"Did you mean actor_rollout_ref.actor.clip_ratio_high",
        ),
        ({"data.train_batch_size": "many"}, r"data.train_batch_size: expected int .*found str 'many'"),
        ({"trainer.nnodes": True}, r"trainer.nnodes: expected int"),
        ({"actor_rollout_ref.actor.loss_agg_mode": "sum-of-all"}, r"verl refuses"),
    ],
)
def test_a_wrong_override_is_refused(override, message, model):
    cell = resolve("papo/7b-math/dapo/seed0", "smoke", CONFIGS, Path("results"))
    with pytest.raises(ConfigError, match=message):
        compose_verl_config(cell["verl"] | model | override)
