"""Position-based shaping by hand, against an oracle of the released code, and at its limits (exchange, Eq. 8,
10).
"""

import math

import pytest
import torch
from support import batch_of, random_batch

from entrobench.algorithms.position import Position, position_bonus, relative_position


def sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x))


def two_by_four(step=250):
    return batch_of(
        advantages=[[1.0] * 4, [-2.0, -2.0, 0.0, 0.0]],
        logp=[[-1.0] * 4] * 2,
        entropy=[[1.0] * 4] * 2,
        mask=[[1, 1, 1, 1], [1, 1, 0, 0]],
        step=step,
    )


def test_two_by_four_by_hand():
    # Row 0: l = 0, .25, .5, .75; r = 15 (l - .5) = -7.5, -3.75, 0, 3.75; row 1 has two tokens: l = 0, .5
    # b = .1 sigmoid(r); A + sign(A) b: 1 + b in row 0, -2 - b in row 1
    batch = two_by_four()
    assert relative_position(batch.mask_BT).tolist() == [[0, 0.25, 0.5, 0.75], [0, 0.5, 0, 0]]
    shaped = Position(gamma=0.1).shape(batch).advantages_BT
    late = [1 + 0.1 * sigmoid(r) for r in (-7.5, -3.75, 0, 3.75)]
    assert shaped[0].tolist() == pytest.approx(late)
    assert shaped[1].tolist() == pytest.approx([-2 - 0.1 * sigmoid(-7.5), -2 - 0.1 * 0.5, 0, 0])
    early = Position(gamma=0.1, direction=-1).shape(batch).advantages_BT
    assert early[0].tolist() == pytest.approx([1 + 0.1 * sigmoid(-r) for r in (-7.5, -3.75, 0, 3.75)])


def test_the_papers_own_shift_makes_the_bonus_constant():
    # r = 15 (l + 0.5) >= 7.5: b >= gamma * 0.99945 at every position. Hence n = 0.5 here
    bonus = position_bonus(torch.ones(1, 1000).bool(), gamma=1.0, direction=1, scale=15.0, shift=-0.5)
    assert bonus.min() > 0.999


@pytest.mark.parametrize(("step", "active"), [(199, False), (200, True), (299, True), (300, False)])
def test_the_bonus_lasts_for_100_steps_from_step_200(step, active):
    shaped = Position().shape(two_by_four(step))
    assert shaped.metrics["position/active"] == float(active)
    assert torch.equal(shaped.advantages_BT, two_by_four().advantages_BT) is not active


def test_gamma_zero_is_grpo():
    batch = random_batch(step=250)
    assert torch.equal(Position(gamma=0.0).shape(batch).advantages_BT, batch.advantages_BT)


def test_the_released_variant_limits_the_bonus_to_half_of_the_advantage():
    # Released: min(gamma sigmoid(15 (l - .5)), .5 |A|), added with A's sign; written out token by token
    batch = random_batch(step=250, seed=3)
    batch.advantages_BT[0] *= 1e-2  # small enough for the limit to bind
    shaped = Position(gamma=0.1, cap=0.5).shape(batch).advantages_BT
    for row in range(len(batch.mask_BT)):
        length = int(batch.mask_BT[row].sum())
        for t in range(length):
            a = batch.advantages_BT[row, t].item()
            bonus = min(0.1 * sigmoid(15 * (t / length - 0.5)), 0.5 * abs(a))
            assert shaped[row, t].item() == pytest.approx(a + math.copysign(bonus, a), rel=1e-5)


def test_another_direction_is_refused():
    with pytest.raises(ValueError, match="direction"):
        Position(direction=0)
