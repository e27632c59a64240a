"""Real training runs on CPU: real verl, real vLLM, a random model. Each run costs one to two minutes."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

import pandas as pd
import psutil
import pytest
import torch
import yaml
from support import make_model, make_training_set
from torchdata.stateful_dataloader.sampler import RandomSampler

from entrobench.algorithms.papo_polarity import PapoPolarity
from entrobench.cells import read_cell, resolve
from entrobench.configs import Configs
from entrobench.cost.arithmetic import Architecture, checkpoint_bytes
from entrobench.files import read_json, read_jsonl
from entrobench.paths import repository_root
from entrobench.runs.checkpoints import check_checkpoint, checkpoint_folders
from entrobench.training.disk import folder_shapes, parameter_count
from entrobench.training.launch import RAY_CAME_TOO_LATE

CELL = "papo/7b-math/papo_polarity/seed0"
TESTS = Path(__file__).parents[1]
# A variable of all processes of a run: other tests have runs of their own at the same time
RUN_MARK = "ENTROBENCH_TEST_RUN"
SMALL = {
    "trainer.total_training_steps": 6,
    "trainer.save_freq": 2,
    "data.max_response_length": 12,
    "actor_rollout_ref.rollout.n": 4,
    # 6 prompts x 4 = 24 rows; mini-batches of 4 x 4 = 16 rows: verl pads the batch to 32 rows
    "data.train_batch_size": 6,
    "actor_rollout_ref.actor.ppo_mini_batch_size": 4,
    # micro-batches by token count, so that their size varies
    "actor_rollout_ref.actor.use_dynamic_bsz": True,
    "actor_rollout_ref.actor.ppo_max_token_len_per_gpu": 128,
    "reward.custom_reward_function.path": str(TESTS / "digit_reward.py"),
}


def make_run(folder: Path, verl: dict) -> Path:
    """Write model, data and cell.yaml of a small PAPO run with a warm-up of two steps; return the cell's
    folder.
    """
    make_model(folder / "model")
    make_training_set(folder / "train.parquet")
    cell = resolve(CELL, "smoke", Configs(repository_root() / "configs"), folder / "results")
    cell["model"]["path"] = str(folder / "model")
    cell["dataset"]["train_file"] = str(folder / "train.parquet")
    cell["verl"] |= SMALL | verl
    cell["shaper"]["settings"] |= {"warmup_steps": 2, "gate_ratio": 0.0}
    run_dir = folder / "results" / "smoke" / CELL
    run_dir.mkdir(parents=True)
    (run_dir / "cell.yaml").write_text(yaml.safe_dump(cell))
    return run_dir


def start(run_dir: Path) -> subprocess.Popen:
    results = run_dir.parents[4]
    return subprocess.Popen(
        [sys.executable, "-m", "entrobench.cli", "train", CELL, "--results", str(results)],
        env=os.environ
        | {"PYTHONPATH": str(TESTS) + ":" + os.environ.get("PYTHONPATH", ""), RUN_MARK: str(run_dir)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def wait_for_steps(process: subprocess.Popen, run_dir: Path, number: int) -> None:
    """Until the run has noted that many steps; it has to go on until then."""
    metrics = run_dir / "metrics.jsonl"
    deadline = time.time() + 400
    while not (metrics.exists() and metrics.read_text().count("\n") >= number):
        assert process.poll() is None, process.communicate()[0]
        assert time.time() < deadline, f"not {number} steps within 400 s"
        time.sleep(0.1)


def wait_for_life(process: subprocess.Popen, run_dir: Path, from_step: int) -> None:
    """Until a life of the run has begun at that step; steps that the one before lost are gone then."""
    deadline = time.time() + 100
    while read_jsonl(run_dir / "lives.jsonl")[-1]["from_step"] != from_step:
        assert process.poll() is None, process.communicate()[0]
        assert time.time() < deadline, f"no life from step {from_step} within 100 s"
        time.sleep(0.1)


def finish(process: subprocess.Popen, seconds: float) -> str:
    """Output of the process, which has to end by itself within `seconds`."""
    try:
        return process.communicate(timeout=seconds)[0]
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGINT)
        output = process.communicate(timeout=60)[0]
        pytest.fail(f"did not end within {seconds} s:\n{output}")


def run_processes(run_dir: Path) -> list[str]:
    """Command lines of live processes that still have something to do with this run, and no other."""
    found = []
    for process in psutil.process_iter():
        try:
            environment = process.environ()
        except psutil.Error:
            continue
        if "ENTROBENCH_RAY_DIR" in environment and environment.get(RUN_MARK) == str(run_dir):
            found.append(" ".join(process.cmdline())[:80])
    return found


def shared_memory_of(processes: Iterable[psutil.Process]) -> dict[int, Path]:
    """What they map in /dev/shm: inode -> path."""
    found = {}
    for process in processes:
        with suppress(OSError):
            for line in Path(f"/proc/{process.pid}/maps").read_text().splitlines():
                if " /dev/shm/" in line:
                    _, _, _, _, inode, path = line.split(maxsplit=5)
                    found[int(inode)] = Path(path)
    return found


def test_a_run_that_is_killed_and_then_stopped_ends_as_an_uninterrupted_one(tmp_path):
    """Three lives: killed after a checkpoint, stopped by a signal in the middle of an interval, finished."""
    settings = {"trainer.total_training_steps": 12, "trainer.save_freq": 4}
    run_dir = make_run(tmp_path, settings | {"trainer.rollout_data_dir": str(tmp_path / "rollouts")})
    make_training_set(tmp_path / "train.parquet", rows=64)  # less than what the steps generate
    checkpoints = run_dir / "checkpoints"
    first = start(run_dir)
    wait_for_steps(first, run_dir, 5)
    assert len(run_processes(run_dir)) > 8, "they are found as long as they live"
    victims = [*psutil.Process(first.pid).children(recursive=True), psutil.Process(first.pid)]
    shared_memory = shared_memory_of(victims)
    for process in victims:
        with suppress(psutil.NoSuchProcess):  # Ray's processes end by themselves when one of theirs is gone
            process.kill()
    first.wait()
    for path in shared_memory.values():  # killed processes leave it, and other tests look for what is left
        path.unlink(missing_ok=True)
    assert int((checkpoints / "latest_checkpointed_iteration.txt").read_text()) == 4
    saved = json.loads((checkpoints / "global_step_4" / "controller.json").read_text())
    entropies = [row["entropy"] for row in read_jsonl(run_dir / "metrics.jsonl")[:4]]
    assert saved == controller_after(entropies), "the checkpoint holds the state of step 1 to its own step"

    second = start(run_dir)
    wait_for_life(second, run_dir, from_step=4)
    wait_for_steps(second, run_dir, 5)
    second.send_signal(signal.SIGUSR1)
    output = finish(second, 120)
    assert second.returncode == 75, output
    rows = read_jsonl(run_dir / "metrics.jsonl")
    step = len(rows)
    assert 5 <= step < 8, "in the middle of an interval"
    assert f"stopped by SIGUSR1 after step {step} of 12, with a checkpoint" in output
    assert not (run_dir / "train.done.json").exists()
    assert run_processes(run_dir) == []
    assert list(checkpoint_folders(checkpoints)) == [4, step]
    check_checkpoint(checkpoints / f"global_step_{step}", world_size=1, needs_controller=True)
    assert_disk_estimate(tmp_path / "model", checkpoints / f"global_step_{step}")

    output = finish(start(run_dir), 400)
    done = read_json(run_dir / "train.done.json")
    assert done["resumed_from"] == f"global_step_{step}", output
    curve = pd.read_parquet(run_dir / "metrics.parquet")
    assert curve["step"].tolist() == list(range(1, 13)), "every step once, none lost, none twice"
    assert curve["entropy"].tolist()[:4] == entropies, "steps before a checkpoint are kept as they were"
    assert curve["entropy"].tolist()[:step] == [row["entropy"] for row in rows]
    final = json.loads((checkpoints / "global_step_12" / "controller.json").read_text())
    assert final == controller_after(curve["entropy"].tolist()), "as if never interrupted, bit for bit"
    assert final["step"] == 12
    assert list(checkpoint_folders(checkpoints)) == [8, 12], "two are kept, whichever life made the others"
    # Where others use the cores, Ray may need a second start
    lives = [life for life in done["lives"] if RAY_CAME_TOO_LATE not in life["exit"]]
    assert [life["exit"] for life in lives] == ["killed", "stopped by SIGUSR1", "finished"]
    assert [life["from_step"] for life in lives] == [0, 4, step]
    assert 4 <= lives[0]["to_step"] < 8, "at most one checkpoint interval is lost"
    assert [life["to_step"] for life in lives[1:]] == [step, 12]
    assert read_jsonl(run_dir / "lives.jsonl") == done["lives"]

    assert_prompts_in_data_order(tmp_path, curve, read_cell(run_dir / "cell.yaml")["verl"]["data.seed"])

    assert not [name for name in curve if name.startswith("rollout_corr/")], "diluted by padding rows"

    # Token statistics under dynamic batching and padding rows: each stands at its token's place among verl's
    # log-probs
    assert (curve["token_stats/padding_rows"] == 8).all()
    assert (curve["token_stats/log_prob_mismatch_max"] < 1e-4).all()
    assert (curve["training/rollout_probs_diff_max"] < 1e-3).all(), (
        "vLLM and the trainer agree on probabilities"
    )
    assert curve["omega_neg"].tolist()[:2] == [1.0, 1.0]
    assert (run_dir / "model" / "model.safetensors").exists()
    assert run_processes(run_dir) == []


def assert_disk_estimate(model_folder: Path, checkpoint: Path) -> None:
    """The estimate against a real checkpoint: 16 bytes a weight, and what does not grow with the model."""
    found = sum(path.stat().st_size for path in checkpoint.rglob("*") if path.is_file())
    parameters = parameter_count(folder_shapes(model_folder))
    model = Architecture.of(read_json(model_folder / "config.json"), "the test's model")
    assert model.parameters == parameters, "as the estimate before the launch counts them"
    expected = checkpoint_bytes(parameters)
    assert expected <= found <= expected + 200_000


def assert_prompts_in_data_order(folder: Path, curve: pd.DataFrame, seed: int) -> None:
    """Each step trained on prompts of its own stretch of the data, in the order that the seed alone gives."""
    data = pd.read_parquet(folder / "train.parquet")["prompt"]
    sampler = RandomSampler(range(len(data)), generator=torch.Generator().manual_seed(seed))
    rows = [row for _ in range(12) for row in sampler]
    fetched = 0
    for step, generated, passes, kept in zip(
        curve["step"],
        curve["sampling/prompts_generated"].astype(int),
        curve["sampling/passes"],
        curve["sampling/kept_share"],
        strict=True,
    ):
        for _ in range(generated // 12):
            fetched += 12 + (4 if fetched % 64 == 60 else 0)  # 60 of 64 are whole generation batches
        assert passes * 64 == fetched, f"step {step}: counted on from the life before"
        assert kept * generated == pytest.approx(6)
        lines = [
            json.loads(line) for line in (folder / "rollouts" / f"{step}.jsonl").read_text().splitlines()
        ]
        real = [line for line in lines if not line["uid"].startswith("pad")]
        places = sorted({int(line["uid"].split("_")[0]) for line in real})
        assert len(places) == 6
        assert fetched - generated <= places[0]
        assert places[-1] < fetched
        for line in real:
            asked = data[rows[int(line["uid"].split("_")[0])]][0]["content"]
            assert f"\n{asked}" in line["input"], f"step {step}, {line['uid']}"


def controller_after(entropies: list[float]) -> dict:
    """State of a controller that saw these entropies one after the other in one life."""
    shaper = PapoPolarity(warmup_steps=2, gate_ratio=0.0)
    for entropy in entropies:
        shaper.controller.update(entropy)
    return json.loads(json.dumps(shaper.state_dict()))
