"""Which cells share a session, and what becomes of the others when one fails."""

from pathlib import Path

import pytest

from entrobench.cells import write_cell
from entrobench.configs import Configs
from entrobench.errors import TrainingFailed, Unfinished
from entrobench.files import read_json
from entrobench.paths import repository_root
from entrobench.runs.run_files import Progress
from entrobench.training import launch
from entrobench.training.launch import launch_sessions
from entrobench.training.methods_smoke import short_cell
from entrobench.training.session import make_session, runs_of, sessions_of

CONFIGS = Configs(repository_root() / "configs")


def write_cells(folder, methods, **changes):
    for method in methods:
        cell = short_cell(method, "papo/7b-math", 2, CONFIGS, folder)
        cell["verl"] |= changes
        write_cell(cell, folder / method / "cell.yaml", repository_root())
    return [folder / method for method in methods]


def test_cells_share_a_session_but_for_what_workers_know_from_the_start(tmp_path):
    folders = write_cells(tmp_path, ["grpo", "papo_polarity", "exchange_grpo", "opefo_grpo", "gspo"])
    names = [[folder.name for folder in group] for group in sessions_of(folders)]
    # exchange penalises long answers, in the reward's worker
    assert names == [["grpo", "papo_polarity", "opefo_grpo", "gspo"], ["exchange_grpo"]]
    faster = write_cells(tmp_path / "faster", ["grpo"], **{"actor_rollout_ref.actor.optim.lr": 1e-2})
    assert len(sessions_of([folders[0], *faster])) == 2, "the optimizer is the worker's"


def test_a_session_has_a_folder_of_its_own(tmp_path):
    folders = write_cells(tmp_path, ["grpo", "dapo"])
    first, second = (make_session(tmp_path / "sessions", folders) for _ in range(2))
    assert first != second
    assert runs_of(second) == [folder.resolve() for folder in folders]
    assert runs_of(folders[0]) == [folders[0]], "a cell alone"


@pytest.fixture
def trained(monkeypatch):
    """Sessions that train each cell at once, but for those named; the cells of each session."""
    sessions: list[list[str]] = []
    broken: set[str] = set()

    def supervise(folder, _cell):
        runs = runs_of(folder)
        sessions.append([run.name for run in runs])
        for run in runs:
            Progress(folder, run).beat("generate", 1)
            if run.name in broken:
                raise TrainingFailed(f"{run.name} does not work\n  more of it")
            (run / "train.done.json").write_text("{}")

    monkeypatch.setattr(launch, "_supervise", supervise)
    is_trained = lambda folder, _cell: (Path(folder) / "train.done.json").exists()  # noqa: E731
    monkeypatch.setattr(launch, "is_trained", is_trained)
    monkeypatch.setattr(launch, "restore", is_trained)
    return sessions, broken


def test_a_cell_that_fails_costs_itself(tmp_path, trained):
    sessions, broken = trained
    broken |= {"dapo", "kl_cov"}
    folders = write_cells(tmp_path, ["grpo", "dapo", "loop", "kl_cov", "opefo"])
    with pytest.raises(TrainingFailed, match="2 of 5 cells failed") as failure:
        launch_sessions(folders, tmp_path / "sessions")
    assert "papo/7b-math/dapo/seed0: dapo does not work" in str(failure.value)
    assert sessions == [["grpo", "dapo", "loop", "kl_cov", "opefo"], ["loop", "kl_cov", "opefo"], ["opefo"]]
    assert (tmp_path / "grpo" / "train.log").is_symlink()
    broken.clear()
    sessions.clear()
    launch_sessions(folders, tmp_path / "sessions")
    assert sessions == [["dapo", "kl_cov"]], "what is trained is kept"


def test_a_session_that_comes_to_no_cell_is_not_tried_with_the_others(tmp_path, monkeypatch, trained):
    sessions, _ = trained

    def fail(folder, _cell):
        sessions.append([])
        Progress(folder.resolve()).beat("check inputs", 0)
        raise TrainingFailed("no model")

    monkeypatch.setattr(launch, "_supervise", fail)
    monkeypatch.chdir(tmp_path)
    write_cells(tmp_path, ["grpo", "dapo"])
    with pytest.raises(TrainingFailed, match="no model"):
        launch_sessions([Path("grpo"), Path("dapo")], Path("sessions"))
    assert len(sessions) == 1


def test_a_session_that_is_stopped_goes_on_another_time(tmp_path, monkeypatch, trained):
    def stop(folder, _cell):
        raise Unfinished("stopped by SIGTERM")

    monkeypatch.setattr(launch, "_supervise", stop)
    with pytest.raises(Unfinished):
        launch_sessions(write_cells(tmp_path, ["grpo", "dapo"]), tmp_path / "sessions")
    assert len(read_json(tmp_path / "sessions" / "0001" / "session.json")["runs"]) == 2
