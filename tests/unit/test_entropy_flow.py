"""OPEFO by hand, its balance, its limits, and Figure 3's code written out (Eq. 6-9)."""

import math

import pytest
import torch
from support import batch_of, random_batch

from entrobench.algorithms.entropy_flow import EntropyFlow, balance, entropy_flow


def two_by_four():
    # Row 0, A = 1, p = (.5, .9, .5, .9), H = (.7, .2, .6, .3); row 1 the same states with A = -1
    p = [0.5, 0.9, 0.5, 0.9]
    entropy = [0.7, 0.2, 0.6, 0.3]
    logp = [math.log(x) for x in p]
    return batch_of([[1.0] * 4, [-1.0] * 4], [logp] * 2, [entropy] * 2, mask=[[1, 1, 1, 1], [1, 1, 0, 0]])


def test_two_by_four_by_hand():
    # dH = -A (1 - p)^2 (log p + H), column by column for A = 1:
    #   0: -(.25)(-.6931 + .7) = -.00171      1: -(.01)(-.1054 + .2) = -.000946
    #   2: -(.25)(-.6931 + .6) = +.02329      3: -(.01)(-.1054 + .3) = -.001946
    # Row 1 (A = -1) counts columns 0 and 1 with the opposite sign: +.00171, +.000946
    batch = two_by_four()
    flow = entropy_flow(batch.advantages_BT, batch.stats)
    assert flow[0].tolist() == pytest.approx([-0.0017132, -0.0009464, 0.0232868, -0.0019464], abs=1e-6)
    # S+ = .02329 + .00171 + .00095 = .0259464; S- = .00171 + .00095 + .00195 = .0046060
    # lambda = (.0046060 - .0259464) / (.0046060 + .0259464) = -.69848
    shaped = EntropyFlow().shape(batch)
    assert shaped.metrics["opefo/lambda"] == pytest.approx(-0.69848, abs=1e-4)
    up, down = 1 - 0.69848, 1 + 0.69848
    assert shaped.advantages_BT[0].tolist() == pytest.approx([down, down, up, down], abs=1e-4)
    assert shaped.advantages_BT[1, :2].tolist() == pytest.approx([-up, -up], abs=1e-4)


@pytest.mark.parametrize("seed", range(5))
def test_the_flow_is_balanced_after_scaling(seed):
    """Eq. 8: the scaled advantages' own entropy flow sums to zero."""
    batch = random_batch(rows=40, seed=seed)
    before = entropy_flow(batch.advantages_BT, batch.stats)[batch.mask_BT].double()
    after = entropy_flow(EntropyFlow().shape(batch).advantages_BT, batch.stats)[batch.mask_BT].double()
    assert abs(before.sum()) > 1e-2 * before.abs().sum(), "unbalanced before"
    assert abs(after.sum()) < 1e-6 * after.abs().sum()


def figure_3(log_prob, advantages, delta_h, eps=1e-12):
    """The paper's pseudo-code in plain Python: the loss, token by token."""
    terms = [-lp * a for lp, a in zip(log_prob, advantages, strict=True)]
    positive = sum(d for d in delta_h if d > 0)
    negative = sum(-d for d in delta_h if d < 0)
    lam = (negative - positive) / max(negative + positive, eps)
    scaled = [
        t * (1 + lam) if d > 0 else t * (1 - lam) if d < 0 else t for t, d in zip(terms, delta_h, strict=True)
    ]
    return sum(scaled) / len(scaled)


def test_the_policy_gradient_loss_is_that_of_figure_3():
    batch = random_batch(rows=8, seed=2)
    flow = entropy_flow(batch.advantages_BT, batch.stats)
    shaped = EntropyFlow().shape(batch).advantages_BT
    ours = -(shaped * batch.stats.logp)[batch.mask_BT].double().mean()
    expected = figure_3(
        batch.stats.logp[batch.mask_BT].tolist(),
        batch.advantages_BT[batch.mask_BT].tolist(),
        flow[batch.mask_BT].tolist(),
    )
    assert ours.item() == pytest.approx(expected, rel=1e-5)


def test_lambda_zero_is_strictly_on_policy_grpo():
    batch = random_batch()
    assert torch.equal(EntropyFlow(static_lambda=0.0).shape(batch).advantages_BT, batch.advantages_BT)


def test_one_side_scales_one_set_with_the_lambda_of_both():
    batch = random_batch(rows=20)
    flow = entropy_flow(batch.advantages_BT, batch.stats)
    both = EntropyFlow().shape(batch)
    rising, falling = (EntropyFlow(side=side).shape(batch) for side in ("rising", "falling"))
    assert rising.metrics["opefo/lambda"] == falling.metrics["opefo/lambda"] == both.metrics["opefo/lambda"]
    assert torch.equal(rising.advantages_BT[flow > 0], both.advantages_BT[flow > 0])
    assert torch.equal(rising.advantages_BT[flow < 0], batch.advantages_BT[flow < 0])
    assert torch.equal(falling.advantages_BT[flow < 0], both.advantages_BT[flow < 0])
    assert torch.equal(falling.advantages_BT[flow > 0], batch.advantages_BT[flow > 0])


@pytest.mark.parametrize(
    ("rising", "falling", "expected"), [(0, 0, 0), (1, 3, 0.5), (3, 1, -0.5), (0, 2, 1), (2, 2, 0)]
)
def test_balance(rising, falling, expected):
    assert balance(rising, falling) == expected


def test_lambda_is_positive_where_falling_dominates():
    """GRPO's imbalance (Section 4): positive advantages on likely tokens; lambda favours the rising ones."""
    logp = [[math.log(0.6)] * 4] * 2
    batch = batch_of([[1.0] * 4, [0.2] * 4], logp, [[0.9] * 4] * 2)
    assert EntropyFlow().shape(batch).metrics["opefo/lambda"] == 1.0


@pytest.mark.parametrize("wrong", [{"side": "up"}, {"static_lambda": 1.0}])
def test_settings_outside_their_range_are_refused(wrong):
    with pytest.raises(ValueError, match="expected"):
        EntropyFlow(**wrong)
