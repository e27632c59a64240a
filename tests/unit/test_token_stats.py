"""Token statistics by hand, against float64, against autograd, and against measured entropy changes (PAPO,
Theorem 1). The Triton kernels have test_triton_stats.py.
"""

import math
from collections.abc import Callable, Iterable

import pytest
import torch
from exact_stats import exact_stats

import entrobench.kernels
from entrobench.kernels import chunked
from entrobench.kernels.chunked import chunked_stats
from entrobench.kernels.reference import reference_stats
from entrobench.kernels.token_stats import TokenStats, token_stats, token_stats_from_hidden

pytestmark = pytest.mark.slow


def from_hidden(logits: torch.Tensor, tokens: torch.Tensor, temperature: torch.Tensor | float) -> TokenStats:
    """token_stats_from_hidden of hidden states and weights whose product is exactly these logits."""
    masked_V = logits.isinf().any(0)
    weight = logits.masked_fill(masked_V, 0.0).T
    bias = torch.zeros(logits.shape[1]).masked_fill(masked_V, -math.inf)
    return token_stats_from_hidden(
        torch.eye(len(logits), dtype=logits.dtype), weight, tokens, temperature, bias
    )


IMPLEMENTATIONS = pytest.mark.parametrize("implementation", [token_stats, from_hidden])
Implementation = Callable[[torch.Tensor, torch.Tensor, torch.Tensor | float], TokenStats]


def assert_near(
    found: Iterable[torch.Tensor], truths: Iterable[torch.Tensor], relative: float = 2e-5
) -> None:
    """fp32, and within a relative error however small the value; equal where not finite."""
    for name, field, truth in zip(TokenStats._fields, found, truths, strict=True):
        assert field.dtype == torch.float32
        difference = ((field - truth).abs() / truth.abs().clamp(min=1e-30)).nan_to_num(0.0)
        assert (difference < relative).all(), (name, field, truth)
        assert (field.isfinite() == truth.isfinite()).all(), (name, field, truth)


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


@pytest.mark.parametrize("rows_at_once", [1, 5, 36, 37, 38])
def test_chunking_changes_nothing(rows_at_once):
    logits = torch.randn(37, 13, generator=torch.Generator().manual_seed(2))
    tokens = torch.arange(37) % 13
    temperature = torch.linspace(0.5, 2, 37)
    truth = reference_stats(logits.double(), tokens, temperature)
    assert_near(chunked_stats(logits, tokens, temperature, 4 * 13 * rows_at_once), truth)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_hidden_states_in_blocks_of_rows_and_of_columns(monkeypatch, dtype):
    generator = torch.Generator().manual_seed(5)
    hidden = torch.randn(23, 8, generator=generator).to(dtype)
    weight = torch.randn(31, 8, generator=generator).to(dtype)
    bias = torch.randn(31, generator=generator)
    tokens = torch.arange(23)
    temperature = torch.linspace(0.5, 2, 23)
    monkeypatch.setattr(chunked, "LOGITS_BLOCK_BYTES", 4 * 31 * 10)
    monkeypatch.setattr(chunked, "WEIGHT_BLOCK_BYTES", 4 * 8 * 7)
    logits = hidden.double() @ weight.double().T
    found = token_stats_from_hidden(hidden, weight, tokens, temperature, bias)
    assert_near(found, reference_stats(logits + bias, tokens, temperature), 1e-4)
    found = token_stats_from_hidden(hidden, weight, tokens, 0.8)
    assert_near(found, reference_stats(logits, tokens, 0.8), 1e-4)


def test_temperature_is_applied_per_row():
    logits = torch.randn(2, 5)
    both = token_stats(logits.repeat(2, 1)[:2], torch.tensor([0, 1]), torch.tensor([1.0, 0.5]))
    halved = token_stats(logits / torch.tensor([[1.0], [0.5]]), torch.tensor([0, 1]), torch.ones(2))
    assert torch.allclose(both.entropy, halved.entropy)


@IMPLEMENTATIONS
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_each_against_float64(implementation: Implementation, dtype: torch.dtype):
    logits = (torch.randn(9, 503, generator=torch.Generator().manual_seed(4)) * 5).to(dtype)
    tokens = torch.arange(9) * 50
    temperature = torch.linspace(0.4, 1.6, 9)
    truth = reference_stats(logits.double(), tokens, temperature)
    assert_near(implementation(logits, tokens, temperature), truth)


@IMPLEMENTATIONS
def test_near_deterministic_rows_keep_their_digits(implementation: Implementation):
    """Gaps of 20, 40, 60: H and t2 down to 1e-24, below what fp32 sums of p near 1 can hold."""
    logits = torch.randn(6, 300, generator=torch.Generator().manual_seed(6)) * 0.5
    peaks = torch.tensor([0, 299, 150, 7, 8, 9])
    logits[torch.arange(6), peaks] += torch.tensor([20.0, 40, 60, 60, 60, 60])
    tokens = torch.tensor([0, 299, 150, 0, 8, 299])
    found = implementation(logits, tokens, 1.0)
    assert_near(found, exact_stats(logits, tokens))
    assert 0 < found.entropy[2] < 1e-20
    assert 0 < found.t2[2] < 1e-20


@IMPLEMENTATIONS
def test_two_equal_largest_logits(implementation: Implementation):
    logits = torch.randn(3, 300, generator=torch.Generator().manual_seed(6)) * 0.5
    logits[:, [3, 250]] = 40.0
    tokens = torch.tensor([3, 250, 7])
    assert_near(implementation(logits, tokens, 1.0), exact_stats(logits, tokens))


