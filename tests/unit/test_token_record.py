"""The recorded slice: which rows, which columns, and what an interruption leaves."""

import pandas as pd
import pytest
import torch
from support import random_batch

from entrobench.kernels.token_stats import TokenStats
from entrobench.training.token_record import TokenRecord, token_frame


def test_rows_are_a_seeded_choice_of_responses(tmp_path):
    mask = torch.ones(20, 3).bool()
    mask[::2] = False  # padding rows
    record = TokenRecord(tmp_path, every=4, sequences=6, seed=0)
    rows = record.rows(8, mask, multiple=1)
    assert len(rows) == 6
    assert all(row % 2 for row in rows)
    assert rows == record.rows(8, mask, multiple=1)
    assert rows != TokenRecord(tmp_path, every=4, sequences=6, seed=1).rows(8, mask, multiple=1)
    assert record.rows(9, mask, multiple=1) == [], "other steps cost nothing"
    assert len(record.rows(1, mask, multiple=1)) == 6, "the state before training is in it"
    assert len(record.rows(8, mask, multiple=4)) == 8, "a multiple of the ranks"
    assert len(record.rows(8, mask, multiple=16)) == 0, "fewer responses than ranks"


def test_the_frame_has_one_row_a_token_with_the_papers_quantities():
    batch = random_batch(rows=3, length=5, step=8)
    after = TokenStats(*(values + 0.25 for values in batch.stats))
    clipped = torch.zeros(3, 5, dtype=torch.int8)
    clipped[1, 0] = -1
    correct = torch.tensor([False, True, False])
    tokens = torch.arange(15).reshape(3, 5)
    shaped = batch.advantages_BT * 2
    frame = token_frame(batch, shaped, tokens, correct, after, clipped, lambda token: f"<{token}>")
    assert len(frame) == int(batch.mask_BT.sum())
    first = frame[frame["sequence"] == 1].iloc[0]
    assert (first["step"], first["position"], first["token"], first["text"]) == (8, 0, 5, "<5>")
    assert first["length"] == int(batch.mask_BT[1].sum())
    advantage, tendency = batch.advantages_BT[1, 0].item(), batch.stats.tendency[1, 0].item()
    assert first["polarity"] == pytest.approx(advantage * tendency)
    assert first["branch"] == (1 if advantage * tendency > 0 else -1)
    assert first["shaped_advantage"] == pytest.approx(2 * advantage)
    assert first["t2"] - first["t1"] == pytest.approx(tendency, abs=1e-6)
    assert first["entropy_after"] - first["entropy"] == pytest.approx(0.25, abs=1e-6)
    assert bool(first["correct"]) is True
    assert first["clipped"] == -1
    assert frame["clipped"].abs().sum() == 1


def test_a_resumed_run_makes_later_parts_again(tmp_path):
    record = TokenRecord(tmp_path, every=4, sequences=6, seed=0)
    for step in (4, 8, 12):
        record.write(step, pd.DataFrame({"step": [step], "token": [1]}))
    record.truncate_after(8)
    record.join()
    assert pd.read_parquet(tmp_path / "token_stats.parquet")["step"].tolist() == [4, 8]


def test_nothing_recorded_leaves_no_file(tmp_path):
    TokenRecord(tmp_path, every=4, sequences=6, seed=0).join()
    assert list(tmp_path.iterdir()) == []
