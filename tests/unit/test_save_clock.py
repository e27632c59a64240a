"""Checkpoints by time, and the end of a run ahead of its job's, on a clock that the tests turn."""

import pytest

from entrobench.runs.save_clock import SaveClock, write_job_times


class Clock:
    def __init__(self):
        self.seconds = 1000.0

    def __call__(self):
        return self.seconds


@pytest.fixture
def clock():
    return Clock()


def start(folder, clock, ends=None, minutes=None):
    write_job_times(folder, ends, minutes)
    return SaveClock(folder, clock)


def test_a_checkpoint_is_due_when_the_last_one_is_old_enough(tmp_path, clock):
    run = start(tmp_path, clock, minutes=30)
    clock.seconds += 29 * 60
    assert not run.is_due()
    clock.seconds += 60
    assert run.is_due()
    run.saved(10)
    assert not run.is_due()
    clock.seconds += 30 * 60
    assert run.is_due()


def test_without_a_job_nothing_is_due_and_nothing_is_over(tmp_path, clock):
    for run in (SaveClock(tmp_path, clock), start(tmp_path, clock)):
        clock.seconds += 1e6
        run.step()
        assert not run.is_due()
        assert not run.is_over()


def test_a_run_ends_ahead_of_a_step_that_would_not(tmp_path, clock):
    run = start(tmp_path, clock, ends=clock.seconds + 1000)
    clock.seconds += 300
    run.step()  # 300 s a step: 700 left
    assert not run.is_over()
    clock.seconds += 300
    run.step()  # 400 left, 360 wanted
    assert not run.is_over()
    run.saved(20)  # 480 wanted, with this step's own checkpoint and the next one's
    assert run.is_over()


def test_the_longest_step_counts_and_a_checkpoint_is_no_part_of_one(tmp_path, clock):
    run = start(tmp_path, clock, ends=clock.seconds + 10_000)
    for step, save in ((500, 0), (100, 400), (100, 0)):
        clock.seconds += step
        run.step()
        if save:
            clock.seconds += save
            run.saved(save)
    clock.seconds = 1000 + 10_000 - 1.2 * (500 + 2 * 400)
    assert not run.is_over()
    clock.seconds += 1
    assert run.is_over()
