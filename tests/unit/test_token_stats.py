"""Token statistics by hand, against autograd, and against measured entropy changes (PAPO, Theorem 1)."""

import math

import pytest
import torch

from entrobench.kernels import token_stats as module
from entrobench.kernels.token_stats import token_stats


def entropy_of(logits: torch.Tensor) -> torch.Tensor:
    logp = torch.log_softmax(logits, -1)
    return -(logp.exp() * logp).sum(-1)


def test_three_tokens_by_hand():
    # p = (.7, .2, .1): H = .7*.3567 + .2*1.6094 + .1*2.3026 = .8018; sum p^2 = .54
    # t1(token 0) = .7 (.8018 - .3567) = .3116
    # t2 = .49 (.8018 - .3567) + .04 (.8018 - 1.6094) + .01 (.8018 - 2.3026) = .2181 - .0323 - .0150 = .1708
    # T = -t1 + t2 = -.1408: reinforcing token 0 contracts entropy
    stats = token_stats(torch.tensor([[0.7, 0.2, 0.1]]).log(), torch.tensor([0]), torch.ones(1))
    assert stats.logp.item() == pytest.approx(math.log(0.7))
    assert stats.entropy.item() == pytest.approx(0.8018, abs=1e-4)
    assert stats.sum_p2.item() == pytest.approx(0.54, abs=1e-6)
    assert stats.t1.item() == pytest.approx(0.3116, abs=1e-4)
    assert stats.t2.item() == pytest.approx(0.1708, abs=1e-4)
    assert stats.tendency.item() == pytest.approx(-0.1408, abs=1e-4)


@pytest.mark.parametrize("advantage", [1.0, -0.7])
def test_polarity_predicts_the_measured_entropy_change_to_first_order(advantage):
    """Proposition 1's update with step eta: (H' - H) / eta -> P = A T; the error falls linearly with eta."""
    generator = torch.Generator().manual_seed(3)
    logits = torch.randn(200, 50, generator=generator, dtype=torch.float64) * 2
    tokens = torch.multinomial(logits.softmax(-1), 1, generator=generator)[:, 0]
    stats = token_stats(logits, tokens, torch.ones(200))
    polarity = advantage * stats.tendency.double()
    one_hot = torch.nn.functional.one_hot(tokens, 50)
    errors = []
    for eta in (1e-2, 1e-3):
        moved = logits + eta * advantage * (one_hot - logits.softmax(-1))
        measured = (entropy_of(moved) - entropy_of(logits)) / eta
        errors.append((measured - polarity).abs().mean().item())
    assert errors[1] < 2e-4
    assert 5 < errors[0] / errors[1] < 20, "the error of a first-order formula is proportional to eta"


def test_polarity_is_the_derivative_of_entropy_along_the_update():
    """dH/deta by autograd, in fp64 (Eq. 6)."""
    logits = torch.randn(40, 9, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    tokens = torch.arange(40) % 9
    direction = torch.nn.functional.one_hot(tokens, 9) - logits.softmax(-1)
    slope = torch.autograd.functional.jvp(entropy_of, logits, direction)[1]
    assert torch.allclose(token_stats(logits, tokens, torch.ones(40)).tendency.double(), slope, atol=2e-6)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_invariants_and_fp32_whatever_the_dtype(dtype):
    logits = (torch.randn(64, 1000, generator=torch.Generator().manual_seed(1)) * 4).to(dtype)
    stats = token_stats(logits, torch.zeros(64, dtype=torch.long), torch.full((64,), 0.7))
    exact = token_stats(logits.double(), torch.zeros(64, dtype=torch.long), torch.full((64,), 0.7))
    for field, reference in zip(stats, exact, strict=True):
        assert field.dtype == torch.float32
        assert torch.allclose(field, reference, rtol=1e-5, atol=1e-6)
    assert (stats.logp <= 0).all()
    assert ((stats.entropy >= 0) & (stats.entropy <= math.log(1000))).all()
    assert (stats.t2 >= 0).all()


def test_a_masked_token_has_probability_zero_and_no_nan():
    logits = torch.tensor([[1.0, 1.0, -math.inf]])
    stats = token_stats(logits, torch.tensor([0]), torch.ones(1))
    assert stats.entropy.item() == pytest.approx(math.log(2))
    assert all(torch.isfinite(field).all() for field in stats)


def test_chunking_changes_nothing(monkeypatch):
    logits = torch.randn(37, 13, generator=torch.Generator().manual_seed(2))
    tokens = torch.arange(37) % 13
    whole = token_stats(logits, tokens, torch.ones(37))
    monkeypatch.setattr(module, "ROWS_PER_CHUNK", 5)
    chunked = token_stats(logits, tokens, torch.ones(37))
    for a, b in zip(whole, chunked, strict=True):
        assert torch.allclose(a, b, rtol=1e-6, atol=1e-7)


def test_temperature_is_applied_per_row():
    logits = torch.randn(2, 5)
    both = token_stats(logits.repeat(2, 1)[:2], torch.tensor([0, 1]), torch.tensor([1.0, 0.5]))
    halved = token_stats(logits / torch.tensor([[1.0], [0.5]]), torch.tensor([0, 1]), torch.ones(2))
    assert torch.allclose(both.entropy, halved.entropy)


def test_shapes_that_do_not_agree_are_refused():
    with pytest.raises(ValueError, match="expected logits"):
        token_stats(torch.zeros(3, 4), torch.zeros(2, dtype=torch.long), torch.ones(3))
