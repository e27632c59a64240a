"""The memory budget against traced and real allocations, and the settings that it chooses."""

import json
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from command_line import entrobench
from live_bytes import LiveBytes
from torch._subclasses.fake_tensor import FakeTensorMode
from transformers import AttentionInterface, AutoConfig, AutoModelForCausalLM

from entrobench.cells import is_performance_key, listed_cells, resolve
from entrobench.configs import Configs
from entrobench.cost.arithmetic import Architecture
from entrobench.cost.estimate import architecture_of
from entrobench.cost.memory import (
    Cards,
    Settings,
    Workload,
    fitting,
    forward_bytes,
    memory_settings,
    over,
    phases,
    update_bytes,
    why_not,
)
from entrobench.errors import ConfigError
from entrobench.paths import repository_root
from entrobench.rehearsal.training import rehearse_training
from entrobench.runs.identity import MICRO_BATCH_KEYS

CONFIGS = Configs(repository_root() / "configs")
RESULTS = Path("results")
MODELS = ["qwen2_5_7b", "qwen2_5_14b", "qwen3_4b_base", "qwen3_8b", "qwen3_32b", "qwen2_5_32b_instruct"]
WANTED = Settings(update_tokens=32768, log_prob_tokens=65536)
TOKENS = 2048


def published(name):
    return architecture_of(name, "paper", CONFIGS, RESULTS)


def unmasked(module, query, key, value, attention_mask, scaling=None, **_):
    """Attention as the packed kernels have it: keys repeated for the heads that share them, no mask."""
    group = query.shape[1] // key.shape[1]
    key, value = (tensor.repeat_interleave(group, 1) for tensor in (key, value))
    out = torch.nn.functional.scaled_dot_product_attention(query, key, value, is_causal=True, scale=scaling)
    return out.transpose(1, 2), None


AttentionInterface.register("unmasked", unmasked)


def traced(name, layers, gradient):
    """Peak bytes of layers of a published model over TOKENS tokens, without weights and their gradients."""
    with FakeTensorMode():
        settings = CONFIGS.model(name).architecture | {"num_hidden_layers": layers, "vocab_size": 64}
        kind = settings.pop("model_type")
        config = AutoConfig.for_model(kind, **settings, pad_token_id=None)
        model = AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16, attn_implementation="unmasked")
        model.requires_grad_(False)
        if gradient:
            model.gradient_checkpointing_enable({"use_reentrant": False})
            model.train()
        inputs = torch.zeros(1, TOKENS, config.hidden_size, dtype=torch.bfloat16, requires_grad=gradient)
        live = LiveBytes(model.parameters())
        with live, torch.set_grad_enabled(gradient):
            hidden = model.model(
                inputs_embeds=inputs * 1, position_ids=torch.arange(TOKENS)[None], use_cache=False
            ).last_hidden_state
            if gradient:
                hidden.backward(torch.empty_like(hidden))
        return live.peak


@pytest.mark.parametrize("name", MODELS)
def test_a_layer_takes_what_the_budget_says_or_up_to_10_percent_less(name):
    model = published(name)
    bare = Workload(replace(model, vocabulary=0, layers=0), longest=1, trained=0)
    checkpoint = 2 * model.hidden * TOKENS
    two, four = (traced(name, layers, gradient=True) for layers in (2, 4))
    assert four - two == 2 * checkpoint, "what each layer keeps is its input"
    assert 1.0 <= update_bytes(bare) * TOKENS / (two - 2 * checkpoint) <= 1.11
    assert 1.0 <= forward_bytes(bare) * TOKENS / traced(name, 2, gradient=False) <= 1.11


