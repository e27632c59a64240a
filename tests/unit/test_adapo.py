"""ADAPO's controller against a plain-Python transcription of App. B, and what reaches the actor."""

import json
import random

import pytest
import torch
from support import random_batch

from entrobench.algorithms.adapo import Adapo


def adapo_trace(entropies):
    """App. B, steps 1-4."""
    h_init, eps, out = entropies[0], 0.28, []
    for h in entropies:
        if h < h_init:
            eps = eps * 1.01
        elif h > h_init:
            eps = eps / 1.01
        eps = min(max(eps, 0.2), 0.3)
        out.append(eps)
    return out


@pytest.mark.parametrize("seed", range(3))
def test_clip_ratio_high_follows_the_paper_for_200_steps(seed):
    rng = random.Random(seed)
    series = [0.5 + (-0.1 if k < 60 else 0.1) + rng.gauss(0, 0.03) for k in range(199)]
    series.insert(0, 0.5)
    controller = Adapo()
    ours = [controller.update(h) for h in series]
    assert ours == adapo_trace(series)
    assert ours[0] == 0.28
    assert max(ours) == 0.3
    assert min(ours) == 0.2


def test_advantages_stay_and_the_actor_gets_the_ratio():
    batch = random_batch()
    controller = Adapo()
    assert controller.shape(batch).actor == {"clip_ratio_high": 0.28}
    batch.stats.entropy.mul_(0.5)
    shaped = controller.shape(batch)
    assert shaped.actor == {"clip_ratio_high": pytest.approx(0.2828)}
    assert torch.equal(shaped.advantages_BT, batch.advantages_BT)


def test_state_survives_a_json_round_trip():
    first, second = Adapo(), Adapo()
    for h in (0.5, 0.4, 0.45):
        first.update(h)
    second.load_state_dict(json.loads(json.dumps(first.state_dict())))
    assert second.update(0.6) == first.update(0.6)
