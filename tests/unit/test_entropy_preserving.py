"""REPO by hand, Proposition 3 by autograd, and 200-step traces of its controllers in plain Python."""

import json
import math
import random

import pytest
import torch
from support import batch_of, random_batch

from entrobench.algorithms.entropy_preserving import (
    EntropyBonus,
    RepoDecorrelate,
    RepoRescale,
    ZetaController,
    repo_decorrelate,
    repo_rescale,
)


def two_by_four():
    # L = log p + H per column: (-1, .5, 0, 1), from log p = (-2, -.5, -1, -.5) and H = (1, 1, 1, 1.5)
    return batch_of(
        advantages=[[2.0] * 4, [-1.0] * 4],
        logp=[[-2.0, -0.5, -1.0, -0.5]] * 2,
        entropy=[[1.0, 1.0, 1.0, 1.5]] * 2,
    )


def test_rescale_by_hand():
    # zeta = .1. A = 2: 2 - .1 * 2 * L = 2 (1 - .1 L) -> 2.2, 1.9, 2, 1.8. A = -1 stays
    batch = two_by_four()
    shaped = repo_rescale(batch.advantages_BT, batch.surplus_log_prob_BT(), 0.1)
    assert shaped[0].tolist() == pytest.approx([2.2, 1.9, 2.0, 1.8])
    assert shaped[1].tolist() == [-1.0] * 4


def test_decorrelate_by_hand():
    # E[A L p] over 8 tokens: p = (e^-2, e^-.5, e^-1, e^-.5) = (.1353, .6065, .3679, .6065)
    #   sum L p = -.1353 + .3033 + 0 + .6065 = .7745; times (2 - 1) / 8 = .09681
    # zeta = 1e-3: beta = 9.681e-5. A - beta L
    batch = two_by_four()
    shaper = RepoDecorrelate()
    shaped = shaper.shape(batch)
    assert shaped.metrics["repo/beta"] == pytest.approx(9.681e-5, rel=1e-3)
    beta = shaped.metrics["repo/beta"]
    assert shaped.advantages_BT[0].tolist() == pytest.approx([2 + beta, 2 - 0.5 * beta, 2.0, 2 - beta])
    assert shaped.advantages_BT[1].tolist() == pytest.approx([-1 + beta, -1 - 0.5 * beta, -1.0, -1 - beta])


def test_zeta_zero_is_the_base_method():
    batch = random_batch()
    surplus = batch.surplus_log_prob_BT()
    assert torch.equal(repo_rescale(batch.advantages_BT, surplus, 0.0), batch.advantages_BT)
    assert torch.equal(repo_decorrelate(batch.advantages_BT, surplus, 0.0), batch.advantages_BT)


def entropy_of(logits: torch.Tensor) -> torch.Tensor:
    logp = torch.log_softmax(logits, -1)
    return -(logp.exp() * logp).sum(-1)


@pytest.mark.parametrize("beta", [0.3, -0.3])
def test_proposition_3_entropy_rises_by_beta_times_a_square(beta):
    """The expected policy-gradient step with A - beta L changes the entropy by beta |E[L u]|^2 more than with
    A.
    """
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(50, 7, generator=generator, dtype=torch.float64)
    advantages = torch.randn(50, 7, generator=generator, dtype=torch.float64)
    p = logits.softmax(-1)
    surplus = torch.log_softmax(logits, -1) + entropy_of(logits)[:, None]

    def gradient(weights):
        # E_a[w(a) u(a)] with u(a) = onehot(a) - p: p * w - p * E[w]
        return p * weights - p * (p * weights).sum(-1, keepdim=True)

    def entropy_change(direction):
        return torch.autograd.functional.jvp(entropy_of, logits, direction)[1]

    difference = entropy_change(gradient(advantages - beta * surplus)) - entropy_change(gradient(advantages))
    square = (gradient(surplus) ** 2).sum(-1)
    assert torch.allclose(difference, beta * square, atol=1e-12)
    assert (torch.sign(difference) == math.copysign(1, beta)).all()


def zeta_trace(entropies, *, low, high, bidirectional):
    """Section 3, steps 1-4, and App. B's sign, in plain Python."""
    target, zeta, out = None, 1e-3, []
    for h in entropies:
        if target is None:
            target = h
        else:
            if zeta > 0:
                size = zeta * 2 if h < target else zeta / 2 if h > target else zeta
            else:
                size = -zeta * 2 if h > target else -zeta / 2 if h < target else -zeta
            size = min(max(size, low), high)
            if bidirectional and h != target:
                zeta = size if h < target else -size
            else:
                zeta = math.copysign(size, zeta)
        out.append(zeta)
    return out


def wandering_entropy(seed):
    rng = random.Random(seed)
    h, series = 0.5, []
    for k in range(200):
        h += rng.gauss(0, 0.02) + (-0.01 if k % 60 < 25 else 0.012)
        series.append(max(h, 0.01))
    return series


@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize(("low", "high"), [(1e-5, 1e-1), (1e-3, 1e1)])
@pytest.mark.parametrize("seed", range(3))
def test_zeta_follows_the_paper_for_200_steps(seed, low, high, bidirectional):
    series = wandering_entropy(seed)
    controller = ZetaController(zeta_min=low, zeta_max=high, bidirectional=bidirectional)
    ours = [controller.update(h) for h in series]
    assert ours == zeta_trace(series, low=low, high=high, bidirectional=bidirectional)
    assert ours[0] == 1e-3
    assert max(ours) == high, "the upper end of the window is reached"
    assert (min(ours) < 0) is bidirectional
    if not bidirectional:
        assert min(ours) == low


def test_the_windows_are_the_papers():
    assert (RepoRescale().zeta_min, RepoRescale().zeta_max) == (1e-5, 1e-1)
    assert (RepoDecorrelate().zeta_min, RepoDecorrelate().zeta_max) == (1e-3, 1e1)


def test_the_entropy_bonus_is_a_setting_of_the_actor_and_no_change_of_advantages():
    batch = random_batch()
    shaper = EntropyBonus()
    shaped = shaper.shape(batch)
    assert torch.equal(shaped.advantages_BT, batch.advantages_BT)
    assert shaped.actor == {"entropy_coeff": 1e-3}
    batch.stats.entropy.mul_(0.5)
    assert shaper.shape(batch).actor == {"entropy_coeff": 2e-3}


def test_state_survives_a_json_round_trip_and_other_settings_are_refused():
    series = wandering_entropy(1)
    whole, first = RepoRescale(bidirectional=True), RepoRescale(bidirectional=True)
    values = [whole.update(h) for h in series]
    for h in series[:77]:
        first.update(h)
    second = RepoRescale(bidirectional=True)
    second.load_state_dict(json.loads(json.dumps(first.state_dict())))
    assert [second.update(h) for h in series[77:]] == values[77:]
    with pytest.raises(ValueError, match="bidirectional=True"):
        RepoRescale().load_state_dict(first.state_dict())


def test_a_step_without_entropy_is_refused_and_changes_nothing():
    controller = RepoRescale()
    controller.update(1.0)
    with pytest.raises(ValueError, match="step 2"):
        controller.update(math.nan)
    assert controller.step == 1


def test_an_empty_window_is_refused():
    with pytest.raises(ValueError, match="zeta_min"):
        RepoRescale(zeta_min=1.0)
