"""What starts a training run: its limits on this site, a late Ray, the end of a chain that makes nothing."""

import pytest

from entrobench.errors import TrainingFailed, Unfinished
from entrobench.machine.site import Site, Slurm
from entrobench.runs.run_files import Lives
from entrobench.training import launch
from entrobench.training.launch import _require_progress, guard_limits

CELL = {"guard": {"startup": 1, "stall": 2, "error": 3, "stop": 120}}


def test_without_a_site_the_scale_says_how_long_a_stop_may_take():
    assert guard_limits(CELL, None).stop == 120
    assert guard_limits({"guard": {"startup": 1, "stall": 2, "error": 3}}, None).stop > 0, (
        "an older cell.yaml"
    )


@pytest.mark.parametrize(("notice", "stop"), [(900, 840), (60, 30)])
def test_a_sites_notice_counts_less_what_tidying_up_takes(notice, stop):
    site = Site(slurm=Slurm(partition="gpu", signal_seconds=notice))
    limits = guard_limits(CELL, site)
    assert limits.stop == stop
    assert limits.stall == 2


def test_jobs_that_never_reach_a_checkpoint_end_the_chain(tmp_path):
    stopped = Unfinished("stopped by SIGUSR1 in step 41")
    for _ in range(2):
        Lives(tmp_path).begin(40)
        Lives(tmp_path).end("stopped by SIGUSR1")
        _require_progress(tmp_path, stopped)
    Lives(tmp_path).begin(40)
    Lives(tmp_path).end("stopped by SIGUSR1")
    with pytest.raises(TrainingFailed, match=r"(?s)in step 41.*job 3 in a row.*signal_seconds"):
        _require_progress(tmp_path, stopped)


@pytest.mark.parametrize(
    ("failures", "starts", "is_trained"),
    [
        (["Exception: The current node timed out during startup. This could"] * 2, 3, True),
        (["Exception: The current node timed out during startup. This could"] * 3, 3, False),
        (["ValueError: The reward"], 1, False),
    ],
)
def test_a_ray_that_comes_too_late_is_started_again(tmp_path, monkeypatch, failures, starts, is_trained):
    started = []

    def supervise(command, folder, limits, environment):
        started.append(folder)
        if len(started) <= len(failures):
            raise TrainingFailed(f"training ended with exit code 1: {failures[len(started) - 1]}")

    monkeypatch.setattr(launch, "supervise", supervise)
    try:
        launch._supervise(tmp_path, CELL | {"device": "cpu"})
    except TrainingFailed:
        assert not is_trained
    else:
        assert is_trained
    assert started == [tmp_path] * starts
