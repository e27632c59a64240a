"""PAPO's controller and reweighting against the paper's Algorithm 1, written out a second time in plain
Python.
"""

import json
import math
import random

import pytest
import torch

from entrobench.algorithms.papo_polarity import PapoPolarity, PhaseController, reweight


def algorithm_1(entropies, *, beta_warm, beta_run, n_w, gamma, w_min, w_max):
    """Lines 1 and 8-17, step by step: (omega_pos, omega_neg, active) of each step."""
    s, s_ref, h_ref, active = 0.0, None, None, True
    h_previous = ema = entropies[0]
    out = []
    for k, h in enumerate(entropies, start=1):
        beta = beta_warm if k <= n_w else beta_run
        s = beta * s + (1 - beta) * (h - h_previous)
        ema = h if k == 1 else beta_run * ema + (1 - beta_run) * h
        if k == n_w:
            s_ref, h_ref = s, h
        if active and h_ref is not None and ema < gamma * h_ref:
            active = False
        w_neg = 1.0
        if k > n_w and active and s_ref < 0:
            p = max(0.0, min(1.0, (s - s_ref) / (-s_ref)))
            w_neg = w_min + (w_max - w_min) * p * p
        out.append((1 / w_neg, w_neg, active))
        h_previous = h
    return out


def falling_then_flat_then_collapsing(rng):
    """Entropy that falls for 30 steps, rests for 40, rises a little, and then collapses below the gate."""
    h, series = 1.0, []
    for k in range(200):
        h += {0: -0.012, 1: 0.0, 2: 0.004}.get(0 if k < 30 else 1 if k < 70 else 2 if k < 100 else 3, -0.02)
        h = max(h, 0.02)
        series.append(h + rng.gauss(0, 0.002))
    return series


SETTINGS = {"beta_warm": 0.95, "beta_run": 0.9, "n_w": 20, "gamma": 0.3, "w_min": 0.98, "w_max": 1.03}


@pytest.mark.parametrize("seed", range(5))
def test_controller_follows_algorithm_1_through_every_branch(seed):
    series = falling_then_flat_then_collapsing(random.Random(seed))
    trace = algorithm_1(series, **SETTINGS)
    controller = PhaseController()
    for h, (w_pos, w_neg, active) in zip(series, trace, strict=True):
        omega_neg = controller.update(h)
        assert omega_neg == pytest.approx(w_neg, abs=1e-12)
        assert 1 / omega_neg == pytest.approx(w_pos, abs=1e-12)
        assert controller.active == active
    weights = [w for _, w, _ in trace]
    assert weights[:20] == [1.0] * 20  # warm-up
    assert any(w == 1.03 for w in weights), "p clipped at 1 (entropy rises)"
    assert any(w == 0.98 for w in weights), "p clipped at 0 (entropy falls faster than in the warm-up)"
    assert any(0.98 < w < 1.03 and w != 1.0 for w in weights), "p between 0 and 1"
    assert trace[-1] == (1.0, 1.0, False), "gate closed at the end"


@pytest.mark.parametrize(
    ("settings", "early", "late"),
    [
        # Explore: expansion favoured early, contraction hardly ever; exploit: contraction only
        ({"omega_min": 0.99, "omega_max": 1.06}, 1.06, 0.99),
        ({"omega_min": 0.96, "omega_max": 1.0}, 1.0, 0.96),
    ],
)
def test_the_other_reading_bounds_the_weight_of_expansion(settings, early, late):
    controller = PhaseController(bounded="expansion", warmup_steps=2, beta_warm=0.0, beta_run=0.0, **settings)
    assert [controller.update(h) for h in (2.0, 1.9)] == [1.0, 1.0]
    assert 1 / controller.update(1.6) == pytest.approx(early), "the entropy falls faster than in the warm-up"
    middle = early - (early - late) * 0.25
    assert 1 / controller.update(1.55) == pytest.approx(middle), "half as fast: p = 0.5"
    assert 1 / controller.update(1.75) == pytest.approx(late), "it rises"
    with pytest.raises(ValueError, match="bounded contraction or expansion, found both"):
        PhaseController(bounded="both")


