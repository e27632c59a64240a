"""The protocol audit: every cell at paper scale is a configuration that verl accepts, and what verl would run
is what the protocol states, key by key. No GPU and no hub: a model's architecture stands in for its weights.
"""

import math
from pathlib import Path

import pytest
import torch
from omegaconf import OmegaConf
from support import make_model, make_tokenizer
from transformers import AutoConfig, AutoModelForCausalLM

from entrobench.algorithms import SHAPERS
from entrobench.cells import DERIVED, TRAINER_SETTINGS, CellId, listed_cells, previous_cell, resolve
from entrobench.configs import Configs, Setting
from entrobench.paths import repository_root
from entrobench.training.verl_config import compose_verl_config

CONFIGS = Configs(repository_root() / "configs")
RESULTS = Path("results")
LISTED = [str(cell) for paper in CONFIGS.papers() for cell in listed_cells(paper, CONFIGS)]
# Seeds of one run differ in the seed alone, which one test checks; the rest look at one of them
RUNS = sorted({name.rsplit("/", 1)[0] + "/seed0" for name in LISTED})
TRAINED = [name for name in RUNS if CONFIGS.method(name.split("/")[2]).trains]
PARAMETERS = {
    "qwen2_5_0_5b": 494_032_768,
    "qwen2_5_1_5b": 1_543_714_304,
    "qwen2_5_7b": 7_615_616_512,
    "qwen2_5_14b": 14_770_033_664,
    "qwen2_5_14b_instruct": 14_770_033_664,
    "qwen2_5_32b_instruct": 32_763_876_352,
    "qwen2_5_math_7b": 7_615_616_512,
    "qwen3_4b_base": 4_022_468_096,
    "qwen3_8b": 8_190_735_360,
    "qwen3_32b": 32_762_123_264,
}


@pytest.fixture(scope="module")
def stand_in(tmp_path_factory):
    """model -> a folder with its config.json and a tokenizer, which is all that verl's validation reads."""
    root = tmp_path_factory.mktemp("architectures")
    for name in PARAMETERS:
        architecture = dict(CONFIGS.model(name).architecture)
        AutoConfig.for_model(architecture.pop("model_type"), **architecture).save_pretrained(root / name)
        make_tokenizer().save_pretrained(root / name)
    return lambda name: str(root / name)


@pytest.fixture(scope="module")
def composed(stand_in):
    """cell -> (resolved cell, verl's configuration of it) at paper scale."""

    def compose(name, scale="paper"):
        cell = resolve(name, scale, CONFIGS, RESULTS)
        path = {"actor_rollout_ref.model.path": stand_in(cell["model"]["name"])}
        return cell, compose_verl_config(cell["verl"] | path)

    return compose


@pytest.mark.parametrize("name", PARAMETERS)
def test_an_architecture_has_the_models_parameters(name, stand_in):
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(stand_in(name)))
    assert sum(p.numel() for p in model.parameters()) == PARAMETERS[name]


def expected_settings(cell: CellId) -> dict[str, Setting]:
    """verl key -> what protocol, experiment and method state for this cell, the narrower word last."""
    protocol = CONFIGS.protocol(cell.paper)
    experiment = protocol.experiments[cell.experiment]
    stated = [*protocol.hyperparameters.values(), *experiment.hyperparameters.values()]
    expected = {setting.verl: setting for setting in stated if setting.verl}
    expected |= CONFIGS.method(cell.method).verl
    for name in reversed(CONFIGS.method_chain(cell.method)):
        for of_method in (protocol.methods, experiment.methods):
            expected |= {
                setting.verl: setting for setting in of_method.get(name, {}).values() if setting.verl
            }
    return expected


@pytest.mark.parametrize("name", TRAINED)
def test_verl_would_run_what_the_protocol_states(name, composed):
    cell, config = composed(name)
    assert cell["model"]["name"] in PARAMETERS
    expected = expected_settings(CellId.parse(name, CONFIGS))
    assert len(expected) > 20
    for key, setting in expected.items():
        if key in TRAINER_SETTINGS:
            assert cell["trainer"][key.removeprefix("entrobench.")] == setting.value, key
        elif key not in DERIVED:
            assert OmegaConf.select(config, key) == setting.value, f"{key}: {setting.source}"
            origin = cell["provenance"][key]
            assert origin["layer"] in ("device", "scale") or origin["status"] == setting.status, key
    data, actor = config.data, config.actor_rollout_ref.actor
    updates = expected["derive.updates_per_step"].value
    exact = data.train_batch_size / updates
    devices = config.trainer.nnodes * config.trainer.n_gpus_per_node
    assert actor.ppo_mini_batch_size >= exact
    assert actor.ppo_mini_batch_size * config.actor_rollout_ref.rollout.n % devices == 0
    assert actor.ppo_mini_batch_size - exact < devices, "no more is added than the devices need"
    fraction = expected.get("derive.overlong_fraction")
    if fraction is not None:
        buffer = config.reward.reward_kwargs.overlong_buffer_cfg
        assert buffer.len == int(fraction.value * data.max_response_length)
        assert config.reward.reward_kwargs.max_resp_len == data.max_response_length


