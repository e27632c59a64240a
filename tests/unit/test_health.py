"""Health metrics by hand."""

import math

import pytest
import torch
from support import batch_of

from entrobench.algorithms.health import MismatchGate, batch_health, clip_masks, entropy_by_verdict, mismatch
from entrobench.errors import TrainingFailed
from entrobench.kernels.token_stats import TokenStats


def test_polarity_fractions_masses_and_weights_by_hand():
    # T = t2 - t1 with t2 = 0 and t1 = p (H + log p): p = .5 everywhere (log p = -.6931)
    #   H = .8931 -> t1 = .1, T = -.1;  H = .2931 -> t1 = -.2, T = +.2
    # A = (1, 1, -2, 1), H = (.8931, .2931, .8931, masked): P = (-.1, +.2, +.2)
    low, high = math.log(2) + 0.2, math.log(2) - 0.4
    batch = batch_of(
        [[1.0, 1.0, -2.0, 1.0]], [[math.log(0.5)] * 4], [[low, high, low, 9.0]], mask=[[1, 1, 1, 0]]
    )
    shaped = torch.tensor([[0.9, 1.1, -2.2, 5.0]])
    metrics = batch_health(batch, shaped)
    assert metrics["polarity/fraction_positive"] == pytest.approx(2 / 3)
    assert metrics["polarity/fraction_negative"] == pytest.approx(1 / 3)
    assert metrics["polarity/mass_positive"] == pytest.approx(0.4 / 0.5)
    assert metrics["polarity/mass_negative"] == pytest.approx(0.1 / 0.5)
    assert metrics["polarity/weight_positive"] == pytest.approx(1.1)
    assert metrics["polarity/weight_negative"] == pytest.approx(0.9)
    assert metrics["entropy/q50"] == pytest.approx(low), "the median of (low, high, low)"
    # dH = -A' (1 - p)^2 (log p + H) = -A' / 4 (.2, -.4, .2): (-.045, +.11, +.11)
    assert metrics["flow/rising"] == pytest.approx(0.22)
    assert metrics["flow/falling"] == pytest.approx(0.045)
    assert metrics["flow/net"] == pytest.approx(0.175)


def test_entropy_by_verdict_is_of_the_tokens_of_each():
    batch = batch_of(
        [[1.0, 1.0], [-1.0, -1.0]], [[-1.0] * 2] * 2, [[0.5, 9.0], [1.0, 2.0]], mask=[[1, 0], [1, 1]]
    )
    found = entropy_by_verdict(batch, torch.tensor([True, False]))
    assert found == {"entropy/correct": pytest.approx(0.5), "entropy/wrong": pytest.approx(1.5)}
    assert set(entropy_by_verdict(batch, torch.tensor([True, True]))) == {"entropy/correct"}


def test_a_batch_without_advantages_has_neutral_weights():
    batch = batch_of([[0.0, 0.0]], [[-1.0, -1.0]], [[0.5, 0.5]])
    metrics = batch_health(batch, batch.advantages_BT)
    assert metrics["polarity/fraction_positive"] == metrics["polarity/mass_positive"] == 0.0
    assert metrics["polarity/weight_positive"] == 1.0


def test_mismatch_by_hand():
    # log ratios (0, ln 2): k3 = mean(0, 2 - 1 - ln 2) = (1 - .6931) / 2; largest ratio 2, either way
    trainer, rollout = torch.tensor([-1.0, -1.0]), torch.tensor([-1.0, -1.0 - math.log(2)])
    metrics = mismatch(trainer, rollout)
    assert metrics["mismatch/kl"] == pytest.approx((1 - math.log(2)) / 2)
    assert metrics["mismatch/max_ratio"] == pytest.approx(2.0)
    assert (metrics["mismatch/lowest_ratio"], metrics["mismatch/highest_ratio"]) == (
        pytest.approx(1.0),
        pytest.approx(2.0),
    )
    back = mismatch(rollout, trainer)
    assert back["mismatch/max_ratio"] == pytest.approx(2.0)
    assert back["mismatch/lowest_ratio"] == pytest.approx(0.5)


@pytest.mark.parametrize(
    ("values", "ends_at"),
    [
        ([0.01, 0.06, 0.06, 0.07], 4),
        ([0.06, 0.06, 0.05, 0.06, 0.06], None),  # the limit itself is allowed, and the count begins anew
        ([0.06, math.nan, math.inf], 3),
    ],
)
def test_steps_in_a_row_above_the_limit_end_the_run(values, ends_at):
    gate = MismatchGate(kl=0.05, steps=3)
    for step, kl in enumerate(values, 1):
        if step == ends_at:
            with pytest.raises(TrainingFailed, match=rf"in step {step - 2},.*{step - 1},.*at most 0.05"):
                gate.check(step, kl)
        else:
            gate.check(step, kl)


def test_clip_masks_of_a_whole_sequence_use_the_geometric_mean():
    # mean log ratio of the two real tokens: (.4 - .2) / 2 = .1 -> 1.105 > 1.08, for both tokens
    log_ratio, mask = torch.tensor([[0.4, -0.2, 9.0]]), torch.tensor([[True, True, False]])
    upper, lower = clip_masks(log_ratio, torch.ones(1, 3), mask, 0.08, 0.08, "gspo")
    assert upper.tolist() == [[True, True, False]]
    assert not lower.any()
    upper, _ = clip_masks(log_ratio, torch.ones(1, 3), mask, 0.08, 0.08, "vanilla")
    assert upper.tolist() == [[True, False, False]]
    assert not clip_masks(log_ratio, torch.ones(1, 3), mask, 0.08, 0.08, "kl_cov")[0].any()


def test_entropy_quantiles_are_finite_for_one_token():
    batch = batch_of([[1.0]], [[-1.0]], [[0.3]])
    stats = TokenStats(*(values[:, :1] for values in batch.stats))
    assert batch_health(batch, batch.advantages_BT)["entropy/q99"] == pytest.approx(stats.entropy.item())
