"""Overrides that verl would not understand are refused, with the nearest that it would."""

import ast
from pathlib import Path

import pytest
import verl
from support import make_model
from verl.utils.config import omega_conf_to_dataclass

from entrobench.cells import listed_cells, resolve
from entrobench.configs import Configs
from entrobench.cost.estimate import architecture_of
from entrobench.cost.memory import memory_settings
from entrobench.errors import ConfigError
from entrobench.paths import repository_root
from entrobench.training.verl_config import FREE_FORM, UNREAD, compose_verl_config

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


@pytest.mark.parametrize("gb", [40, 80])
@pytest.mark.parametrize(
    "cell",
    [
        "papo/14b-agentic/papo_polarity/seed0",
        "exchange/7b/exchange_grpo/seed0",
        "repo/appworld-32b-numerics/loop/seed0",
        "opefo/qwen3-4b/opefo/seed0",
    ],
)
def test_verl_accepts_the_settings_that_memory_chooses(cell, gb, model):
    resolved = resolve(cell, "paper", CONFIGS, Path("results"))
    sizes = architecture_of(resolved["model"]["name"], "paper", CONFIGS, Path("results"))
    chosen = memory_settings(resolved, sizes, gb)
    config = compose_verl_config(resolved["verl"] | chosen | model)
    actor = omega_conf_to_dataclass(config.actor_rollout_ref.actor)
    asked = chosen["actor_rollout_ref.actor.fsdp_config.ulysses_sequence_parallel_size"]
    assert actor.engine.ulysses_sequence_parallel_size == asked, "what the engine reads"


VERL = Path(verl.__file__).parent
# Where verl declares its settings, and engines that are not ours
DECLARES = ("trainer/config", "workers/config")
# ...and builds the optimizer, and imports a model's library
READ_THERE = {"actor_rollout_ref.actor.optim.weight_decay", "actor_rollout_ref.model.external_lib"}
OTHER_ENGINES = ("megatron", "mcore", "veomni", "torchtitan", "mindspeed", "automodel", "sglang", "trtllm")


def names_in(source: str) -> set[str]:
    """Every attribute and every word in a string of a Python file: what it may read of a configuration."""
    found = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Attribute):
            found.add(node.attr)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            found.update(node.value.split("."))
        elif isinstance(node, ast.keyword | ast.arg) and node.arg:
            found.add(node.arg)  # a mapping that is unpacked into a call
    return found


@pytest.fixture(scope="module")
def read_by_verl():
    """Names that verl reads somewhere else than where it declares its settings."""
    names = set()
    for path in VERL.rglob("*.py"):
        place = path.relative_to(VERL).as_posix()
        if not place.startswith(DECLARES) and not any(engine in place for engine in OTHER_ENGINES):
            names |= names_in(path.read_text(encoding="utf-8"))
    return names


def test_every_key_that_a_cell_sets_is_read(read_by_verl):
    keys = {
        key
        for paper in CONFIGS.papers()
        for cell in listed_cells(paper, CONFIGS)
        for scale in ("paper", "mini", "smoke")
        for key in resolve(str(cell), scale, CONFIGS, Path("results"))["verl"]
        if not key.startswith((*FREE_FORM, "transfer_queue."))
    }
    assert len(keys) > 60
    assert {key for key in keys if key.rsplit(".", 1)[-1] not in read_by_verl} == READ_THERE
    assert "grad_clip" not in read_by_verl, "the test tells a key that verl declares and nobody reads"


@pytest.mark.parametrize("key", UNREAD)
def test_a_key_that_no_engine_reads_is_refused_with_the_one_that_is(key, model):
    with pytest.raises(ConfigError, match=f"its engine reads {UNREAD[key]}: set that"):
        compose_verl_config({**model, key: 0.1})


def test_repos_gradient_clip_is_where_the_engine_clips(model):
    cell = resolve("repo/aime-8b/repo_r/seed0", "paper", CONFIGS, Path("results"))
    config = compose_verl_config(cell["verl"] | model)
    actor = omega_conf_to_dataclass(config.actor_rollout_ref.actor)
    # FSDPEngine.optimizer_step clips at its optimizer_config, which is this
    assert actor.optim.clip_grad == 0.1
    assert actor.optim.lr == 5e-5
    assert actor.optim.weight_decay == 0.01