@pytest.mark.parametrize("name", TRAINED)
def test_a_shaper_takes_its_settings_and_they_have_a_source(name):
    cell = resolve(name, "paper", CONFIGS, RESULTS)
    if cell["shaper"] is None:
        return
    SHAPERS[cell["shaper"]["name"]](**cell["shaper"]["settings"])
    for key in cell["shaper"]["settings"]:
        assert cell["provenance"][f"shaper.{key}"]["source"]


@pytest.mark.parametrize("scale", ["mini", "smoke"])
def test_every_cell_is_accepted_at_the_smaller_scales(scale, tmp_path):
    make_model(tmp_path)
    for name in TRAINED:
        cell = resolve(name, scale, CONFIGS, RESULTS)
        config = compose_verl_config(cell["verl"] | {"actor_rollout_ref.model.path": str(tmp_path)})
        assert config.trainer.nnodes * config.trainer.n_gpus_per_node == 1


def test_the_paper_scale_changes_no_value_that_a_paper_states():
    scale = CONFIGS.scale("paper")
    own = set(scale.verl) | set(scale.method_exceptions) | set(CONFIGS.device(scale.device).verl)
    for name in TRAINED:
        clash = own & {
            key
            for key, setting in expected_settings(CellId.parse(name, CONFIGS)).items()
            if setting.value != (scale.verl | CONFIGS.device(scale.device).verl).get(key, setting).value
        }
        assert not clash, name


def test_seeds_differ_in_the_seed_alone():
    def without_seed(seed):
        cell = resolve(f"repo/aime-8b/repo_r/seed{seed}", "paper", CONFIGS, RESULTS)
        text = str({key: value for key, value in cell.items() if key != "provenance"})
        return text.replace(f"seed{seed}", "seedK").replace(f"seed': {seed}", "seed': K")

    one, other = without_seed(1), without_seed(23)
    for key in ("data.seed", "rollout.seed", "data_loader_seed"):
        one, other = (text.replace(f"{key}': {n}", f"{key}': K") for text, n in ((one, 1), (other, 23)))
    assert one == other


def test_sequential_training_starts_from_the_same_method_and_seed():
    cell = CellId.parse("repo/aime-8b-then-appworld/repo_r/seed2", CONFIGS)
    assert str(previous_cell(cell, CONFIGS)) == "repo/aime-8b/repo_r/seed2"
    resolved = resolve(str(cell), "paper", CONFIGS, RESULTS)
    assert resolved["model"]["path"] == "results/paper/repo/aime-8b/repo_r/seed2/model"


