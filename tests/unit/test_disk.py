"""Disk that a run takes, from shapes alone; a real checkpoint is in integration/test_real_training.py."""

import json
from types import SimpleNamespace

import pytest
from support import make_model

from entrobench.cells import listed_cells, resolve
from entrobench.configs import Configs
from entrobench.cost.arithmetic import Architecture, checkpoint_bytes, export_bytes
from entrobench.errors import NotEnoughSpace
from entrobench.paths import repository_root
from entrobench.training import disk
from entrobench.training.disk import (
    adapter_count,
    disk_need,
    folder_shapes,
    parameter_count,
    require_space,
)

CONFIGS = Configs(repository_root() / "configs")


@pytest.mark.parametrize(
    ("model", "parameters"),
    # As the model cards and the hub's safetensors indexes state them
    [("qwen2_5_7b", 7_615_616_512), ("qwen2_5_14b", 14_770_033_664), ("qwen3_32b", 32_762_123_264)],
)
def test_parameters_of_published_models(model, parameters):
    assert Architecture.of(CONFIGS.model(model).architecture, model).parameters == parameters


def test_folder_and_architecture_agree(tmp_path):
    make_model(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    shapes = folder_shapes(tmp_path)
    assert shapes["model.layers.1.mlp.down_proj.weight"] == (64, 128)
    assert parameter_count(shapes) == Architecture.of(config, "").parameters


def test_checkpoint_bytes():
    # 4 bytes of weights, 2 x 4 of Adam's moments; 4 of the model for evaluation
    assert (checkpoint_bytes(1000), export_bytes(1000)) == (12_000, 4_000)
    assert checkpoint_bytes(1000, precision_bytes=2) == 6_000
    # adapter and its moments (3 x 4 x 10); weights and adapter (4 x 1010)
    assert (checkpoint_bytes(1000, adapter=10), export_bytes(1000, adapter=10)) == (120, 4_040)


def test_an_adapter_stands_on_every_linear_layer_but_the_head():
    shapes = {
        "model.embed_tokens.weight": (100, 8),
        "model.layers.0.self_attn.q_proj.weight": (16, 8),
        "model.layers.0.self_attn.q_proj.bias": (16,),
        "model.layers.0.mlp.up_proj.weight": (32, 8),
        "model.norm.weight": (8,),
        "lm_head.weight": (100, 8),
    }
    assert adapter_count(shapes, 2) == 2 * (16 + 8) + 2 * (32 + 8)
    assert adapter_count(shapes, 2, ["q_proj"]) == 2 * (16 + 8)
    assert adapter_count(shapes, 0) == 0


def small_cell(**changes):
    verl = {
        "trainer.total_training_steps": 32,
        "trainer.save_freq": 8,
        "trainer.max_actor_ckpt_to_keep": 2,
        "data.max_response_length": 32,
    }
    return {
        "verl": verl | changes,
        "evaluation": {"easy": {"file": "not there", "n_samples": 8, "max_tokens": 50}},
        "recording": {"every": 8, "sequences": 8},
    }


SHAPES = {"model.embed_tokens.weight": (10, 10)}  # 100 weights: 1,200 bytes a checkpoint, 400 a model


def test_need_of_a_cell(tmp_path):
    need = disk_need(small_cell(), SHAPES)
    assert need.checkpoint == 1200
    assert need.peak == 3 * 1200 + 400, "the two kept and the one being written, and the last one's model"
    # 1,000 problems x 8 samples x 50 tokens x 6 bytes; 5 records x 8 sequences x 32 tokens x 100 bytes, twice
    assert need.rest == 2_400_000 + 256_000
    assert need.total == need.peak + need.rest
    cell = small_cell()
    cell["evaluation"]["easy"]["file"] = str(tmp_path / "easy.jsonl")
    (tmp_path / "easy.jsonl").write_text("{}\n" * 10)
    assert disk_need(cell, SHAPES).rest == 24_000 + 256_000


def test_need_follows_what_is_kept():
    assert disk_need(small_cell(**{"trainer.max_actor_ckpt_to_keep": None}), SHAPES).peak == 4 * 1200 + 400
    assert disk_need(small_cell(**{"trainer.save_freq": 32}), SHAPES).peak == 3 * 1200 + 400, "two by time"
    assert disk_need(small_cell(**{"trainer.total_training_steps": 1}), SHAPES).peak == 1200 + 400
    assert disk_need(small_cell() | {"milestones": [5]}, SHAPES).peak == 4 * 1200 + 2 * 400


def test_every_cell_that_trains_has_a_need():
    shapes = {"layers.0.q_proj.weight": (10, 10)}
    for scale in CONFIGS.names("scales"):
        for paper in CONFIGS.papers():
            for name in listed_cells(paper, CONFIGS):
                cell = resolve(str(name), scale, CONFIGS, repository_root() / "results")
                if cell["trains"]:
                    assert disk_need(cell, shapes).peak >= 1600


@pytest.fixture
def nearly_full(monkeypatch, tmp_path):
    """A cell with its model, and a function that sets the free bytes of its file system."""
    make_model(tmp_path / "model")
    cell = small_cell() | {"model": {"path": str(tmp_path / "model")}}

    def free(amount):
        monkeypatch.setattr(disk.shutil, "disk_usage", lambda path: SimpleNamespace(free=amount))
        return cell

    return free


def test_a_run_that_would_not_fit_does_not_start(nearly_full, tmp_path, monkeypatch):
    need = disk_need(nearly_full(0), folder_shapes(tmp_path / "model"))
    require_space(nearly_full(need.total), tmp_path)
    with pytest.raises(
        NotEnoughSpace, match=r"expected [0-9.]+ MB free, found [0-9.]+ MB(.|\n)*ENTROBENCH_IGNORE_DISK=1"
    ):
        require_space(nearly_full(need.total - 1), tmp_path)
    monkeypatch.setenv("ENTROBENCH_IGNORE_DISK", "1")
    require_space(nearly_full(0), tmp_path)


def test_what_an_earlier_life_has_written_counts(nearly_full, tmp_path):
    need = disk_need(nearly_full(0), folder_shapes(tmp_path / "model"))
    checkpoint = tmp_path / "checkpoints" / "global_step_8"
    checkpoint.mkdir(parents=True)
    (checkpoint / "weights").write_bytes(b"x" * 1000)
    require_space(nearly_full(need.total - 1000), tmp_path)
    with pytest.raises(NotEnoughSpace):
        require_space(nearly_full(need.total - 1001), tmp_path)