def test_progress_is_clipped_at_zero_where_entropy_falls_faster_than_in_the_warm_up():
    # N_w = 2, beta = 0: s_2 = -0.1 = s_ref; s_3 = -0.3 -> (s_3 - s_ref) / -s_ref = -2 -> p = 0 -> omega_min
    controller = PhaseController(warmup_steps=2, beta_warm=0.0, beta_run=0.0, gate_ratio=0.0)
    for h in (2.0, 1.9):
        assert controller.update(h) == 1.0
    assert controller.slope_ref == pytest.approx(-0.1)
    assert controller.update(1.6) == pytest.approx(0.98)
    # s_4 = -0.05 -> p = 0.5 -> 0.98 + 0.05 * 0.25 = 0.9925
    assert controller.update(1.55) == pytest.approx(0.9925)
    # s_5 = +0.2 -> (0.2 + 0.1) / 0.1 = 3 -> p = 1 -> omega_max
    assert controller.update(1.75) == pytest.approx(1.03)


def test_weights_stay_neutral_when_the_reference_slope_is_not_negative():
    controller = PhaseController(warmup_steps=3)
    weights = [controller.update(h) for h in (1.0, 1.1, 1.2, 1.1, 0.9, 0.8)]
    assert weights == [1.0] * 6
    assert controller.is_reference_unusable


def test_deactivation_is_permanent():
    # gate 0.5 * h_ref = 0.45; beta_run = 0 makes the EMA the entropy itself
    controller = PhaseController(warmup_steps=2, beta_warm=0.0, beta_run=0.0, gate_ratio=0.5)
    for h in (1.0, 0.9, 0.4):
        controller.update(h)
    assert not controller.active
    assert controller.update(0.85) == 1.0
    assert not controller.active


def test_a_step_without_entropy_is_refused_and_changes_nothing():
    controller = PhaseController()
    controller.update(1.0)
    with pytest.raises(ValueError, match="step 2"):
        controller.update(math.nan)
    assert controller.step == 1
    assert controller.slope == 0.0


@pytest.mark.parametrize(
    "wrong", [{"omega_min": 1.1}, {"beta_run": 1.0}, {"warmup_steps": 0}, {"gate_ratio": -0.1}]
)
def test_settings_outside_their_range_are_refused(wrong):
    with pytest.raises(ValueError, match="expected"):
        PhaseController(**wrong)


def test_reweight_by_hand():
    # omega_neg = 0.8 -> omega_pos = 1.25. Row 1: P = (+, -, 0) -> 2 * 1.25, -1 * 0.8, 3
    advantages = torch.tensor([[2.0, -1.0, 3.0]])
    polarity = torch.tensor([[0.1, -0.2, 0.0]])
    assert reweight(advantages, polarity, 0.8).tolist() == [[2.5, pytest.approx(-0.8), 3.0]]


def test_omega_one_is_dapo():
    advantages = torch.randn(3, 5)
    assert torch.equal(reweight(advantages, torch.randn(3, 5), 1.0), advantages)


def test_state_survives_a_json_round_trip_bit_for_bit():
    series = falling_then_flat_then_collapsing(random.Random(7))
    whole, first = PapoPolarity(), PapoPolarity()
    weights = [whole.controller.update(h) for h in series]
    for h in series[:33]:
        first.controller.update(h)
    second = PapoPolarity()
    second.load_state_dict(json.loads(json.dumps(first.state_dict())))
    assert [second.controller.update(h) for h in series[33:]] == weights[33:]
    assert second.state_dict() == whole.state_dict()


def test_state_of_other_settings_or_with_other_keys_is_refused():
    state = PapoPolarity(omega_max=1.02).state_dict()
    with pytest.raises(ValueError, match=r"omega_max=1\.02"):
        PapoPolarity().load_state_dict(state)
    del state["slope"]
    with pytest.raises(ValueError, match="keys"):
        PapoPolarity().load_state_dict(state)