REAL_UPDATE = """
import json, sys, torch
from entrobench.kernels.token_stats import log_prob_and_entropy
from transformers import AutoConfig, AutoModelForCausalLM

def status(key):
    return 1024 * int(next(l for l in open("/proc/self/status") if l.startswith(key)).split()[1])

torch.set_num_threads(1)
architecture, tokens = json.loads(sys.argv[1]), int(sys.argv[2])
kind = architecture.pop("model_type")
config = AutoConfig.for_model(kind, **architecture)
model = AutoModelForCausalLM.from_config(config, attn_implementation="sdpa")
model.requires_grad_(False)
model.model.embed_tokens.weight.requires_grad_(True)  # a gradient that flows through all layers
model.gradient_checkpointing_enable({"use_reentrant": False})
model.train()

def update(tokens):
    logits = model(torch.zeros(1, tokens, dtype=torch.long), use_cache=False).logits.squeeze(0)
    logp, entropy = log_prob_and_entropy(logits, torch.zeros(tokens, dtype=torch.long), 1.0)
    (logp.mean() + 0.01 * entropy.mean()).backward()

update(8)  # libraries, buffers
open("/proc/self/clear_refs", "w").write("5")
before = status("VmRSS")
update(tokens)
print(status("VmHWM") - before)
"""


