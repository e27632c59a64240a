"""A cell as a chain of jobs, with the real trainer: stop on a signal, resume, retention."""

import json
import signal

import pandas as pd
from test_real_training import controller_after, finish, make_run, run_processes, start, wait_for_steps

from entrobench.cost.arithmetic import Architecture, checkpoint_bytes
from entrobench.files import read_json
from entrobench.runs.checkpoints import check_checkpoint, checkpoint_folders
from entrobench.training.disk import folder_shapes, parameter_count


def test_a_signalled_run_stops_with_a_checkpoint_and_the_next_job_finishes_it(tmp_path):
    run_dir = make_run(tmp_path, {"trainer.total_training_steps": 8, "trainer.save_freq": 6})
    first = start(run_dir)
    wait_for_steps(first, run_dir, 1)
    metrics = run_dir / "metrics.jsonl"
    first.send_signal(signal.SIGUSR1)
    output = finish(first, 120)
    assert first.returncode == 75, output
    rows = [json.loads(line) for line in metrics.read_text().splitlines()]
    step = len(rows)
    assert 1 < step < 6, "in the middle of an interval"
    assert f"stopped by SIGUSR1 after step {step} of 8, with a checkpoint" in output
    assert not (run_dir / "train.done.json").exists()
    assert run_processes(run_dir) == []
    checkpoints = run_dir / "checkpoints"
    assert list(checkpoint_folders(checkpoints)) == [step]
    check_checkpoint(checkpoints / f"global_step_{step}", world_size=1, needs_controller=True)

    # The disk estimate against this real checkpoint: 16 bytes a weight, and what does not grow with the model
    found = sum(
        path.stat().st_size for path in (checkpoints / f"global_step_{step}").rglob("*") if path.is_file()
    )
    parameters = parameter_count(folder_shapes(tmp_path / "model"))
    model = Architecture.of(read_json(tmp_path / "model" / "config.json"), "the test's model")
    assert model.parameters == parameters, "as the estimate before the launch counts them"
    expected = checkpoint_bytes(parameters)
    assert expected <= found <= expected + 200_000

    second = start(run_dir)
    output = finish(second, 400)
    assert second.returncode == 0, output
    curve = pd.read_parquet(run_dir / "metrics.parquet")
    assert curve["step"].tolist() == list(range(1, 9)), "every step exactly once"
    assert curve["entropy"].tolist()[:step] == [row["entropy"] for row in rows]
    final = json.loads((checkpoints / "global_step_8" / "controller.json").read_text())
    assert final == controller_after(curve["entropy"].tolist()), "as if never interrupted, bit for bit"
    assert list(checkpoint_folders(checkpoints)) == [6, 8], "two are kept, whichever life made the others"

    lives = [json.loads(line) for line in (run_dir / "lives.jsonl").read_text().splitlines()]
    told = [(life["from_step"], life["to_step"], life["exit"]) for life in lives]
    assert told == [(0, step, "stopped by SIGUSR1"), (step, 8, "finished")], "nothing was made twice"
    assert json.loads((run_dir / "train.done.json").read_text())["lives"] == lives
