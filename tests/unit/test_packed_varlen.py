"""The trainer's attention in a transformers model: what it refuses, and that no other may step in for it."""

import pytest
import torch
from support import make_model
from transformers import AutoModelForCausalLM, Qwen2Config

from entrobench.errors import ConfigError
from entrobench.training import attention
from entrobench.training.attention import PACKED_VARLEN, packed_boundaries, require_attention

pytestmark = pytest.mark.slow

LENGTHS = [4, 7, 2]


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    folder = tmp_path_factory.mktemp("model")
    make_model(folder, heads=4)
    return {
        name: AutoModelForCausalLM.from_pretrained(folder, attn_implementation=name).double()
        for name in (PACKED_VARLEN, "sdpa")
    }


def make_sequences():
    generator = torch.Generator().manual_seed(0)
    return [torch.randint(3, 200, (length,), generator=generator) for length in LENGTHS]


def packed(sequences, padding=0):
    offsets = torch.tensor([0, *map(len, sequences)]).cumsum(0)
    return {
        "input_ids": torch.nn.functional.pad(torch.cat(sequences), (0, padding))[None],
        "position_ids": torch.cat([*(torch.arange(len(s)) for s in sequences), torch.arange(padding)])[None],
        **packed_boundaries(offsets, padding),
    }


@pytest.mark.parametrize("padding", [0, 3])
def test_packed_sequences_get_the_logits_of_each_alone(models, padding):
    sequences = make_sequences()
    logits = models[PACKED_VARLEN](**packed(sequences, padding)).logits[0]
    alone = torch.cat([models["sdpa"](input_ids=sequence[None]).logits[0] for sequence in sequences])
    assert torch.allclose(logits[: sum(LENGTHS)], alone, rtol=0, atol=1e-10)


def test_without_boundaries_or_as_a_padded_batch_it_is_refused(models):
    batch = torch.nn.utils.rnn.pad_sequence(make_sequences(), batch_first=True)
    for inputs in ({"input_ids": batch}, {"input_ids": batch[:1]}):
        with pytest.raises(ConfigError, match="use_remove_padding: true"):
            models[PACKED_VARLEN](**inputs)


def test_a_sliding_window_is_refused():
    config = Qwen2Config(
        vocab_size=50,
        hidden_size=16,
        intermediate_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=2,
        use_sliding_window=True,
        sliding_window=4,
        max_window_layers=0,
    )
    model = AutoModelForCausalLM.from_config(config, attn_implementation=PACKED_VARLEN)
    with pytest.raises(ConfigError, match="no sliding window"):
        model(**packed([torch.arange(9)]))


def test_autocasts_dtype_is_the_attentions(models, monkeypatch):
    seen = []

    def spy(query, key, value, *rest):
        seen.append({query.dtype, key.dtype, value.dtype})
        return query

    monkeypatch.setattr(attention, "packed_attention", spy)
    model = models[PACKED_VARLEN].float()
    with torch.autocast("cpu", torch.bfloat16):
        model(**packed(make_sequences()))
    models[PACKED_VARLEN].double()
    assert seen == [{torch.bfloat16}] * model.config.num_hidden_layers


def test_an_attention_that_is_not_installed_is_refused_before_transformers_looks_for_it_on_a_hub():
    require_attention("sdpa")
    require_attention(PACKED_VARLEN)
    with pytest.raises(ConfigError, match="needs the package flash_attn, which is not installed"):
        require_attention("flash_attention_2")