@IMPLEMENTATIONS
def test_uniform_rows(implementation: Implementation):
    stats = implementation(torch.full((2, 1000), -3.0), torch.tensor([0, 999]), 0.5)
    assert torch.allclose(stats.entropy, torch.tensor(math.log(1000)))
    assert torch.allclose(stats.sum_p2, torch.tensor(1e-3))
    assert (stats.t2 == 0).all()


@IMPLEMENTATIONS
def test_masked_tokens_count_for_nothing(implementation: Implementation):
    logits = torch.randn(3, 50, generator=torch.Generator().manual_seed(7)) * 2
    logits[:, 10:40] = -math.inf
    tokens = torch.tensor([0, 49, 20])
    stats = implementation(logits, tokens, 0.7)
    assert_near(stats, reference_stats(logits.double(), tokens, 0.7))
    assert stats.logp[2] == -math.inf


def test_a_broken_logit_shows():
    stats = token_stats(torch.tensor([[0.0, math.nan, 1.0], [0.0, 1.0, 2.0]]), torch.tensor([0, 0]), 1.0)
    assert torch.isnan(torch.stack(stats)).tolist() == [[True, False]] * 4


def test_t2_is_the_covariance_of_p_and_log_p():
    """Cov_p(p, log p) = E[p log p] - E[p] E[log p], expectations under p, in float64."""
    logits = torch.randn(50, 40, generator=torch.Generator().manual_seed(8), dtype=torch.float64) * 2
    logp = logits.log_softmax(-1)
    p = logp.exp()
    covariance = (p * p * logp).sum(-1) - (p * p).sum(-1) * (p * logp).sum(-1)
    tokens = torch.zeros(50, dtype=torch.long)
    assert torch.allclose(reference_stats(logits, tokens, 1.0)[3], covariance, rtol=1e-10)
    assert torch.allclose(token_stats(logits, tokens, 1.0).t2.double(), covariance, rtol=1e-4)


def test_invariants_on_ten_thousand_rows_of_several_scales():
    generator = torch.Generator().manual_seed(9)
    scale = torch.tensor([1e-6, 1e-3, 0.1, 1, 3, 10, 30, 100, 1e3, 1e6]).repeat(1000)[:, None]
    logits = torch.randn(10_000, 64, generator=generator) * scale
    tokens = torch.randint(64, (10_000,), generator=generator)
    stats = token_stats(logits, tokens, 1.0)
    assert all(torch.isfinite(field).all() for field in stats)
    assert (stats.logp <= 0).all()
    assert ((stats.entropy >= 0) & (stats.entropy <= math.log(64))).all()
    assert (stats.t2 >= 0).all()
    assert ((stats.sum_p2 >= 1 / 64 - 1e-6) & (stats.sum_p2 <= 1 + 1e-6)).all()


def test_no_gradient_and_the_logits_are_left_as_they_were():
    logits = torch.randn(4, 6, requires_grad=True)
    before = logits.detach().clone()
    stats = token_stats(logits, torch.zeros(4, dtype=torch.long), torch.ones(4))
    assert not any(field.requires_grad for field in stats)
    assert torch.equal(logits.detach(), before)


@IMPLEMENTATIONS
def test_no_rows(implementation: Implementation):
    stats = implementation(torch.zeros(0, 5), torch.zeros(0, dtype=torch.long), torch.ones(0))
    assert [tuple(field.shape) for field in stats] == [(0,)] * 4


def test_both_are_exported():
    assert entrobench.kernels.token_stats is token_stats
    assert entrobench.kernels.TokenStats is TokenStats


@pytest.mark.parametrize("token", [-1, 4])
@IMPLEMENTATIONS
def test_tokens_outside_the_vocabulary_are_refused(implementation: Implementation, token: int):
    with pytest.raises(ValueError, match=f"expected token ids from 0 to 3; found {token} to {token}"):
        implementation(torch.zeros(1, 4), torch.tensor([token]), 1.0)


def test_tokens_that_are_no_integers_are_refused():
    with pytest.raises(ValueError, match="expected integer token ids"):
        token_stats(torch.zeros(1, 4), torch.zeros(1), 1.0)


@pytest.mark.parametrize("logits", [(4,), (3, 0), (2, 3, 4)])
def test_logits_that_are_no_matrix_are_refused(logits):
    with pytest.raises(ValueError, match="expected logits"):
        token_stats(torch.zeros(logits), torch.zeros(logits[0], dtype=torch.long), 1.0)


@pytest.mark.parametrize("temperature", [(2,), (3, 1), ()])
@IMPLEMENTATIONS
def test_a_temperature_of_another_shape_is_refused(implementation: Implementation, temperature):
    with pytest.raises(ValueError, match="expected temperature"):
        implementation(torch.zeros(3, 4), torch.zeros(3, dtype=torch.long), torch.ones(temperature))


@pytest.mark.parametrize(
    ("hidden", "weight", "tokens", "bias"),
    [
        ((3, 5), (7, 4), (3,), None),
        ((3, 5), (7, 5), (2,), None),
        ((3, 5), (7, 5), (3,), (5,)),
        ((3, 5), (0, 5), (3,), None),
        ((5,), (7, 5), (5,), None),
    ],
)
def test_hidden_states_and_weights_that_do_not_agree_are_refused(hidden, weight, tokens, bias):
    with pytest.raises(ValueError, match="expected hidden"):
        token_stats_from_hidden(
            torch.zeros(hidden),
            torch.zeros(weight),
            torch.zeros(tokens, dtype=torch.long),
            1.0,
            bias and torch.zeros(bias),
        )


def test_shapes_that_do_not_agree_are_refused():
    with pytest.raises(ValueError, match="expected logits"):
        token_stats(torch.zeros(3, 4), torch.zeros(2, dtype=torch.long), torch.ones(3))
