"""The protocol audit: every cell at paper scale is a configuration that verl accepts, and what verl would run
is what the protocol states, key by key. No GPU and no hub: a model's architecture stands in for its weights.
"""

import gzip
import json
import math
from pathlib import Path

import pytest
import torch
from omegaconf import OmegaConf
from support import make_model, make_tokenizer
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

from entrobench.algorithms import SHAPERS
from entrobench.cells import (
    DERIVED,
    ENVIRONMENT_SETTINGS,
    TRAINER_SETTINGS,
    CellId,
    listed_cells,
    previous_cell,
    resolve,
)
from entrobench.configs import Configs, Setting
from entrobench.data.benchmarks import load_benchmark
from entrobench.data.prompt_files import prepare_prompt
from entrobench.data.prompts import check_settings, render
from entrobench.data.recipes.selection import Selection, TrainingRow
from entrobench.data.schema import Problem, parquet_rows, read_verl_parquet
from entrobench.data.training_sets import write_training_set
from entrobench.errors import ConfigError, MissingInput
from entrobench.evaluation.plan import render_prompt
from entrobench.files import read_jsonl
from entrobench.paths import repository_root
from entrobench.training.verl_config import compose_verl_config

pytestmark = pytest.mark.slow

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
        elif key in ENVIRONMENT_SETTINGS:
            assert cell["environment"][key.rpartition(".")[2]] == setting.value, key
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
    cells = [resolve(name, scale, CONFIGS, RESULTS)["verl"] for name in TRAINED]
    # Many are the same but for their name: these scales replace what the papers differ in
    unique = {json.dumps(verl | {"trainer.experiment_name": ""}, sort_keys=True): verl for verl in cells}
    for verl in unique.values():
        config = compose_verl_config(verl | {"actor_rollout_ref.model.path": str(tmp_path)})
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
    assert resolved["model"]["path"] == "results/paper/repo/aime-8b/repo_r/seed2/best", "Section 5.3"
    resolved = resolve("repo/aime-8b-last-then-appworld/repo_r/seed2", "paper", CONFIGS, RESULTS)
    assert resolved["model"]["path"] == "results/paper/repo/aime-8b/repo_r/seed2/model"
    assert resolved["environment"] == {
        "name": "appworld",
        "turns": 30,
        "turn_tokens": 16384,
        "observation_tokens": 1500,
        "early_stop": [4, 0.9],
    }
    of_test = resolved["evaluation"]["appworld_test_normal"]
    assert (of_test["max_turns"], of_test["max_model_len"], of_test["environment"]) == (50, 32768, "appworld")


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
        "actor_rollout_ref.actor.optim.clip_grad": 0.1,
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


# -- prompts -------------------------------------------------------------------------------------------------

# One trained cell of every experiment that is asked by a prompt and not by an agent's loop
ASKED = {name.split("/")[0] + "/" + name.split("/")[1]: name for name in TRAINED if "appworld" not in name}
TURNS = [
    {"role": "user", "content": "What is {{problem}}?"},
    {"role": "assistant", "content": "[]"},
    {"role": "user", "content": "And now?"},
]
FIELDS = {"functions": [{"name": "f", "parameters": {}}], "turns": TURNS}


@pytest.fixture(scope="module")
def tokenizer(real_path):
    return AutoTokenizer.from_pretrained(real_path("tokenizer_qwen2_5"))


def chat(tokenizer, messages, **settings):
    return tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True, **settings)


@pytest.mark.parametrize("name", ASKED.values())
def test_training_and_evaluation_of_a_cell_ask_the_same_problem_byte_for_byte(name, tokenizer, tmp_path):
    cell = resolve(name, "paper", CONFIGS, RESULTS)
    problem = "Two braces: {{problem}}, $\\frac{1}{2}$.\n  And 025."
    selection = Selection(rows_in=1, dedup_key="none")
    selection.rows = [TrainingRow("0", problem, "1", asked_with=FIELDS)]
    target = tmp_path / "train.parquet"
    prompt = Setting(value=cell["dataset"]["prompt"])
    manifest = write_training_set(cell["dataset"]["name"], selection, {}, target, prompt)
    assert manifest["prompt"]["value"] == cell["dataset"]["prompt"]
    thinks = cell["verl"].get("data.apply_chat_template_kwargs.enable_thinking", True)
    (row,) = read_verl_parquet(target)
    trained = chat(tokenizer, [m.model_dump() for m in row.prompt], enable_thinking=thinks)
    for benchmark in cell["in_domain"]:
        entry = cell["evaluation"][benchmark]
        assert entry.get("thinking", True) == thinks
        asked = Problem(id="0", benchmark=benchmark, problem=problem, gold="1", extra=FIELDS)
        evaluated = render_prompt(asked, entry, tokenizer)
        assert evaluated.encode() == trained.encode(), benchmark


def test_every_prompt_of_a_cell_says_where_it_comes_from():
    for name in RUNS:
        cell = resolve(name, "paper", CONFIGS, RESULTS)
        for key in ("dataset.prompt", *(f"evaluation.{entry}.prompt" for entry in cell["evaluation"])):
            origin = cell["provenance"][key]
            assert origin["source"] != "entrobench", (name, key)
            assert origin["status"] == "stated" or origin["note"], (name, key)


def test_every_evaluation_has_a_grader_a_stop_mark_and_where_the_model_thinks_whether_it_does():
    for name in RUNS:
        cell = resolve(name, "paper", CONFIGS, RESULTS)
        for entry in cell["evaluation"].values():
            assert entry["grader"], name
            assert "<|im_end|>" in entry["stop"], name
            if cell["model"]["name"].startswith("qwen3"):
                assert entry["thinking"] is True, name
            else:
                assert not entry.get("thinking", False), name


