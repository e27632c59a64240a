"""Alignment of the engine's token statistics with the tokens that they are about, in both of verl's batch
layouts.
"""

import pytest
import torch
from tensordict import TensorDict
from verl.utils import tensordict_utils as tu
from verl.workers.utils.padding import response_from_nested

from entrobench.kernels.token_stats import token_stats
from entrobench.training.engine import STAT_FIELDS, TokenStatsEngine

pytestmark = pytest.mark.slow

VOCABULARY = 17
# prompt and response lengths of four sequences; the third is as short as one of verl's padding rows
LENGTHS = [(3, 5), (6, 2), (1, 1), (2, 9)]


class Engine(TokenStatsEngine):
    """TokenStatsEngine without a model: outputs are handed in."""

    def __init__(self) -> None:
        self.engine_config = None

    def _gather_and_unpad_packed(self, tensor: torch.Tensor, pad_size: int) -> torch.Tensor:
        return tensor[: tensor.shape[0] - pad_size]


def make_micro_batch(remove_padding: bool) -> tuple[TensorDict, list[torch.Tensor], torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    sequences = [torch.randint(VOCABULARY, (p + r,), generator=generator) for p, r in LENGTHS]
    logits = [torch.randn(len(s), VOCABULARY, generator=generator) * 3 for s in sequences]
    temperature = torch.tensor([1.0, 0.7, 1.0, 1.3])
    batch = TensorDict(
        {"input_ids": torch.nested.as_nested_tensor(sequences, layout=torch.jagged)},
        batch_size=len(sequences),
    )
    tu.assign_non_tensor(batch, use_remove_padding=remove_padding)
    return batch, logits, temperature


@pytest.mark.parametrize("pad_size", [0, 3])
@pytest.mark.parametrize("remove_padding", [True, False])
def test_each_response_token_gets_the_statistics_of_the_state_that_predicted_it(remove_padding, pad_size):
    batch, logits, temperature = make_micro_batch(remove_padding)
    lengths = [len(x) for x in logits]
    packed_ids = batch["input_ids"].values()
    arguments = {"input_ids_rmpad_rolled": torch.roll(packed_ids, -1), "pad_size": pad_size}
    if remove_padding:
        padding = torch.zeros(pad_size, VOCABULARY)
        model_logits = torch.cat([*logits, padding])[None]
        arguments["input_ids_rmpad_rolled"] = torch.cat(
            [arguments["input_ids_rmpad_rolled"], torch.zeros(pad_size, dtype=torch.long)]
        )
        arguments["temperature_rmpad"] = torch.cat(
            [temperature.repeat_interleave(torch.tensor(lengths)), torch.ones(pad_size)]
        )
    else:
        model_logits = torch.full(
            (len(logits), max(lengths) + pad_size, VOCABULARY), 1e4
        )  # padding is nonsense
        for row, x in enumerate(logits):
            model_logits[row, : len(x)] = x
        arguments["temperature"] = temperature
    stats = Engine()._token_stats(model_logits, arguments, batch)

    mask = torch.nested.as_nested_tensor([torch.ones(r) for _, r in LENGTHS], layout=torch.jagged)
    offsets = batch["input_ids"].offsets()
    for name in STAT_FIELDS:
        field = torch.nested.nested_tensor_from_jagged(getattr(stats, name), offsets)
        response = response_from_nested(field, mask)
        for row, (prompt, length) in enumerate(LENGTHS):
            # response token j of a sequence is predicted at position prompt + j - 1
            states = logits[row][prompt - 1 : prompt + length - 1]
            tokens = batch["input_ids"][row][prompt : prompt + length]
            expected = token_stats(states, tokens, temperature[row].expand(length))
            assert torch.allclose(response[row], getattr(expected, name), atol=1e-6), (name, row)


def test_fused_kernels_are_refused_because_they_make_no_logits():
    batch, _, _ = make_micro_batch(remove_padding=True)
    tu.assign_non_tensor(batch, use_fused_kernels=True, token_stats=True)
    with pytest.raises(ValueError, match="use_fused_kernels=False"):
        Engine().prepare_model_outputs(None, {}, batch, None)
