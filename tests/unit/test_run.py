"""What a training process checks and says before anything heavy starts."""

import pytest
from support import make_model, make_training_set
from test_checkpoints import MODEL, cut, make_checkpoint

from entrobench.cells import resolve
from entrobench.configs import Configs
from entrobench.data.schema import read_verl_parquet, verl_row, write_verl_parquet
from entrobench.errors import ConfigError, CorruptFile, NotEnoughSpace
from entrobench.paths import repository_root
from entrobench.training import disk
from entrobench.training.run import check_environment, check_inputs, environment_of

pytestmark = pytest.mark.slow


@pytest.fixture
def prepared(tmp_path):
    """A cell with its model and data, and its run's folder with checkpoints of steps 4 and 8."""
    make_model(tmp_path / "model")
    make_training_set(tmp_path / "train.parquet")
    configs = Configs(repository_root() / "configs")
    cell = resolve("papo/7b-math/papo_polarity/seed0", "smoke", configs, tmp_path)
    cell["model"]["path"] = str(tmp_path / "model")
    cell["dataset"]["train_file"] = str(tmp_path / "train.parquet")
    run_dir = tmp_path / "run"
    assert check_inputs(cell, run_dir) is None
    for step in (4, 8):
        make_checkpoint(run_dir / "checkpoints", step)
    return cell, run_dir


def test_a_fall_back_is_said_and_the_earlier_checkpoint_taken(prepared, capsys):
    cell, run_dir = prepared
    assert check_inputs(cell, run_dir).name == "global_step_8"
    assert capsys.readouterr().out == ""
    cut(run_dir / "checkpoints" / "global_step_8" / MODEL)
    assert check_inputs(cell, run_dir).name == "global_step_4"
    said = capsys.readouterr().out.splitlines()
    assert all(line.startswith("entrobench: ") for line in said), "the guard passes these on"
    assert f"global_step_8: {MODEL} (40 bytes) is damaged or cut short; moved to damaged_" in said[0]
    assert said[1] == "entrobench: resuming from global_step_4, the newest checkpoint that is whole"


def test_no_usable_checkpoint_is_an_error_not_a_start_from_step_0(prepared):
    cell, run_dir = prepared
    for step in (4, 8):
        cut(run_dir / "checkpoints" / f"global_step_{step}" / MODEL)
    with pytest.raises(CorruptFile, match="no usable checkpoint is left"):
        check_inputs(cell, run_dir)


def test_a_full_disk_is_found_before_the_start(prepared, monkeypatch):
    cell, run_dir = prepared
    usage = disk.shutil.disk_usage(run_dir)
    monkeypatch.setattr(disk.shutil, "disk_usage", lambda path: usage._replace(free=10_000))
    with pytest.raises(NotEnoughSpace, match=r"found 0.0 MB"):
        check_inputs(cell, run_dir)


def test_environments_are_shared_among_verls_workers(monkeypatch):
    cell = {
        "environment": {"name": "smoke_shell", "turns": 6},
        "verl": {
            "trainer.nnodes": 1,
            "data.train_batch_size": 64,
            "actor_rollout_ref.rollout.n": 6,
        },
    }
    assert environment_of({"verl": {}}) is None
    assert environment_of(cell)["processes"] == 64 * 6 // 8, "one for each rollout, over eight workers"
    monkeypatch.setenv("ENTROBENCH_ENVIRONMENTS", "128")
    assert environment_of(cell)["processes"] == 16
    cell["verl"]["trainer.nnodes"] = 2
    assert environment_of(cell)["processes"] == 32
    monkeypatch.setenv("ENTROBENCH_ENVIRONMENTS", "many")
    with pytest.raises(ConfigError, match="expected a number of episodes, found 'many'"):
        environment_of(cell)


def test_a_run_whose_rows_name_no_task_does_not_start(tmp_path):
    rows = [verl_row("smoke_shell", [{"role": "user", "content": "Do."}], "all", "train", 0)]
    write_verl_parquet(tmp_path / "train.parquet", rows)
    with pytest.raises(CorruptFile, match=r"names no task of smoke_shell in row 0: extra_info\.task is None"):
        check_environment("smoke_shell", read_verl_parquet(tmp_path / "train.parquet"))
