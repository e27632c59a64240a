"""A cell whose tasks are done over several turns, on the real trainer and the real vLLM, from the base model
of the reference run.
"""

import random

import pandas as pd
import pytest
from test_real_training import RUN_MARK, run_processes

from entrobench.cells import resolve, write_cell
from entrobench.configs import Configs
from entrobench.data.smoke_shell import ENVIRONMENT, write_shell_task
from entrobench.files import read_jsonl
from entrobench.models.tiny_agent import NAME
from entrobench.paths import repository_root
from entrobench.reference.bundle import default_folder
from entrobench.training.launch import launch

STEPS = 2
OVERRIDES = {
    "trainer.total_training_steps": STEPS,
    "data.train_batch_size": 4,
    "actor_rollout_ref.actor.ppo_mini_batch_size": 4,
}


def test_a_cell_trains_over_several_turns(tmp_path, monkeypatch):
    monkeypatch.setenv(RUN_MARK, str(tmp_path))
    results = tmp_path / "results"
    write_shell_task(results / "smoke")
    name = "repo/appworld-8b/loop/seed0"
    cell = resolve(name, "smoke", Configs(repository_root() / "configs"), results)
    cell["model"]["path"] = str(default_folder() / "models" / NAME)
    cell["verl"] |= OVERRIDES
    cell["recording"] = {"every": 1, "sequences": 6}
    folder = results / "smoke" / name
    write_cell(cell, folder / "cell.yaml", repository_root())
    launch(folder)
    rows = read_jsonl(folder / "metrics.jsonl")
    assert len(rows) == STEPS
    for row in rows:
        endings = [row[f"environment/{name}"] for name in ("completed", "turns", "cut", "context", "failed")]
        assert sum(endings) == pytest.approx(1)
        assert row["environment/failed"] == 0
        assert 0 <= row["environment/left_out"] <= 0.1
        assert row["environment/turn_count"] > 1.5, "most go on after the first turn"
        # vLLM's log-probability of each generated token is the trainer's, whatever stands between turns
        assert row["mismatch/max_ratio"] < 1.001
        assert row["training/num_turns/max"] <= 2 * cell["environment"]["turns"] + 1
        assert 0 <= row["reward"] < 1
    assert sum(row["reward"] for row in rows) > 0, "shares of goals"
    tokens = pd.read_parquet(folder / "token_stats.parquet")
    for _, of_step in tokens.groupby("step"):
        for _, response in of_step.groupby("sequence"):
            assert response["position"].tolist() == list(range(len(response)))
            text = "".join(response["text"])
            assert "<|im_start|>" not in text, "a message of the environment begins with it"
    written = tokens.groupby(["step", "sequence"])["text"].agg("".join)
    assert written.str.count("<|im_end|>").max() > 1, "several turns in one response"
    assert any("find(" in text for text in random.Random(0).sample(list(written), 4))
    assert run_processes(tmp_path) == []
    assert ENVIRONMENT in (folder / "train.log").read_text()
