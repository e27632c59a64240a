"""Methods on the real trainer: one of each kind of shaper, loss, estimator and controller; and two cells that
cannot go on.
"""

import os
import time
from pathlib import Path

import pandas as pd
import psutil
import pytest
from digit_reward import CONSTANT
from safetensors import safe_open
from support import make_model, make_training_set
from test_real_training import RUN_MARK, TESTS, run_processes, shared_memory_of

from entrobench.cells import write_cell
from entrobench.configs import Configs
from entrobench.errors import TrainingFailed
from entrobench.files import read_jsonl
from entrobench.paths import repository_root
from entrobench.training.launch import launch_sessions
from entrobench.training.methods_smoke import check_curve, short_cell
from entrobench.training.session import sessions_of

STEPS = 2
ANOTHER_REWARD_MANAGER = ("exchange_ppl_low", "exchange_position_late")
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
    # another reward manager: a second session
    *ANOTHER_REWARD_MANAGER,
]
# Each the last of its session, so that its failure costs no other a start
WITHOUT_MIXED_GROUPS = "without mixed groups"
FAILING_WORKER = "a vLLM worker that fails in a weight update"
LASTS = {WITHOUT_MIXED_GROUPS: "papo_polarity", FAILING_WORKER: "exchange_position_late"}
OVERRIDES = {
    # A token in 26 is a digit: four groups in five are mixed, the others tied
    "data.max_response_length": 12,
    "actor_rollout_ref.rollout.n": 4,
    "reward.custom_reward_function.path": str(TESTS / "digit_reward.py"),
}
# Of the cells of the second session
SECOND_SESSION = {
    "trainer.save_freq": 1,
    "actor_rollout_ref.rollout.engine_kwargs.vllm.worker_extension_cls": "failing_worker.FailingExtension",
    "actor_rollout_ref.model.lora_rank": 16,
    "actor_rollout_ref.model.lora_alpha": 32,
    "actor_rollout_ref.model.target_modules": "all-linear",
    "actor_rollout_ref.rollout.load_format": "safetensors",
    "actor_rollout_ref.actor.optim.lr": 2e-4,
    "actor_rollout_ref.actor.fsdp_config.mixed_precision.param_dtype": "bf16",
}


def abandoned_shared_memory() -> set[Path]:
    """Shared memory that no process maps for 3 s: living runs of other tests make and remove some."""
    found = _unmapped_shared_memory()
    time.sleep(3)
    return found & _unmapped_shared_memory()


def _unmapped_shared_memory() -> set[Path]:
    inodes = {path: path.stat().st_ino for path in Path("/dev/shm").iterdir() if path.exists()}
    mapped = shared_memory_of(psutil.process_iter())
    return {path for path, inode in inodes.items() if inode not in mapped}


def test_methods_of_each_kind_train_and_those_that_cannot_cost_only_themselves(tmp_path, monkeypatch, capsys):
    shared_memory = abandoned_shared_memory()
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(TESTS), os.environ.get("PYTHONPATH", "")]))
    monkeypatch.setenv(RUN_MARK, str(tmp_path))
    make_model(tmp_path / "model")
    make_training_set(tmp_path / "train.parquet")
    configs = Configs(repository_root() / "configs")
    for name in (*KINDS, *LASTS):
        method = LASTS.get(name, name)
        cell = short_cell(method, "papo/7b-math", STEPS, configs, tmp_path)
        cell["model"]["path"] = str(tmp_path / "model")
        cell["dataset"]["train_file"] = str(tmp_path / "train.parquet")
        cell["verl"] |= OVERRIDES
        if method in ANOTHER_REWARD_MANAGER:
            cell["verl"] |= SECOND_SESSION
            cell["trainer"]["full_precision_logits"] = True
            cell["recording"] = {"every": 1, "sequences": 4}
            cell["guard"]["error"] = 15.0
        if name == WITHOUT_MIXED_GROUPS:
            cell["verl"]["algorithm.filter_groups.metric"] = CONSTANT
            cell["verl"]["algorithm.filter_groups.max_num_gen_batches"] = 2
        write_cell(cell, tmp_path / name / "cell.yaml", repository_root())
    folders = [tmp_path / name for name in (*KINDS, *LASTS)]
    assert [len(group) for group in sessions_of(folders)] == [14, 3]
    with pytest.raises(TrainingFailed, match="2 of 17 cells failed, the others are trained"):
        launch_sessions(folders, tmp_path / "sessions")
    output = capsys.readouterr().out
    exhausted = "DynamicSamplingExhausted: dynamic sampling: step 1 generated 32 prompts (2 batches of 16)"
    assert exhausted in output
    assert "provoked: this worker refuses its weights" in output
    assert (tmp_path / FAILING_WORKER / "checkpoints/global_step_1/controller.json").exists(), "it is intact"
    assert not [name for name in LASTS if (tmp_path / name / "train.done.json").exists()]
    assert abandoned_shared_memory() <= shared_memory, "shared memory of the killed worker is gone"
    reports = {method: check_curve(tmp_path / method, STEPS) for method in KINDS}
    curves = {method: read_jsonl(tmp_path / method / "metrics.jsonl") for method in KINDS}
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
    tied = [
        row["groups/all_correct"] + row["groups/all_wrong"]
        for method in ("rloo", "adapo", "entropy_bonus", "gspo_repo_d", "repo_r_bidirectional")
        for row in curves[method]
    ]
    assert sum(tied) > 0, "tied groups are counted"
    for method in ANOTHER_REWARD_MANAGER:
        assert_merged_model_and_token_record(tmp_path / method)
    assert run_processes(tmp_path) == []


def assert_merged_model_and_token_record(run_dir):
    """REPO's numerics on bf16: LoRA, fp32 logits; the merged model and token_stats.parquet at the end."""
    with safe_open(run_dir / "model" / "model.safetensors", "pt") as weights:
        assert "model.embed_tokens.weight" in weights.keys(), "plain names: the adapter is merged"  # noqa: SIM118
    tokens = pd.read_parquet(run_dir / "token_stats.parquet")
    assert tokens["step"].unique().tolist() == [1, 2]
    assert tokens.groupby("step")["sequence"].nunique().tolist() == [4, 4]
    responses = tokens.groupby((tokens["position"] == 0).cumsum())
    assert len(responses) == STEPS * 4
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
