"""Steps too long for the scheduler's notice."""

import pytest

from entrobench.cells import listed_cells
from entrobench.configs import Configs
from entrobench.machine.site import Gpus, Slurm
from entrobench.paths import repository_root
from entrobench.rehearsal.stops import SlowStop, as_text, slow_stops

CONFIGS = Configs(repository_root() / "configs")


def stops_of(paper, **slurm):
    cells = listed_cells(paper, CONFIGS)
    site = Slurm(partition="gpu", **slurm)
    return slow_stops(cells, "paper", CONFIGS, repository_root() / "results", site, Gpus())


def test_the_slowest_cell_of_each_experiment_and_the_notice_that_it_needs():
    stops = {stop.cell.rsplit("/", 2)[0]: stop for stop in stops_of("repo")}
    assert "repo/appworld-32b" in stops
    assert "repo/aime-8b" not in stops
    longest = max(stop.notice for stop in stops.values())
    assert stops_of("repo", signal_seconds=int(longest) + 1) == []
    shortest = min(stop.notice for stop in stops.values())
    assert len(stops_of("repo", signal_seconds=int(shortest) + 1)) == len(stops) - sum(
        stop.notice == shortest for stop in stops.values()
    )


def test_an_adapter_is_saved_with_the_whole_model_at_the_end_only():
    (lora,) = [stop for stop in stops_of("repo", signal_seconds=60) if "/appworld-32b/" in stop.cell]
    (full,) = [stop for stop in stops_of("papo", signal_seconds=60) if "/14b-math/" in stop.cell]
    parameters = {"32b": 32.76e9, "14b": 14.77e9}
    assert lora.save == pytest.approx(4 * parameters["32b"] / 2e9, rel=0.01)
    assert full.save == pytest.approx(16 * parameters["14b"] / 2e9, rel=0.01)


def test_text():
    slurm = Slurm(partition="gpu", signal_seconds=600)
    assert as_text([], slurm) == ""
    text = as_text([SlowStop("papo/7b-math/dapo/seed0", 580.0, 61.0)], slurm)
    assert text.splitlines()[-1].split() == ["papo/7b-math/dapo/seed0", "580", "61", "701"]
    assert "30 minutes" in text
