"""The cases of tests/unit/test_triton_stats.py: the Triton kernels against the float64 reference.

Collected there on a GPU; without one run in Triton's interpreter, by a process of their own, since the
interpreter is chosen before the kernels are defined.
"""

import math
from collections.abc import Iterable

import pytest
import torch
from exact_stats import exact_stats

from entrobench.kernels.reference import reference_stats
from entrobench.kernels.token_stats import TokenStats
from entrobench.kernels.triton_stats import triton_gradient, triton_stats, triton_stats_from_hidden

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
DTYPES = [torch.float32, torch.bfloat16, torch.float16]


def random(*shape: int, seed: int = 0, scale: float = 3.0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)) * scale


def from_logits(logits: torch.Tensor, tokens: torch.Tensor, temperature: torch.Tensor | float) -> TokenStats:
    found = triton_stats(logits.to(DEVICE), tokens.to(DEVICE), temperature)
    return TokenStats(*(field.cpu() for field in found[:4]))


def from_hidden(logits: torch.Tensor, tokens: torch.Tensor, temperature: torch.Tensor | float) -> TokenStats:
    """The fused kernel on hidden states and weights whose product is exactly these logits.

    A masked logit comes in through the bias, so masks have to be those of every row.
    """
    masked_V = logits[:1].isinf().any(0)
    hidden = torch.eye(len(logits), dtype=logits.dtype)
    weight = logits.masked_fill(masked_V, 0.0).T.contiguous()
    bias = torch.zeros(logits.shape[1]).masked_fill(masked_V, -math.inf)
    moved = (tensor.to(DEVICE) for tensor in (hidden, weight, tokens))
    found = triton_stats_from_hidden(*moved, temperature, bias.to(DEVICE))
    return TokenStats(*(field.cpu() for field in found))


KERNELS = pytest.mark.parametrize("kernel", [from_logits, from_hidden])


def assert_close(found: TokenStats, logits: torch.Tensor, tokens: torch.Tensor, temperature: object) -> None:
    """Within fp32 rounding of the reference in float64."""
    assert_near(found, reference_stats(logits.double(), tokens, temperature))


def assert_near(found: TokenStats, truths: Iterable[torch.Tensor]) -> None:
    """Within a relative 2e-5, however small."""
    for name, field, truth in zip(TokenStats._fields, found, truths, strict=True):
        assert field.dtype == torch.float32
        difference = ((field - truth).abs() / truth.abs().clamp(min=1e-30)).nan_to_num(0.0)  # -inf - -inf
        assert (difference < 2e-5).all(), (name, field, truth)
        assert (field.isfinite() == truth.isfinite()).all(), (name, field, truth)


@KERNELS
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("vocabulary", [1, 5, 64, 299])
def test_sizes_off_the_blocks_and_temperature_per_row(kernel, dtype, vocabulary):
    logits = random(7, vocabulary, seed=vocabulary).to(dtype)
    tokens = torch.arange(7) * 41 % vocabulary
    temperature = torch.tensor([0.6, 1.0, 1.0, 0.3, 2.0, 1.0, 1.3])
    assert_close(kernel(logits, tokens, temperature), logits, tokens, temperature)


@KERNELS
@pytest.mark.parametrize("peak", [0, 63, 64, 150, 298])
def test_near_deterministic_rows_keep_their_digits(kernel, peak):
    """H and t2 of 1e-24, in relative terms; the largest logit in the first, a later, the last block."""
    logits = random(4, 299, scale=0.5)
    logits[:, peak] += 60
    tokens = torch.tensor([peak, (peak + 1) % 299, peak, 7])
    found = kernel(logits, tokens, 1.0)
    assert_near(found, exact_stats(logits, tokens))
    assert 0 < found.entropy.max() < 1e-20


@KERNELS
def test_uniform_rows(kernel):
    found = kernel(torch.full((3, 299), 4.0), torch.tensor([0, 100, 298]), 0.7)
    assert torch.allclose(found.entropy, torch.tensor(math.log(299.0)))
    assert torch.allclose(found.logp, -torch.tensor(math.log(299.0)))
    assert torch.allclose(found.sum_p2, torch.tensor(1 / 299))
    assert (found.t2 == 0).all()


@KERNELS
def test_two_equal_largest_logits_in_one_block_and_in_two(kernel):
    logits = random(4, 299, scale=0.5)
    for row, (one, other) in enumerate([(3, 5), (3, 250), (0, 298), (70, 131)]):
        logits[row, [one, other]] = 40.0
    tokens = torch.tensor([3, 250, 0, 7])
    assert_near(kernel(logits, tokens, 1.0), exact_stats(logits, tokens))


@KERNELS
@pytest.mark.parametrize("masked", [slice(0, 1), slice(0, 130), slice(64, 298), slice(200, 299)])
def test_masked_tokens_count_for_nothing(kernel, masked):
    """Also blocks and splits that hold nothing else; a masked token that was sampled has log p = -inf."""
    logits = random(4, 299)
    logits[:, masked] = -math.inf
    kept = torch.isfinite(logits[0]).nonzero()[:, 0]
    tokens = torch.stack([kept[0], kept[-1], kept[0], torch.tensor(masked.start)])
    found = kernel(logits, tokens, 0.9)
    assert_close(found, logits, tokens, 0.9)
    assert found.logp[3] == -math.inf


