"""Gradient of log p and entropy: by gradcheck, against verl's own, and in the corners of the softmax."""

import math

import pytest
import torch
from verl.utils.torch_functional import entropy_from_logits, logprobs_from_logits

from entrobench.kernels import chunked, log_prob_and_entropy, token_stats

pytestmark = pytest.mark.slow


def random(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) * 2


@pytest.mark.parametrize("rows_at_once", [1, 2, 5])
def test_gradcheck(monkeypatch, rows_at_once):
    monkeypatch.setattr(chunked, "CPU_BUFFER_BYTES", 8 * 7 * rows_at_once)
    logits = random(5, 7).requires_grad_()
    tokens = torch.tensor([0, 6, 3, 3, 1])
    for temperature in (0.7, torch.linspace(0.5, 2, 5, dtype=torch.float64)):
        assert torch.autograd.gradcheck(lambda x, t=temperature: log_prob_and_entropy(x, tokens, t), logits)
        for field in (0, 1):
            assert torch.autograd.gradcheck(
                lambda x, t=temperature, f=field: log_prob_and_entropy(x, tokens, t)[f], logits
            )


@pytest.mark.parametrize("with_entropy", [True, False])
def test_values_and_gradient_are_verls_on_fp32_logits(with_entropy):
    logits = random(6, 5000).float()
    tokens = torch.arange(6) * 800
    weight = random(2, 6, seed=1).float()
    ours_logits, verl_logits = logits.clone().requires_grad_(), logits.clone().requires_grad_()
    ours = log_prob_and_entropy(ours_logits, tokens, 1.0)
    verl = logprobs_from_logits(verl_logits, tokens), entropy_from_logits(verl_logits)
    for pair in (ours, verl):
        (pair[0] @ weight[0] + (pair[1] @ weight[1] if with_entropy else 0)).backward()
    for found, expected in zip(ours, verl, strict=True):
        assert found.dtype == torch.float32
        assert torch.allclose(found, expected, rtol=1e-6, atol=1e-6)
    assert torch.allclose(ours_logits.grad, verl_logits.grad, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32])
def test_fp32_inside_whatever_the_dtype_and_the_values_of_token_stats_bit_for_bit(dtype):
    logits = random(40, 1001).to(dtype)
    tokens = torch.arange(40)
    temperature = torch.linspace(0.5, 1.5, 40)
    leaf = logits.clone().requires_grad_()
    logp, entropy = log_prob_and_entropy(leaf, tokens, temperature)
    stats = token_stats(logits, tokens, temperature)
    assert torch.equal(logp, stats.logp)
    assert torch.equal(entropy, stats.entropy)
    (logp.sum() - 0.2 * entropy.sum()).backward()
    exact = logits.double().requires_grad_()
    logp, entropy = log_prob_and_entropy(exact, tokens, temperature.double())
    (logp.sum() - 0.2 * entropy.sum()).backward()
    assert leaf.grad.dtype == dtype
    assert torch.allclose(leaf.grad.double(), exact.grad, rtol=torch.finfo(dtype).eps, atol=2e-6)


def test_a_masked_vocabulary_and_a_masked_token():
    logits = random(3, 50).float()
    logits[:, 10:40] = -math.inf
    logits.requires_grad_()
    logp, entropy = log_prob_and_entropy(logits, torch.tensor([0, 49, 20]), 0.7)
    assert logp[2] == -math.inf
    (logp[:2].sum() + entropy.sum()).backward()
    assert logits.grad.isfinite().all()
    assert (logits.grad[:, 10:40] == 0).all()


def test_a_near_deterministic_row_keeps_the_digits_of_its_gradient():
    """1 - p = 1e-24 of the sampled token, which a difference of fp32 numbers near 1 could not hold."""
    logits = random(1, 300).float()
    logits[0, 7] += 60
    exact = logits.double()
    others = (exact - exact[0, 7]).exp()
    others[0, 7] = 0
    logp, _ = log_prob_and_entropy(logits.requires_grad_(), torch.tensor([7]), 1.0)
    logp.sum().backward()
    assert logits.grad[0, 7].item() == pytest.approx(others.sum().item(), rel=2e-5)
    assert 0 < logits.grad[0, 7] < 1e-18


def test_rows_that_no_gradient_reaches_are_zero_whatever_they_hold():
    logits = random(3, 9).float()
    logits[1] = math.nan
    logits.requires_grad_()
    logp, entropy = log_prob_and_entropy(logits, torch.tensor([0, 1, 2]), 1.0)
    (logp[0] + entropy[2]).backward()
    assert (logits.grad[1] == 0).all()
    assert (logits.grad[[0, 2]] != 0).any(1).all()


def test_rows_of_a_larger_tensor_and_no_rows():
    wide = random(6, 40).requires_grad_()
    tokens = torch.tensor([1, 18, 7])
    assert torch.autograd.gradcheck(lambda x: log_prob_and_entropy(x[::2, 5:24], tokens, 1.0), wide)
    empty = torch.zeros(0, 5, requires_grad=True)
    sum(f.sum() for f in log_prob_and_entropy(empty, tokens[:0], torch.ones(0))).backward()
    assert empty.grad.shape == (0, 5)


def test_no_gradient_flows_to_the_temperature_and_the_gradient_has_none():
    logits, temperature = random(2, 4).requires_grad_(), torch.ones(2, requires_grad=True)
    logp, _ = log_prob_and_entropy(logits, torch.tensor([0, 1]), temperature)
    weight = torch.ones(2, dtype=torch.float64, requires_grad=True)
    (gradient,) = torch.autograd.grad(logp @ weight, logits, create_graph=True)
    assert temperature.grad is None
    with pytest.raises(RuntimeError, match="once_differentiable"):
        gradient.sum().backward()


@pytest.mark.parametrize("token", [-1, 4])
def test_tokens_outside_the_vocabulary_are_refused(token):
    with pytest.raises(
        ValueError, match=f"log_prob_and_entropy: expected token ids from 0 to 3; found {token}"
    ):
        log_prob_and_entropy(torch.zeros(1, 4), torch.tensor([token]), 1.0)
