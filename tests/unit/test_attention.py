"""Packed attention against a dense mask; its call on CUDA against torch's own operator."""

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.nn.attention import varlen

from entrobench.kernels.attention import packed_attention

LENGTHS = [5, 1, 9, 3]
SCALE = 0.3


def make_packed(dtype, heads=4, key_heads=2, width=8):
    generator = torch.Generator().manual_seed(1)

    def tensor(heads):
        values = torch.randn(sum(LENGTHS), heads, width, generator=generator, dtype=torch.float64)
        return values.to(dtype).requires_grad_()

    starts = torch.tensor([0, *LENGTHS]).cumsum(0).to(torch.int32)
    return tensor(heads), tensor(key_heads), tensor(key_heads), starts


def dense(query, key, value):
    """Scores of all pairs of tokens, minus infinity where the pair is of two sequences or looks ahead."""
    group = query.shape[1] // key.shape[1]
    keys, values = (tensor.repeat_interleave(group, 1) for tensor in (key, value))
    sequence = torch.arange(len(LENGTHS)).repeat_interleave(torch.tensor(LENGTHS))
    position = torch.arange(len(sequence))
    sees = (sequence[:, None] == sequence) & (position[:, None] >= position)
    scores = torch.einsum("thd,shd->hts", query, keys) * SCALE
    return torch.einsum("hts,shd->thd", scores.masked_fill(~sees, -torch.inf).softmax(-1), values)


@pytest.mark.parametrize("key_heads", [1, 2, 4])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-12), (torch.float32, 1e-5)])
def test_output_and_gradients_are_those_of_the_dense_mask(dtype, tolerance, key_heads):
    query, key, value, starts = make_packed(dtype, key_heads=key_heads)
    out = packed_attention(query, key, value, starts, max(LENGTHS), SCALE)
    expected = dense(query, key, value)
    assert torch.allclose(out, expected, rtol=0, atol=tolerance)
    weight = torch.randn(out.shape, generator=torch.Generator().manual_seed(2), dtype=torch.float64).to(dtype)
    found = torch.autograd.grad((out * weight).sum(), (query, key, value))
    wanted = torch.autograd.grad((expected * weight).sum(), (query, key, value))
    for one, other in zip(found, wanted, strict=True):
        assert torch.allclose(one, other, rtol=0, atol=10 * tolerance)


def test_gradcheck():
    query, key, value, starts = make_packed(torch.float64)
    assert torch.autograd.gradcheck(
        lambda *tensors: packed_attention(*tensors, starts, max(LENGTHS), SCALE), (query, key, value)
    )


def test_cuda_is_asked_as_torch_wants_to_be_asked():
    """torch's own operator, on tensors that have a device and a shape and no memory."""
    with FakeTensorMode():
        query = torch.empty(18, 4, 16, device="cuda", dtype=torch.bfloat16)
        key = torch.empty(18, 2, 16, device="cuda", dtype=torch.bfloat16)
        starts = torch.empty(5, device="cuda", dtype=torch.int32)
        out = packed_attention(query, key, key, starts, 9, SCALE)
        assert (out.shape, out.dtype, out.device.type) == (query.shape, query.dtype, "cuda")
        with pytest.raises(ValueError, match="expected bf16 or fp16"):
            packed_attention(query.float(), key.float(), key.float(), starts, 9, SCALE)


def test_torch_without_grouped_heads_gets_them_repeated(monkeypatch):
    """The signature of torch 2.11, which the CUDA images pin."""
    asked = {}

    def varlen_attn(query, key, value, cu_seq_q, cu_seq_k, max_q, max_k, *, scale, window_size):
        asked.update(key=key.shape, value=value.shape, max_q=max_q, scale=scale, window_size=window_size)
        return torch.empty_like(query)

    monkeypatch.setattr(varlen, "varlen_attn", varlen_attn)
    with FakeTensorMode():
        query = torch.empty(18, 4, 16, device="cuda", dtype=torch.float16)
        key = torch.empty(18, 2, 16, device="cuda", dtype=torch.float16)
        packed_attention(query, key, key, torch.empty(5, device="cuda", dtype=torch.int32), 9, SCALE)
    assert asked == {
        "key": query.shape,
        "value": query.shape,
        "max_q": 9,
        "scale": SCALE,
        "window_size": (-1, 0),
    }


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda q, k, v, s: (q, k[:-1], v, s), r"key and value \(T, K, D\) of one dtype"),
        (lambda q, k, v, s: (q, k.double(), v, s), "of one dtype"),
        (lambda q, k, v, s: (q[:, :3], k, v, s), "K a divisor of H"),
        (lambda q, k, v, s: (q, k, v, s.long()), "int32"),
        (lambda q, k, v, s: (q, k, v, s[:-1]), "rise from 0 to 18; found"),
        (lambda q, k, v, s: (q, k, v, s.flip(0)), "rise from 0 to 18; found"),
        (lambda q, k, v, s: (q[:0], k[:0], v[:0], s), "expected query"),
    ],
)
def test_arguments_that_do_not_agree_are_refused(change, message):
    query, key, value, starts = make_packed(torch.float32)
    with pytest.raises(ValueError, match=message):
        packed_attention(*change(query, key, value, starts), max(LENGTHS), SCALE)
