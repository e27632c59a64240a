"""Methods on the real trainer: one of each kind of shaper, loss, estimator and controller."""

import json
import os

import pandas as pd
import pytest
from safetensors import safe_open
from support import make_model, make_training_set
from test_real_training import RUN_MARK, TESTS, run_processes

from entrobench.cells import read_cell
from entrobench.configs import Configs
from entrobench.paths import repository_root
from entrobench.training.launch import launch
from entrobench.training.relay import check_relay, plan, write_relay

STEPS = 2
KINDS = [
    # shapers, each once
    *(
        "papo_polarity",
        "negative_polarity",
        "high_entropy_20",
        "opefo",
        "gspo_repo_d",
        "repo_r_bidirectional",
    ),
    # controllers of the actor
    *("adapo", "entropy_bonus"),
    # verl's losses and estimators; tied groups dropped; several updates a step
    *("clip_cov", "kl_cov", "rloo", "opefo_grpo", "ent_reg"),
    # another reward manager: a second run
    *("exchange_ppl_low", "exchange_position_late"),
]
OVERRIDES = {
    # A token in 26 is a digit: four groups in five are mixed, the others tied
    "data.max_response_length": 12,
    "actor_rollout_ref.rollout.n": 4,
    "reward.custom_reward_function.path": str(TESTS / "digit_reward.py"),
}
# Of the second run
LORA = {
    "actor_rollout_ref.model.lora_rank": 16,
    "actor_rollout_ref.model.lora_alpha": 32,
    "actor_rollout_ref.model.target_modules": "all-linear",
    "actor_rollout_ref.rollout.load_format": "safetensors",
    "actor_rollout_ref.actor.optim.lr": 2e-4,
    "actor_rollout_ref.actor.fsdp_config.mixed_precision.param_dtype": "bf16",
}


def test_each_kind_of_method_trains_and_lora_with_full_precision_logits(tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(TESTS), os.environ.get("PYTHONPATH", "")]))
    monkeypatch.setenv(RUN_MARK, str(tmp_path))
    make_model(tmp_path / "model")
    make_training_set(tmp_path / "train.parquet")
    runs = plan(KINDS, "papo/7b-math", Configs(repository_root() / "configs"), tmp_path)
    assert [len(run["relay"]) for run in runs] == [13, 2]
    curves, reports = {}, {}
    for number, cell in enumerate(runs):
        cell["model"]["path"] = str(tmp_path / "model")
        cell["dataset"]["train_file"] = str(tmp_path / "train.parquet")
        folder = tmp_path / f"run{number}"
        if number == 1:
            cell["trainer"]["full_precision_logits"] = True
            write_relay(cell, folder, STEPS, OVERRIDES | LORA, recording={"every": 1, "sequences": 4})
        else:
            write_relay(cell, folder, STEPS, OVERRIDES)
        launch(folder)
        reports |= check_relay(read_cell(folder / "cell.yaml"), folder)
        rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
        for leg, method in enumerate(each["method"] for each in cell["relay"]):
            curves[method] = rows[leg * STEPS : (leg + 1) * STEPS]
    assert set(reports) == set(KINDS)
    assert all(norm > 0 for report in reports.values() for norm in report["grad_norm"]), "each method learns"

    def last(method, name):
        return curves[method][-1][name]

    for row in curves["adapo"]:
        assert row["actor/clip_ratio_high"] == pytest.approx(row["adapo/clip_ratio_high"])
    assert last("adapo", "actor/clip_ratio_high") != 0.28, "the controller's second value has arrived"
    for row in curves["entropy_bonus"]:
        assert row["actor/entropy_coeff"] == pytest.approx(row["repo/zeta"]) != 0
    assert 0 < last("kl_cov", "covariance/chosen_share") < 0.1, "one token of each small mini-batch"
    assert last("ent_reg", "actor/entropy_coeff") == pytest.approx(0.001)
    assert last("opefo", "actor/entropy_coeff") == 0, "the settings of one method do not stay for the next"
    assert last("gspo_repo_d", "actor/clip_ratio_high") == pytest.approx(0.0004)
    assert last("negative_polarity", "polarity/weight_positive") == 0.0
    assert last("negative_polarity", "polarity/weight_negative") == 1.0
    assert last("high_entropy_20", "high_entropy/fraction_kept") == pytest.approx(0.2, abs=0.01)
    assert -1 < last("opefo", "opefo/lambda") < 1
    assert last("exchange_position_late", "position/active") == 1.0
    assert (
        last("exchange_ppl_low", "perplexity/factor_min")
        < 1
        < last("exchange_ppl_low", "perplexity/factor_max")
    )
    tied = [row["groups/all_correct"] + row["groups/all_wrong"] for row in curves["rloo"]]
    assert sum(tied) > 0, "tied groups are counted"
    assert_merged_model_and_token_record(tmp_path / "run1")
    assert run_processes(tmp_path) == []


def assert_merged_model_and_token_record(run_dir):
    """REPO's numerics on bf16: LoRA, fp32 logits; the merged model and token_stats.parquet at the end."""
    with safe_open(run_dir / "model" / "model.safetensors", "pt") as weights:
        assert "model.embed_tokens.weight" in weights.keys(), "plain names: the adapter is merged"  # noqa: SIM118
    tokens = pd.read_parquet(run_dir / "token_stats.parquet")
    assert tokens["step"].unique().tolist() == [1, 2], "each method counts its own"
    assert tokens.groupby("step")["sequence"].nunique().tolist() == [4, 4]
    responses = tokens.groupby((tokens["position"] == 0).cumsum())
    assert len(responses) == 2 * STEPS * 4
    for _, response in responses:
        assert response["position"].tolist() == list(range(len(response))), "every token of it"
        ended = response["text"].iloc[-1] == "<|im_end|>"
        assert ended or len(response) == OVERRIDES["data.max_response_length"]
    assert (tokens["logp"] <= 0).all()
    assert (tokens["t2"] >= 0).all()
    assert (tokens["entropy_after"] != tokens["entropy"]).any(), "measured after the update"
    # 7 mantissa bits would leave entropies of 5.5 on a grid of 2^-5
    assert not ((tokens["entropy"] * 32) % 1 == 0).all()
    assert (tokens["text"].str.len() > 0).any()
