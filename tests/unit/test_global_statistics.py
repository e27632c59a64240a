"""Batch statistics are global: a step is the same for any ranks, micro-batches, row order or padding."""

import pytest
import torch
from support import random_batch, rearranged
from verl.utils.seqlen_balancing import get_seqlen_balanced_partitions

from entrobench.algorithms import SHAPERS
from entrobench.algorithms.health import batch_health, group_rates

SETTINGS = {
    "single_polarity": {"keep": "negative"},
    "papo_polarity": {"warmup_steps": 2, "omega_min": 0.5, "omega_max": 2.0},
    "position": {"first_step": 1},
    "perplexity": {"alpha": 0.3},
}


def last_of(name, batches):
    """What the shaper makes of the last of several steps, and its state after it."""
    shaper = SHAPERS[name](**SETTINGS.get(name, {}))
    for batch in batches:
        shaped = shaper.shape(batch)
    return shaped, shaper.state_dict()


def three_steps():
    """Batches of falling entropy, so that every controller is past its warm-up and has something to do."""
    batches = [random_batch(rows=12, seed=seed) for seed in range(3)]
    return sorted(batches, key=lambda batch: -batch.mean_entropy())


def assert_same(one, other):
    assert one.keys() == other.keys()
    for key, value in one.items():
        is_number = isinstance(value, int | float)
        assert other[key] == (pytest.approx(value, rel=1e-9, abs=1e-12) if is_number else value), key


@pytest.mark.parametrize("ranks", [1, 2, 4])
@pytest.mark.parametrize("name", SHAPERS)
def test_ranks_order_and_padding_do_not_change_a_step(name, ranks):
    """verl's own partition of the batch over `ranks`, padded as verl pads it."""
    steps = three_steps()
    expected, expected_state = last_of(name, steps)
    assert not torch.equal(expected.advantages_BT, steps[-1].advantages_BT) or expected.actor, (
        "the method has to do something for this test to mean anything"
    )
    arranged, orders = [], []
    for batch in steps:
        rows = [*range(12), *[-1] * 4]
        lengths = [int(batch.mask_BT[row].sum()) if row >= 0 else 1 for row in rows]
        parts = get_seqlen_balanced_partitions(lengths, k_partitions=ranks, equal_size=True)
        order = [rows[index] for part in parts for index in part]
        arranged.append(rearranged(batch, order))
        orders.append(order)
    shaped, state = last_of(name, arranged)
    for place, row in enumerate(orders[-1]):
        if row >= 0:
            real = steps[-1].mask_BT[row]
            assert torch.allclose(
                shaped.advantages_BT[place][real], expected.advantages_BT[row][real], rtol=1e-6, atol=0
            )
    assert_same(expected.metrics, shaped.metrics)
    assert_same(dict(expected.actor), dict(shaped.actor))
    assert_same(expected_state, state)
    assert_same(
        batch_health(steps[-1], expected.advantages_BT), batch_health(arranged[-1], shaped.advantages_BT)
    )


@pytest.mark.parametrize("name", SHAPERS)
def test_a_group_that_was_dropped_leaves_no_trace(name):
    """The same step from a batch whose tied group was dropped before, and from one that never had it."""
    batch = random_batch(rows=12, seed=0)
    kept = rearranged(batch, [0, 1, 2, 3, 8, 9, 10, 11])
    padded = rearranged(batch, [8, 9, 10, 11, -1, -1, 0, 1, 2, 3, -1, -1])
    first, first_state = last_of(name, [kept, kept])
    second, second_state = last_of(name, [padded, padded])
    assert_same(first.metrics, second.metrics)
    assert_same(first_state, second_state)


def test_group_rates_count_dropped_groups_too():
    batch = random_batch(rows=8, group_size=4)
    correct = torch.tensor([True] * 4 + [False, True, False, False])
    assert group_rates(batch, correct, {}) == {"groups/all_correct": 0.5, "groups/all_wrong": 0.0}
    # two more groups were dropped, one all correct and one all wrong: (1 + 1) / 4 and 1 / 4
    rates = group_rates(batch, correct, {1.0: 1, 0.0: 1})
    assert rates == {"groups/all_correct": 0.5, "groups/all_wrong": 0.25}
    # and four mixed ones were not needed: (1 + 1) / 8 and 1 / 8
    rates = group_rates(batch, correct, {1.0: 1, 0.0: 1}, surplus=4)
    assert rates == {"groups/all_correct": 0.25, "groups/all_wrong": 0.125}
