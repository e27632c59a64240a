"""What starts a training run: its limits on this site, and the end of a chain of jobs that makes nothing."""

import pytest

from entrobench.errors import TrainingFailed, Unfinished
from entrobench.machine.site import Site, Slurm
from entrobench.runs.run_files import Lives
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