def test_the_resident_size_of_a_real_update_is_what_the_budget_says():
    architecture = {
        "model_type": "qwen2",
        "hidden_size": 256,
        "intermediate_size": 1024,
        "num_hidden_layers": 12,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "vocab_size": 32000,
        "tie_word_embeddings": False,
    }
    tokens = 2048
    work = Workload(Architecture.of(architecture, "test"), longest=tokens, trained=1, logit_bytes=4)
    bare = replace(work, model=replace(work.model, vocabulary=0))
    predicted = tokens * (update_bytes(work) + update_bytes(bare))  # fp32: all but the logits twice as wide
    command = [sys.executable, "-c", REAL_UPDATE, json.dumps(architecture), str(tokens)]
    measured = int(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    scratch = 100e6  # of the kernel on a CPU
    assert predicted <= measured <= 1.05 * predicted + scratch, (predicted, measured)


def test_state_is_sharded_and_an_adapter_has_little():
    model = published("qwen2_5_7b")
    full = Workload(model, 10240, model.parameters)
    nothing = replace(WANTED, update_tokens=0)
    eight, sixteen = (phases(full, nothing, Cards(n, 8, 80))["update"] for n in (8, 16))
    assert eight - sixteen == pytest.approx(16 * model.parameters / 16), (
        "weights, moments, gradients: 16 bytes"
    )
    adapter = Workload(model, 10240, model.adapter(16))
    assert phases(adapter, nothing, Cards(8, 8, 80))["update"] < eight - 11 * model.parameters / 8


def test_an_adapter_has_the_parameters_that_peft_makes():
    from peft import LoraConfig, get_peft_model

    model = published("qwen3_8b")
    with torch.device("meta"):
        settings = CONFIGS.model("qwen3_8b").architecture | {"num_hidden_layers": 2}
        config = AutoConfig.for_model(settings.pop("model_type"), **settings)
        made = get_peft_model(
            AutoModelForCausalLM.from_config(config),
            LoraConfig(r=16, target_modules="all-linear", task_type="CAUSAL_LM"),
        )
        trained = sum(p.numel() for p in made.parameters() if p.requires_grad)
    assert replace(model, layers=2).adapter(16) == trained


@pytest.mark.parametrize("gb", [40, 80, 141])
@pytest.mark.parametrize("count", [8, 16])
@pytest.mark.parametrize("name", MODELS)
def test_what_is_chosen_fits_holds_a_sequence_and_can_be_spread(name, count, gb):
    model = published(name)
    work = Workload(model, 32768, model.adapter(16))
    cards = Cards(count, 8, gb)
    settings = fitting(work, WANTED, cards)
    assert settings is not None
    assert not over(work, settings, cards)
    assert settings.update_tokens * settings.ranks_per_sequence >= work.longest
    assert settings.log_prob_tokens * settings.ranks_per_sequence >= work.longest
    ranks = settings.ranks_per_sequence
    assert model.heads % ranks == 0
    assert model.kv_heads % ranks == 0 or ranks % model.kv_heads == 0
    larger = fitting(work, WANTED, replace(cards, gb=2 * gb))
    assert (larger.ranks_per_sequence, -larger.update_tokens) <= (ranks, -settings.update_tokens)


def test_micro_batches_that_are_part_of_a_method_keep_their_size():
    model = published("qwen2_5_7b")
    work = Workload(model, 4096, model.parameters, tokens_fixed=True)
    settings = fitting(work, replace(WANTED, update_tokens=36864), Cards(8, 8, 80))
    assert settings.update_tokens == 36864
    assert fitting(work, replace(WANTED, update_tokens=36864), Cards(8, 8, 40)) is None


def test_what_does_not_fit_says_which_phase_and_what_would_help():
    model = published("qwen3_32b")
    work = Workload(model, 32768, model.parameters)  # all of its weights trained
    cards = Cards(8, 8, 80)
    assert fitting(work, WANTED, cards) is None
    assert re.search(
        r"update needs \d+ of 75 GB. What would help: trainer.nnodes: 2", why_not(work, WANTED, cards)
    )
    assert why_not(work, WANTED, Cards(1, 1, 24)).endswith("What would help: cards with more memory")


@pytest.mark.parametrize("paper", CONFIGS.papers())
def test_every_listed_cell_fits_on_16_cards_of_80_gb_or_fewer(paper):
    fits = rehearse_training(listed_cells(paper, CONFIGS), "paper", CONFIGS, RESULTS, 80)
    assert all(fit.settings is not None and fit.cards.count <= 16 for fit in fits)
    trained = [c for c in listed_cells(paper, CONFIGS) if CONFIGS.method(c.method).trains]
    assert sum(len(fit.cells) for fit in fits) == len(trained)


@pytest.mark.parametrize("paper", CONFIGS.papers())
def test_memory_changes_performance_and_never_the_run(paper):
    for cell in listed_cells(paper, CONFIGS)[::5]:
        resolved = resolve(str(cell), "paper", CONFIGS, RESULTS)
        if not resolved["verl"]:
            continue
        chosen = memory_settings(resolved, published(resolved["model"]["name"]), 80)
        assert all(is_performance_key(key) for key in chosen)
        assert chosen != memory_settings(resolved, published(resolved["model"]["name"]), 40)


@pytest.mark.parametrize(
    ("cell", "model", "gb", "sequences"),
    [
        # 198 of 10,240 tokens are held, three times as many at a third of that
        ("papo/7b-math/dapo/seed0", "qwen2_5_7b", 80, 512),
        ("papo/7b-math/dapo/seed0", "qwen2_5_7b", 141, 1024),
        ("papo/14b-math/dapo/seed0", "qwen2_5_14b", 80, 256),
    ],
)
def test_a_server_answers_as_many_at_once_as_its_cache_usually_holds(cell, model, gb, sequences):
    chosen = memory_settings(resolve(cell, "paper", CONFIGS, RESULTS), published(model), gb)
    assert chosen["actor_rollout_ref.rollout.max_num_seqs"] == sequences


def test_nothing_that_a_released_rule_depends_on_is_changed():
    resolved = resolve("opefo/math-7b/clip_cov_released/seed0", "paper", CONFIGS, RESULTS)
    chosen = memory_settings(resolved, published("qwen2_5_math_7b"), 80)
    assert {key: chosen[key] for key in MICRO_BATCH_KEYS if key in chosen} == {
        key: resolved["verl"][key] for key in MICRO_BATCH_KEYS if key in chosen
    }
    assert chosen["actor_rollout_ref.actor.fsdp_config.ulysses_sequence_parallel_size"] == 1


def test_a_cell_that_does_not_fit_is_named():
    resolved = resolve("papo/14b-math/dapo/seed0", "paper", CONFIGS, RESULTS)
    with pytest.raises(ConfigError, match=r"papo/14b-math/dapo/seed0: does not fit on 16 GPUs of 16 GB"):
        memory_settings(resolved, published("qwen2_5_14b"), 16)


def test_the_command_line_says_what_each_phase_needs_and_fails_for_what_does_not_fit(capsys):
    assert entrobench("rehearse", "train", "papo/14b-math/dapo/seed0") == 0
    assert re.search(r"papo/14b-math +1 +16 +\d+ +\d+ +\d+ +\d+ +32768", capsys.readouterr().out)
    assert entrobench("rehearse", "train", "papo/14b-math/dapo/seed0", "--gb", "16") == 1
    assert "What would help: cards with more memory" in capsys.readouterr().out
    assert entrobench("rehearse", "train", "papo/14b-math/dapo/seed0", "--gpus", "8") == 0