# Values that a reader can look up in the papers, written out once more
LOOKED_UP = {
    # PAPO, App. B.4: 128 prompts, one update; agentic: temperature 0.7, groups of 5, 7 epochs
    "papo/14b-agentic/papo_polarity": {
        "actor_rollout_ref.rollout.n": 5,
        "actor_rollout_ref.rollout.temperature": 0.7,
        "trainer.total_epochs": 7,
        "actor_rollout_ref.actor.ppo_mini_batch_size": 128,
    },
    # exchange, Implementation Details: 512 / 32, cache of 1024 tokens, +1 and -1
    "exchange/7b/exchange_grpo": {
        "data.train_batch_size": 512,
        "actor_rollout_ref.actor.ppo_mini_batch_size": 32,
        "actor_rollout_ref.actor.optim.lr_warmup_steps": 10,
        "reward.reward_kwargs.overlong_buffer_cfg.len": 1024,
        "reward.custom_reward_function.reward_kwargs.incorrect": -1.0,
        "actor_rollout_ref.actor.clip_ratio_high": 0.28,
        "actor_rollout_ref.actor.loss_agg_mode": "token-mean",
    },
    # REPO, Section 4 and App. D.2; mini-batches of 256 trajectories are 42.7 prompts, 44 on 8 devices
    "repo/aime-32b/gspo_repo_d": {
        "data.train_batch_size": 128,
        "actor_rollout_ref.rollout.n": 6,
        "actor_rollout_ref.actor.optim.lr": 5e-5,
        "actor_rollout_ref.actor.grad_clip": 0.1,
        "actor_rollout_ref.model.lora_rank": 16,
        "actor_rollout_ref.model.lora_alpha": 32,
        "actor_rollout_ref.actor.ppo_epochs": 2,
        "actor_rollout_ref.actor.ppo_mini_batch_size": 44,
        "actor_rollout_ref.actor.clip_ratio_low": 3e-4,
        "actor_rollout_ref.actor.clip_ratio_high": 4e-4,
        "actor_rollout_ref.actor.policy_loss.loss_mode": "gspo",
    },
    # REPO, App. B.1: LOOP with [0.9, 1.1], FP16; DAPO keeps its own range
    "repo/appworld-8b-numerics/loop": {
        "actor_rollout_ref.actor.clip_ratio_high": 0.1,
        "actor_rollout_ref.rollout.dtype": "float16",
        "actor_rollout_ref.actor.fsdp_config.mixed_precision.param_dtype": "fp16",
        "actor_rollout_ref.rollout.multi_turn.max_assistant_turns": 30,
    },
    "repo/appworld-8b-numerics/adapo": {"actor_rollout_ref.actor.clip_ratio_high": 0.28},
    # OPEFO, Section 6.1: 32 prompts; strictly on-policy 2.83e-6, else 1e-6 with 8 updates
    "opefo/math-7b/opefo": {
        "data.train_batch_size": 32,
        "actor_rollout_ref.actor.ppo_mini_batch_size": 32,
        "actor_rollout_ref.actor.optim.lr": 2.83e-6,
        "data.max_response_length": 3000,
    },
    "opefo/qwen3-4b/kl_cov": {
        "actor_rollout_ref.actor.ppo_mini_batch_size": 4,
        "actor_rollout_ref.actor.optim.lr": 1e-6,
        "data.max_response_length": 8000,
        "actor_rollout_ref.actor.policy_loss.kl_cov_ratio": 0.002,
    },
    # A method on another paper's experiment keeps that experiment's sizes and learning rate
    "papo/7b-math/opefo": {
        "data.train_batch_size": 128,
        "actor_rollout_ref.actor.ppo_mini_batch_size": 128,
        "actor_rollout_ref.actor.optim.lr": 1e-6,
        "actor_rollout_ref.actor.clip_ratio_high": 0.2,
    },
}


@pytest.mark.parametrize("name", LOOKED_UP)
def test_values_looked_up_in_the_papers(name, composed):
    _, config = composed(f"{name}/seed0")
    for key, value in LOOKED_UP[name].items():
        assert OmegaConf.select(config, key) == value, key


def test_a_prompt_and_a_response_fit_the_models_positions():
    for name in TRAINED:
        cell = resolve(name, "paper", CONFIGS, RESULTS)
        positions = CONFIGS.model(cell["model"]["name"]).architecture["max_position_embeddings"]
        needed = cell["verl"]["data.max_prompt_length"] + cell["verl"]["data.max_response_length"]
        assert needed <= positions, f"{name} needs {needed} positions, the model has {positions}"


def test_a_prompt_and_an_answer_fit_the_models_positions_in_evaluation():
    for name in RUNS:
        cell = resolve(name, "paper", CONFIGS, RESULTS)
        positions = CONFIGS.model(cell["model"]["name"]).architecture["max_position_embeddings"]
        for benchmark, settings in cell["evaluation"].items():
            assert settings["max_tokens"] < settings["max_model_len"] <= positions, (name, benchmark)


def test_every_method_names_a_test_file_that_is_about_it():
    for name in CONFIGS.names("methods"):
        method = CONFIGS.method(name)
        assert method.method == name
        assert method.paper in CONFIGS.papers()
        text = (repository_root() / method.test).read_text()
        words = [SHAPERS[method.shaper.name].__name__] if method.shaper else CONFIGS.method_chain(name)
        assert any(word in text for word in words) or not method.trains, name


def test_numbers_of_updates_are_the_papers():
    # exchange 512 / 32 = 16; OPEFO 8; REPO 768 / 256 = 384 / 128 = 3
    updates = {"exchange/7b/exchange_grpo": 16, "opefo/math-7b/clip_higher": 8, "repo/aime-8b/loop": 3}
    for name, number in updates.items():
        verl = resolve(f"{name}/seed0", "paper", CONFIGS, RESULTS)["verl"]
        mini_batch = verl["actor_rollout_ref.actor.ppo_mini_batch_size"]
        assert math.ceil(verl["data.train_batch_size"] / mini_batch) == number
