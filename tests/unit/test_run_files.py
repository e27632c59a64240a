"""Files of a training run: what a kill, a full disk or a curious user may leave behind."""

import json

import pytest

from entrobench.runs.run_files import Curve, Lives, Progress, StopRequest


def test_curve_forgets_the_steps_that_a_resumed_run_makes_again(tmp_path):
    curve = Curve(tmp_path)
    for step in range(1, 6):
        curve.append(step, {"reward": step / 10, "text": "ignored"})
    with curve.jsonl.open("a") as stream:
        stream.write('{"step": 6, "rew')  # cut by a kill
    assert curve.last_step() == 5
    assert curve.truncate_after(3) == 3
    curve.append(4, {"reward": 0.9})
    frame = curve.to_parquet()
    assert frame["step"].tolist() == [1, 2, 3, 4]
    assert frame["reward"].tolist() == [0.1, 0.2, 0.3, 0.9]


def test_a_kill_between_a_checkpoint_and_its_row_loses_no_step(tmp_path):
    curve = Curve(tmp_path)
    curve.append(1, {"reward": 0.1, "timing_s/step": 3.0})
    curve.keep_ahead(2, {"reward": 0.2})
    assert curve.truncate_after(2) == 2
    assert [row["reward"] for row in curve.rows()] == [0.1, 0.2]
    curve.append(3, {"reward": 0.3})
    assert curve.truncate_after(2) == 2
    assert [row["step"] for row in curve.rows()] == [1, 2], "once"
    curve.append(3, {"reward": 0.3})
    curve.keep_ahead(4, {"reward": 0.4})
    assert curve.truncate_after(3) == 3, "of a step whose checkpoint was not finished"
    assert curve.truncate_after(4) == 4
    assert curve.to_parquet()["step"].tolist() == [1, 2, 3, 4]


def test_stop_request_is_asked_answered_and_forgotten(tmp_path):
    guard, trainer = StopRequest(tmp_path), StopRequest(tmp_path)
    assert not trainer.is_asked()
    guard.ask("SIGUSR1")
    assert trainer.is_asked()
    assert guard.answered() is None
    trainer.answer(5, 32)
    assert guard.answered() == (5, 32)
    guard.clear()
    assert not trainer.is_asked()
    guard.clear()


def live(folder, from_step, to_step, reason):
    """One life of a run that makes steps after `from_step` up to `to_step`."""
    lives, curve = Lives(folder), Curve(folder)
    lives.begin(from_step)
    curve.truncate_after(from_step)
    for step in range(from_step + 1, to_step + 1):
        curve.append(step, {"reward": 0.0})
    lives.end(reason)
    return lives


def test_lives_say_what_each_made_and_what_was_lost(tmp_path):
    live(tmp_path, 0, 11, "stopped by SIGUSR1")
    lives = live(tmp_path, 8, 20, "finished")
    lives.end("interrupted")  # nothing is open any more
    first, second = lives.read()
    assert (first["from_step"], first["to_step"], first["exit"]) == (0, 11, "stopped by SIGUSR1")
    assert (second["from_step"], second["to_step"], second["exit"]) == (8, 20, "finished")
    assert first["start"] <= first["stop"] <= second["start"]
    assert "host" not in first


def test_a_life_that_nobody_closed_was_killed_at_its_last_sign(tmp_path):
    progress, lives = Progress(tmp_path), Lives(tmp_path)
    lives.begin(0)
    progress.beat("generate", 3)
    content = json.loads(progress.path.read_text())
    progress.path.write_text(json.dumps(content | {"time": 0.0}))
    Curve(tmp_path).append(1, {"reward": 0.0})
    lives.end_killed()
    (life,) = lives.read()
    assert (life["exit"], life["to_step"], life["stop"]) == ("killed", 1, "1970-01-01T00:00:00+00:00")


def test_a_life_without_a_finished_step_ends_where_it_began(tmp_path):
    live(tmp_path, 0, 11, "killed")
    lives = live(tmp_path, 8, 8, "stopped by SIGTERM")
    assert lives.read()[1]["to_step"] == 8


def test_job_and_host_are_recorded_where_they_are_known_and_wanted(tmp_path, monkeypatch):
    monkeypatch.setenv("SLURM_JOB_ID", "4711")
    monkeypatch.setenv("ENTROBENCH_RECORD_HOSTS", "1")
    Lives(tmp_path).begin(0)
    (life,) = Lives(tmp_path).read()
    assert life["job"] == "4711"
    assert life["host"]


@pytest.mark.parametrize(
    ("endings", "fruitless"),
    [
        ([], 0),
        ([(0, "stopped by SIGTERM"), (0, "stopped by SIGUSR1")], 2),
        ([(0, "stopped by SIGTERM"), (8, "stopped by SIGTERM")], 1),
        ([(8, "stopped by SIGTERM"), (8, "killed"), (8, "stopped by SIGTERM")], 1),
        ([(8, "stopped by SIGTERM"), (8, "finished")], 0),
    ],
)
def test_fruitless_lives_are_the_last_ones_that_began_from_the_same_step(tmp_path, endings, fruitless):
    for from_step, reason in endings:
        live(tmp_path, from_step, from_step + 1, reason)
    assert Lives(tmp_path).fruitless() == fruitless
