"""What a user sees while it runs: Snakemake's steps as lines, a run's curve."""

import logging
import os
import subprocess
import sys
from types import SimpleNamespace

import pytest
from snakemake_interface_logger_plugins.common import LogEvent
from test_report import CONFIGS

from entrobench.cells import resolve, write_cell
from entrobench.errors import MissingInput
from entrobench.files import write_json, write_jsonl
from entrobench.paths import repository_root
from entrobench.runs.watch import is_finished, sparkline, view
from snakemake_logger_plugin_entrobench import DESCRIPTOR, LogHandler, LogHandlerSettings

SNAKEFILE = """
rule all:
    input: "a.txt", "b.txt"
rule one:
    output: "a.txt"
    message: "Making the first"
    shell: "echo chatter; touch {output}"
rule two:
    output: "b.txt"
    log: "two.log"
    message: "Making the second"
    shell: "test -e allowed && touch {output}"
"""


def snakemake(folder, *options, apart=True):
    """(status, lines of progress, everything else)"""
    read, write = os.pipe()
    command = [sys.executable, "-m", "snakemake", "--cores", "1", "--logger", "entrobench", *options]
    environment = os.environ | ({DESCRIPTOR: str(write)} if apart else {})
    done = subprocess.run(
        command, cwd=folder, env=environment, pass_fds=[write], capture_output=True, text=True
    )
    os.close(write)
    with os.fdopen(read) as stream:
        return done.returncode, stream.read(), done.stdout + done.stderr


@pytest.mark.slow
def test_a_step_is_a_line_and_a_failure_names_its_log(tmp_path):
    (tmp_path / "Snakefile").write_text(SNAKEFILE)
    (tmp_path / "expected.yaml").write_text("expected_seconds: {one: 40, two: 2}")
    options = ["--logger-entrobench-expected", "expected.yaml", "--keep-going"]
    status, lines, rest = snakemake(tmp_path, *options)
    assert status != 0
    assert "3 steps, expected to take 42 s" in lines
    assert "... Making the first, expected 40 s" in lines
    assert "1/3] Making the first: " in lines
    assert "FAILED   Making the second: after" in lines
    assert "Its log: two.log" in lines
    assert "chatter" not in lines
    assert "chatter" in rest
    assert "Error in rule two" in rest
    (tmp_path / "allowed").touch()
    status, lines, rest = snakemake(tmp_path, apart=False)
    assert (status, lines) == (0, ""), rest
    assert "1/2] Making the second: " in rest
    assert "Finished jobid" not in rest, "the lines stand in the place of Snakemake's"


@pytest.fixture
def emit_to(tmp_path):
    """(text of the file of expected seconds) -> a function that emits an event to a handler which has it."""

    def make(text):
        path = tmp_path / "expected.yaml"
        path.write_text(text)
        common = SimpleNamespace(nocolor=True, quiet=None, dryrun=False)
        handler = LogHandler(common, LogHandlerSettings(expected=path))
        return lambda event, **values: handler.emit(logging.makeLogRecord({"event": event, **values}))

    return make


def test_time_left_is_that_of_jobs_that_are_not_done(emit_to, capfd):
    emit = emit_to("expected_seconds: {train: 100, grade: 10}")
    emit(LogEvent.RUN_INFO, stats={"train": 2, "grade": 1, "total": 3})
    emit(LogEvent.JOB_INFO, jobid=1, rule_name="train", rule_msg="Training a")
    emit(LogEvent.JOB_FINISHED, job_id=1)
    printed = capfd.readouterr().err
    assert "3 steps, expected to take 3 min 30 s" in printed
    assert "[  1/3] Training a: 0 s of 1 min 40 s; left 1 min 50 s" in printed


def test_jobs_that_run_side_by_side_take_their_time_once(emit_to, capfd):
    emit = emit_to("expected_seconds: {train: 100, grade: 10}\nside_by_side: {train: 2}")
    emit(LogEvent.RUN_INFO, stats={"train": 2, "grade": 1, "total": 3})
    assert "3 steps, expected to take 1 min 50 s" in capfd.readouterr().err


def test_a_curve_in_the_terminal(tmp_path):
    folder = tmp_path / "cell"
    with pytest.raises(MissingInput, match="not started here"):
        view(folder)
    cell = resolve("papo/7b-math/dapo/seed0", "smoke", CONFIGS, tmp_path)
    write_cell(cell, folder / "cell.yaml", repository_root())
    assert "step 0 of 32" in view(folder)
    rows = [{"step": k, "reward": k / 4, "entropy": 1 - k / 4, "timing_s/step": 6.0} for k in (1, 2)]
    write_jsonl(folder / "metrics.jsonl", rows)
    with (folder / "metrics.jsonl").open("a") as stream:
        stream.write('{"step": 3, "rew')
    write_json(folder / "progress.json", {"phase": "gen", "step": 3, "time": 0.0})
    shown = view(folder)
    assert "step 2 of 32, gen of step 3 since" in shown
    assert "6.0 s a step, about 3 min left" in shown
    assert "reward          ▁█  0.25 → 0.5" in shown
    assert "entropy         █▁  0.75 → 0.5" in shown
    assert not is_finished(folder)
    write_json(folder / "train.done.json", {})
    assert "trained, not evaluated yet" in view(folder)
    assert is_finished(folder)


def test_a_sparkline_averages_what_has_no_room():
    assert sparkline([1, 1, 1], 60) == "▁▁▁"
    assert sparkline([0, 2, 4, 6], 2) == "▁█"
    assert len(sparkline(list(range(1000)), 60)) == 60
