"""A cell of a session against the same cell alone, on the real trainer: the same bits."""

import json
import os

from safetensors.torch import load_file
from support import make_model, make_training_set
from test_real_training import RUN_MARK, TESTS, run_processes

from entrobench.cells import write_cell
from entrobench.configs import Configs
from entrobench.files import read_json, read_jsonl
from entrobench.paths import repository_root
from entrobench.runs.run_files import Lives
from entrobench.training.launch import launch, launch_sessions
from entrobench.training.methods_smoke import short_cell

STEPS = 3
OVERRIDES = {
    "data.max_response_length": 6,
    "data.train_batch_size": 4,
    "actor_rollout_ref.rollout.n": 2,
    "actor_rollout_ref.actor.ppo_mini_batch_size": 2,
    "actor_rollout_ref.actor.optim.lr": 1e-3,
    "actor_rollout_ref.actor.optim.lr_warmup_steps": 2,
    "reward.custom_reward_function.path": str(TESTS / "digit_reward.py"),
    # A response depends on seed, weights and prompt alone. Groups are tied, so the entropy bonus alone learns
    "actor_rollout_ref.rollout.full_determinism": True,
    "actor_rollout_ref.actor.entropy_coeff": 0.1,
}
# What says how long something took, or how much of a machine it used
NOT_OF_THE_RUN = ("timing", "perf/", "actor/perf/", "record/")


def write_cells(folder, names):
    """Cells of one method with a seed each; `broken` names a training set that its process cannot read."""
    folders = []
    for seed, name in enumerate(names):
        configs = Configs(repository_root() / "configs")
        cell = short_cell("opefo_ent_reg", "opefo/math-7b", STEPS, configs, folder)
        cell["model"]["path"] = str(folder / "model")
        cell["dataset"]["train_file"] = str(folder / "train.parquet")
        cell["verl"] |= OVERRIDES | {"data.seed": seed, "actor_rollout_ref.rollout.seed": seed}
        cell["recording"] = {"every": 1, "sequences": 4}
        write_cell(cell | {"cell": name, "seed": seed}, folder / name / "cell.yaml", repository_root())
        folders.append(folder / name)
    return folders


def curve(folder):
    return [
        {key: value for key, value in row.items() if not key.startswith(NOT_OF_THE_RUN)}
        for row in read_jsonl(folder / "metrics.jsonl")
    ]


def test_a_cell_of_a_session_is_bit_for_bit_the_cell_alone(tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(TESTS), os.environ.get("PYTHONPATH", "")]))
    monkeypatch.setenv(RUN_MARK, str(tmp_path))
    monkeypatch.setenv("ENTROBENCH_BACKEND", "transformers")
    make_model(tmp_path / "model")
    make_training_set(tmp_path / "train.parquet")
    first, second = write_cells(tmp_path, ["first", "second"])
    launch_sessions([first, second], tmp_path / "sessions")
    in_session = curve(second)
    weights = load_file(second / "model" / "model.safetensors")
    assert [row["step"] for row in in_session] == [1, 2, 3]
    assert curve(first) != in_session, "another seed"
    for run in (first, second):
        assert [life["exit"] for life in Lives(run).read()] == ["finished"]
        assert read_json(run / "train.done.json")["steps"] == STEPS
        assert (run / "train.log").read_text(), "the session's"
    second.rename(tmp_path / "second in the session")
    (alone,) = write_cells(tmp_path, ["first", "second"])[1:]
    launch(alone)
    assert json.dumps(curve(alone)) == json.dumps(in_session)
    for name, tensor in load_file(alone / "model" / "model.safetensors").items():
        assert (tensor == weights[name]).all(), name
    launch_sessions([first, alone], tmp_path / "sessions")  # what is trained is kept
    assert len(list((tmp_path / "sessions").iterdir())) == 1
    assert run_processes(tmp_path) == []