def prompt_of(name, entry="math500"):
    return resolve(f"{name}/seed0", "paper", CONFIGS, RESULTS)["evaluation"][entry]["prompt"]


def ask(prompt, **extra):
    return render(Problem(id="0", benchmark="b", problem="What is 7 + 8?", gold="15", extra=extra), prompt)


def test_mathematics_is_asked_as_each_paper_has_it():
    instruction = "\nPlease reason step by step, and put your final answer within \\boxed{}."
    question = "What is 7 + 8?"
    assert ask(prompt_of("papo/7b-math/dapo")) == [  # App. B.7
        {"role": "system", "content": "You are a helpful assistant."},
        {"role": "user", "content": question + instruction},
    ]
    assert ask(prompt_of("opefo/math-7b/opefo")) == [{"role": "user", "content": question}]  # Section 6.1
    assert ask(prompt_of("exchange/7b/exchange_grpo")) == [
        {"role": "user", "content": question + instruction + "<| Assistant |>"}
    ]
    assert ask(prompt_of("repo/aime-8b/repo_r", "aime24")) == [
        {"role": "user", "content": question + instruction}
    ]


@pytest.mark.parametrize("name", ["aime8", "aime25_8", "amc", "math"])
def test_exchange_asks_every_row_of_the_authors_files_as_they_stand(name, real_path):
    prompt = prompt_of("exchange/7b/exchange_grpo")
    for row in parquet_rows(real_path(f"entropy2performance_eval/{name}.parquet")):
        problem = Problem(id="0", benchmark="b", problem=row["extra_info"]["question"], gold="1")
        assert render(problem, prompt) == row["prompt"]


def test_what_a_template_adds_where_there_is_no_system_turn(tokenizer):
    text = chat(tokenizer, ask(prompt_of("opefo/math-7b/opefo")))
    added = "You are Qwen, created by Alibaba Cloud. You are a helpful assistant."
    assert text.startswith(
        f"<|im_start|>system\n{added}<|im_end|>\n<|im_start|>user\nWhat is 7 + 8?<|im_end|>"
    )
    note = CONFIGS.protocol("exchange").prompt_of["still_3"].note
    assert added in note


def test_crux_is_asked_in_zeroevals_words_byte_for_byte(real_path, real_data, tmp_path):
    with gzip.open(real_path("zeroeval_prompts/crux.jsonl.gz"), "rt", encoding="utf-8") as lines:
        rendered = [json.loads(line) for line in lines]
    target = tmp_path / "zeroeval_crux.json"
    try:
        prepare_prompt(CONFIGS.prompt("zeroeval_crux"), target)
    except MissingInput as error:
        pytest.skip(f"ZeroEval's template is not on this machine: {error}")
    prompt = prompt_of("papo/7b-math/dapo", "cruxeval_greedy") | {"file": str(target)}
    problems, _ = load_benchmark(CONFIGS.benchmark("cruxeval"), download=False)
    assert len(problems) == len(rendered) == 800
    for number, (problem, row) in enumerate(zip(problems, rendered, strict=True)):
        assert (problem["id"], row["id"]) == (f"sample_{number}", f"crux-test-#{number}")
        assert render(Problem(**problem), prompt) == [{"role": "user", "content": row["prompt"]}]


def test_ifeval_is_asked_as_lm_eval_asks_it_and_nothing_more(real_data):
    prompt = prompt_of("papo/7b-math/dapo", "ifeval_greedy")
    rows = read_jsonl(real_data / "ifeval" / "input_data.jsonl")
    problems, _ = load_benchmark(CONFIGS.benchmark("ifeval"), download=False)
    assert [render(Problem(**problem), prompt) for problem in problems] == [
        [{"role": "user", "content": row["prompt"]}] for row in rows
    ]


@pytest.mark.parametrize("entry", ["ifeval", "ifeval_greedy", "mmlu_pro", "mmlu_pro_greedy"])
def test_what_lm_eval_asks_is_sampled_as_its_installed_task_says(entry):
    settings = resolve("papo/7b-math/base/seed0", "paper", CONFIGS, RESULTS)["evaluation"][entry]
    check_settings(settings, entry)
    for change in ({"max_tokens": 7}, *([{"stop": ["<|im_end|>"]}] if "mmlu" in entry else [])):
        with pytest.raises(ConfigError, match=rf"{entry}: the installed lm-eval's task \w+ has .*max_tokens"):
            check_settings(settings | change, entry)


def test_out_of_domain_benchmarks_are_asked_greedily_and_sampled():
    cell = resolve("papo/14b-math/dapo/seed0", "paper", CONFIGS, RESULTS)["evaluation"]
    for name, tokens in (("cruxeval", 4096), ("ifeval", 1280), ("mmlu_pro", 2048)):
        greedy, sampled = cell[f"{name}_greedy"], cell[name]
        assert (greedy["temperature"], greedy["n_samples"], greedy["max_tokens"]) == (0.0, 1, tokens)
        assert (sampled["temperature"], sampled["n_samples"], sampled["max_tokens"]) == (1.0, 10, tokens)
        assert (greedy["benchmark"], greedy["file"]) == (name, sampled["file"])
        assert greedy["prompt"] == sampled["prompt"]
        assert sampled["estimator"] == {"paper": "k of k", "ours": "unbiased"}
