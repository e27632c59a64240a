"""Cells as verl's own configuration: composed and validated by verl, wrong keys and types refused."""

from pathlib import Path

import pytest
from support import make_model

from entrobench.cells import listed_cells, resolve
from entrobench.configs import Configs
from entrobench.errors import ConfigError
from entrobench.paths import repository_root
from entrobench.training.verl_config import compose_verl_config

CONFIGS = Configs(repository_root() / "configs")
TRAINED = [
    (scale, str(cell))
    for scale in CONFIGS.names("scales")
    for paper in CONFIGS.papers()
    for cell in listed_cells(paper, CONFIGS)
    if CONFIGS.method(cell.method).trains
]


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """verl reads the model's architecture while it validates; a tiny one stands in."""
    folder = tmp_path_factory.mktemp("model")
    make_model(folder)
    return {"actor_rollout_ref.model.path": str(folder)}


@pytest.mark.parametrize(("scale", "cell"), TRAINED)
def test_every_trained_cell_is_a_configuration_that_verl_accepts(scale, cell, model):
    resolved = resolve(cell, scale, CONFIGS, Path("results"))
    config = compose_verl_config(resolved["verl"] | model)
    method = CONFIGS.method(resolved["method"])
    assert config.actor_rollout_ref.actor.clip_ratio_high == (0.28 if method.method != "grpo" else 0.2)
    assert config.algorithm.adv_estimator == "grpo"
    assert config.data.seed == 0


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
