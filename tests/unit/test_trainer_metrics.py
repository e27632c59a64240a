"""What the trainer makes of a step's metrics: its row of the curve, and the end of a run gone wrong."""

from types import SimpleNamespace

import pytest
from omegaconf import OmegaConf
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from verl.trainer.ppo.v1.trainer_sync import PPOTrainerSync

from entrobench.algorithms.health import MismatchGate
from entrobench.errors import TrainingFailed
from entrobench.files import read_jsonl
from entrobench.runs.run_files import Curve
from entrobench.training.trainer import EntropyTrainer

pytestmark = pytest.mark.slow

VERL = {"critic/score/mean": 0.5, "response_length/mean": 7.0, "actor/grad_norm": 0.1}


@pytest.fixture
def trainer(tmp_path, monkeypatch):
    """A trainer whose verl part reports VERL and the columns that padding dilutes."""
    diluted = {"rollout_corr/training_ppl": 2.6}
    monkeypatch.setattr(
        PPOTrainerSync, "_compute_metrics", lambda self, batch, metrics, *_: metrics.update(VERL | diluted)
    )
    trainer = EntropyTrainer.__new__(EntropyTrainer)
    trainer._curve, trainer._steps_wanted, trainer._board = Curve(tmp_path), None, None
    trainer.config = OmegaConf.create({"entrobench": {"run_dir": str(tmp_path)}})
    trainer._mismatch_gate = MismatchGate(kl=0.02, steps=2)
    return trainer


def make_step(trainer, step, kl):
    trainer.global_steps = step
    trainer._step_metrics = {"mismatch/kl": kl}
    trainer._compute_metrics(SimpleNamespace(), {}, {}, step, 0)


def test_verls_columns_over_padding_rows_are_not_part_of_the_curve(trainer, tmp_path):
    make_step(trainer, 1, 0.001)
    row = read_jsonl(tmp_path / "metrics.jsonl")[0]
    assert row["mismatch/kl"] == 0.001
    assert row["reward"] == 0.5
    assert not [name for name in row if name.startswith("rollout_corr/")]


def test_tensorboard_shows_each_step_once_after_a_resume(trainer, tmp_path):
    for step in (1, 2, 3):
        make_step(trainer, step, 0.001)
    trainer._board = None  # the run was killed, and resumes after step 1
    for step in (2, 3, 4):
        make_step(trainer, step, 0.002)
    board = EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    found = [(event.step, round(event.value, 6)) for event in board.Scalars("mismatch/kl")]
    assert found == [(1, 0.001), (2, 0.002), (3, 0.002), (4, 0.002)]
    assert board.Scalars("reward")[0].value == 0.5


def test_a_run_ends_after_the_row_of_the_step_that_is_too_much(trainer, tmp_path):
    make_step(trainer, 1, 0.03)
    with pytest.raises(TrainingFailed, match=r"mismatch/kl 0\.03 in step 1, 0\.04 in step 2"):
        make_step(trainer, 2, 0.04)
    assert [row["mismatch/kl"] for row in read_jsonl(tmp_path / "metrics.jsonl")] == [0.03, 0.04]
