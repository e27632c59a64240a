"""Parts of the guard without a run: locks, Ray's logs, what it says of steps and of the network."""

import errno
import json
import time

import pytest

from entrobench.errors import TrainingFailed
from entrobench.runs.run_files import Progress
from entrobench.training import guard


def test_a_file_system_without_locks_is_said_and_stops_nothing(tmp_path, monkeypatch, capsys):
    def no_locks(stream, operation):
        raise OSError(errno.ENOSYS, "Function not implemented")

    monkeypatch.setattr("entrobench.training.guard.fcntl.flock", no_locks)
    with guard._exclusive(tmp_path):
        pass
    assert "no lock on" in capsys.readouterr().out


def test_rays_logs_stay_where_a_run_has_failed(tmp_path, capsys):
    def run(error):
        with guard._ray_folder(tmp_path) as folder:
            (folder / "session_1/logs").mkdir(parents=True)
            (folder / "session_1/logs/raylet.out").write_text("killed for want of memory")
            (folder / "session_latest").symlink_to("session_1")
            raise error

    with pytest.raises(KeyboardInterrupt):
        run(KeyboardInterrupt())
    assert not (tmp_path / "logs").exists()
    with pytest.raises(TrainingFailed):
        run(TrainingFailed("x"))
    assert not (tmp_path / "ray_folder.txt").exists()
    (kept,) = (tmp_path / "logs/ray").glob("*/raylet.out")
    assert kept.read_text() == "killed for want of memory"
    assert str(kept.parent) in capsys.readouterr().out


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("node1:12:34 [0] NCCL INFO Using network IB", "NCCL between nodes: IB\n"),
        (
            "(Worker pid=9) n:1:2 [0] NCCL INFO NET/Socket : Using [0]eth0:10.0.0.1<0>",
            "Socket, TCP sockets and not",
        ),
    ],
)
def test_the_transport_that_nccl_has_chosen_is_said_once(tmp_path, capsys, line, said):
    (tmp_path / "train.log").write_text(f"{line}\n{line}\n")
    reporter = guard._StepReporter(tmp_path)
    reporter.report()
    assert capsys.readouterr().out.count(said) == 1


def test_steps_that_a_run_makes_again_are_told(tmp_path, capsys):
    def write_curve(last_step):
        rows = [
            {"step": step, "reward": 0.5, "entropy": 0.3, "timing_s/step": 2.0}
            for step in range(1, last_step + 1)
        ]
        (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))

    (tmp_path / "train.log").touch()
    write_curve(60)  # of the life before this one, whose checkpoint is of step 40
    reporter = guard._StepReporter(tmp_path)
    reporter.started = time.time() - 1
    Progress(tmp_path).beat("check inputs", 0)
    reporter.report()
    write_curve(40)
    Progress(tmp_path).beat("start Ray and vLLM", 0)
    reporter.report()
    write_curve(41)
    reporter.report()
    steps = [line for line in capsys.readouterr().out.splitlines() if "step" in line]
    assert len(steps) == 1
    assert "step 41:" in steps[0]
