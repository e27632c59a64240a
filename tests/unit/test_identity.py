"""What makes a training run another run, and what only another life of it."""

import json

import pytest
from support import make_model, make_training_set
from test_checkpoints import make_checkpoint

from entrobench.cells import CellId, is_performance_key, resolve
from entrobench.cluster.submit import check_checkpoints
from entrobench.configs import Configs, differences
from entrobench.errors import ConfigError
from entrobench.paths import repository_root
from entrobench.provenance.manifest import engine_versions
from entrobench.runs.checkpoints import require_world_size
from entrobench.runs.identity import (
    identity_of,
    performance_of,
    read_identity,
    set_aside_other_run,
)
from entrobench.runs.run_files import Curve, Lives

CONFIGS = Configs(repository_root() / "configs")
DYNAMIC, SEQUENCES = (
    "actor_rollout_ref.actor.use_dynamic_bsz",
    "actor_rollout_ref.actor.ppo_micro_batch_size_per_gpu",
)


@pytest.fixture
def cell(tmp_path):
    make_model(tmp_path / "model")
    make_training_set(tmp_path / "train.parquet")
    cell = resolve("papo/7b-math/papo_polarity/seed0", "smoke", CONFIGS, tmp_path)
    cell["model"]["path"] = str(tmp_path / "model")
    cell["dataset"]["train_file"] = str(tmp_path / "train.parquet")
    return cell


def changed(cell, key, value):
    return cell | {"verl": cell["verl"] | {key: value}}


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("actor_rollout_ref.rollout.n", 4),
        ("actor_rollout_ref.rollout.temperature", 0.7),
        ("actor_rollout_ref.actor.optim.lr", 1e-3),
        ("actor_rollout_ref.actor.ppo_mini_batch_size", 4),
        ("actor_rollout_ref.actor.fsdp_config.mixed_precision.param_dtype", "bf16"),
        ("actor_rollout_ref.rollout.dtype", "bfloat16"),
        ("data.seed", 1),
        ("data.max_response_length", 16),
        ("algorithm.adv_estimator", "rloo"),
    ],
)
def test_mathematics_makes_another_run(cell, key, value):
    before = cell["verl"][key]
    found = differences(identity_of(cell), identity_of(changed(cell, key, value)))
    assert found == [f"verl.{key}: {before} -> {value}"]


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("actor_rollout_ref.rollout.gpu_memory_utilization", 0.5),
        ("actor_rollout_ref.rollout.tensor_model_parallel_size", 4),
        ("actor_rollout_ref.rollout.log_prob_micro_batch_size_per_gpu", 2),
        ("actor_rollout_ref.actor.fsdp_config.param_offload", True),
        ("actor_rollout_ref.actor.ppo_max_token_len_per_gpu", 99),
        (SEQUENCES, 2),
        ("trainer.logger", ["console", "tensorboard"]),
        ("trainer.total_training_steps", 99),
        ("ray_kwargs.ray_init.num_cpus", 4),
    ],
)
def test_performance_does_not(cell, key, value):
    other = changed(cell, key, value)
    assert identity_of(cell) == identity_of(other)
    assert performance_of(other)[key] == value, "it is recorded with each life"


def test_where_the_loss_selects_within_micro_batches_their_size_is_mathematics(cell):
    cell = changed(cell, "actor_rollout_ref.actor.policy_loss.loss_mode", "kl_cov")
    (found,) = differences(identity_of(cell), identity_of(changed(cell, SEQUENCES, 2)))
    assert SEQUENCES in found


def test_model_and_data_are_part_of_it(cell, tmp_path):
    before = identity_of(cell)
    for file in ("model/model.json", "train.parquet"):
        with (tmp_path / file).open("ab") as stream:
            stream.write(b" ")
    found = differences(before, identity_of(cell))
    assert [line.split(":")[0] for line in found] == ["model", "training set"]


def test_a_gpu_sets_nothing_but_performance():
    assert [key for key in CONFIGS.device("cuda").verl if not is_performance_key(key)] == []


def test_a_run_with_another_identity_is_set_aside_and_nothing_is_lost(tmp_path):
    assert set_aside_other_run(tmp_path, {"verl": {"data.seed": 0}}) is None
    make_checkpoint(tmp_path / "checkpoints")
    Curve(tmp_path).append(1, {"reward": 0.5})
    Lives(tmp_path).begin(0)
    assert set_aside_other_run(tmp_path, {"verl": {"data.seed": 0}}) is None, "the same run resumes"
    folder, reasons = set_aside_other_run(tmp_path, {"verl": {"data.seed": 1}})
    assert reasons == ["verl.data.seed: 0 -> 1"]
    assert (folder / "checkpoints" / "global_step_4").is_dir()
    assert json.loads((folder / "metrics.jsonl").read_text())["reward"] == 0.5
    assert (folder / "lives.jsonl").exists()
    assert not (tmp_path / "checkpoints" / "global_step_4").exists()
    assert Lives(tmp_path).read() == [], "the new run has no earlier life"
    assert read_identity(tmp_path) == {"verl": {"data.seed": 1}}


def test_checkpoints_of_unknown_settings_are_no_run_to_go_on_with(tmp_path):
    make_checkpoint(tmp_path / "checkpoints")
    folder, reasons = set_aside_other_run(tmp_path, {"verl": {}})
    assert reasons == ["its settings were not recorded"]
    assert (folder / "checkpoints" / "global_step_4").is_dir()


def test_checkpoints_of_another_number_of_processes_are_refused_and_stay(tmp_path):
    require_world_size(tmp_path, 1)
    make_checkpoint(tmp_path, 4, world_size=8)
    with pytest.raises(ConfigError, match="written by 8 training processes, and this run has 16"):
        require_world_size(tmp_path, 16)
    make_checkpoint(tmp_path, 8, world_size=16)
    require_world_size(tmp_path, 16)


def test_a_group_is_not_submitted_with_checkpoints_that_its_gpus_cannot_read(tmp_path):
    cell = CellId("papo", "7b-math", "dapo", 0)
    check_checkpoints([cell], "paper", CONFIGS, tmp_path)
    make_checkpoint(tmp_path / "paper" / str(cell) / "checkpoints", 4, world_size=8)
    with pytest.raises(ConfigError, match="written by 8 training processes, and this run has 16"):
        check_checkpoints([cell], "paper", CONFIGS, tmp_path)


def test_versions_of_the_engines():
    versions = engine_versions()
    assert {"verl", "torch", "transformers", "ray"} <= set(versions)
    assert versions["vllm"], "its build for CPUs counts"