def test_a_broken_logit_shows_and_a_token_outside_reads_nothing():
    logits = random(3, 70)
    logits[1, 40] = math.nan
    found = from_logits(logits, torch.tensor([0, 0, 70]), 1.0)
    assert torch.isnan(torch.stack(found)[:, 1]).all()
    assert torch.isnan(found.logp).tolist() == [False, True, True]
    assert torch.isfinite(found.entropy[2])


def test_rows_of_a_larger_tensor_are_read_in_place():
    wide = random(6, 400)
    logits = wide[::2, 50:249]
    tokens = torch.tensor([1, 198, 7])
    found = from_logits(wide.to(DEVICE)[::2, 50:249], tokens, 1.0)
    assert_close(found, logits, tokens, 1.0)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    ("rows", "depth", "vocabulary"), [(1, 1, 3), (8, 48, 299), (5, 33, 64), (3, 64, 130), (40, 20, 70)]
)
@pytest.mark.parametrize("with_bias", [False, True])
def test_hidden_states(dtype, rows, depth, vocabulary, with_bias):
    hidden = random(rows, depth, scale=1.0).to(dtype)
    weight = random(vocabulary, depth, seed=1, scale=0.5).to(dtype)
    bias = random(vocabulary, seed=2).to(dtype) if with_bias else None
    tokens = torch.arange(rows) * 77 % vocabulary
    temperature = torch.linspace(0.5, 1.5, rows)
    logits = hidden.double() @ weight.double().T + (0 if bias is None else bias.double())
    moved = (tensor.to(DEVICE) for tensor in (hidden, weight, tokens))
    found = triton_stats_from_hidden(*moved, temperature, bias if bias is None else bias.to(DEVICE))
    assert_close(TokenStats(*(field.cpu() for field in found)), logits, tokens, temperature)


def test_hidden_states_of_other_strides_and_a_token_outside():
    hidden = random(10, 60, scale=1.0)[::2, :20]
    weight = random(99, 50, seed=1)[:, :20]
    tokens = torch.tensor([0, 98, 5, 6, 7])
    found = triton_stats_from_hidden(hidden.to(DEVICE), weight.to(DEVICE), tokens.to(DEVICE), 1.0)
    assert_close(TokenStats(*(f.cpu() for f in found)), hidden.double() @ weight.double().T, tokens, 1.0)
    found = triton_stats_from_hidden(hidden.to(DEVICE), weight.to(DEVICE), tokens.to(DEVICE) + 1, 1.0)
    assert torch.isnan(found[0]).tolist() == [False, True, False, False, False]


def gradients(
    logits: torch.Tensor,
    tokens: torch.Tensor,
    temperature: torch.Tensor | float,
    weights: tuple[torch.Tensor, torch.Tensor],
) -> tuple[torch.Tensor, torch.Tensor]:
    """Of sum(weights . (logp, entropy)): the kernel's, and float64 autograd's of the definition."""
    moved = (logits.to(DEVICE), tokens.to(DEVICE), temperature)
    found = triton_gradient(*moved, triton_stats(*moved), *(weight.to(DEVICE) for weight in weights))
    exact = logits.double().requires_grad_()
    logp_NV = torch.log_softmax(exact / torch.as_tensor(temperature).double().reshape(-1, 1), -1)
    entropy_N = -(logp_NV.exp() * logp_NV.masked_fill(logp_NV.isinf(), 0.0)).sum(-1)
    loss = weights[0].double() @ logp_NV.gather(1, tokens[:, None])[:, 0] + weights[1].double() @ entropy_N
    return found.cpu(), torch.autograd.grad(loss, exact)[0]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("vocabulary", [1, 5, 64, 299])
def test_the_gradient(dtype, vocabulary):
    logits = random(7, vocabulary, seed=vocabulary).to(dtype)
    tokens = torch.arange(7) * 41 % vocabulary
    temperature = torch.tensor([0.6, 1.0, 1.0, 0.3, 2.0, 1.0, 1.3])
    found, exact = gradients(logits, tokens, temperature, (random(7, seed=1), random(7, seed=2)))
    assert found.dtype == dtype
    assert torch.allclose(found.double(), exact, rtol=2 * torch.finfo(dtype).eps, atol=5e-6)


def test_the_gradient_of_masked_and_strided_rows_and_of_rows_that_it_does_not_reach():
    logits = random(8, 400)[::2, 50:249]
    logits[:, 60:130] = -math.inf
    logits[3, 5] = math.nan
    tokens = torch.tensor([0, 198, 7, 8])
    weights = (torch.tensor([1.0, 0.0, -2.0, 0.0]), torch.tensor([0.5, 1.0, 0.0, 0.0]))
    found, exact = gradients(logits, tokens, 0.7, weights)
    assert torch.allclose(found[:3].double(), exact[:3], rtol=1e-5, atol=2e-6)
    assert (found[:3, 60:130] == 0).all()
    assert (found[3] == 0).all()


def test_the_gradient_of_a_near_deterministic_row_keeps_its_digits():
    logits = random(1, 299, scale=0.5)
    logits[:, 150] += 60
    found, _ = gradients(logits, torch.tensor([150]), 1.0, (torch.ones(1), torch.zeros(1)))
    others = (logits[0].double() - logits[0, 150]).exp()
    others[150] = 0
    assert found[0, 150].item() == pytest.approx(others.sum().item(), rel=2e-5)
