"""Alignment of the engine's token statistics with the tokens that they are about, in both of verl's batch
layouts.
"""

from types import SimpleNamespace

import pytest
import torch
from tensordict import TensorDict
from verl.utils import tensordict_utils as tu
from verl.utils.torch_functional import entropy_from_logits
from verl.workers.engine.fsdp.transformer_impl import FSDPEngineWithLMHead
from verl.workers.utils.padding import response_from_nested

from entrobench.errors import ConfigError
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


def make_inputs(
    remove_padding: bool, pad_size: int
) -> tuple[TensorDict, list[torch.Tensor], torch.Tensor, dict[str, object], torch.Tensor]:
    """The micro-batch, logits and temperature of `make_micro_batch`, with verl's output_args and the model's
    logits in its layout.
    """
    batch, logits, temperature = make_micro_batch(remove_padding)
    lengths = [len(x) for x in logits]
    rolled = torch.roll(batch["input_ids"].values(), -1)
    if remove_padding:
        arguments = {
            "input_ids_rmpad_rolled": torch.cat([rolled, torch.zeros(pad_size, dtype=torch.long)]),
            "temperature_rmpad": torch.cat(
                [temperature.repeat_interleave(torch.tensor(lengths)), torch.ones(pad_size)]
            ),
            "pad_size": pad_size,
        }
        return (
            batch,
            logits,
            temperature,
            arguments,
            torch.cat([*logits, torch.zeros(pad_size, VOCABULARY)])[None],
        )
    # Padding is nonsense
    model_logits = torch.full((len(logits), max(lengths) + pad_size, VOCABULARY), 1e4)
    for row, x in enumerate(logits):
        model_logits[row, : len(x)] = x
    return (
        batch,
        logits,
        temperature,
        {"input_ids_rmpad_rolled": rolled, "temperature": temperature},
        model_logits,
    )


def outputs_of(
    batch: TensorDict, arguments: dict[str, object], logits: torch.Tensor
) -> dict[str, torch.Tensor]:
    return Engine().prepare_model_outputs(SimpleNamespace(logits=logits), arguments, batch, None)


LAYOUTS = pytest.mark.parametrize(
    ("remove_padding", "pad_size"), [(True, 0), (True, 3), (False, 0), (False, 3)]
)


@LAYOUTS
def test_each_response_token_gets_the_statistics_of_the_state_that_predicted_it(remove_padding, pad_size):
    batch, logits, temperature, arguments, model_logits = make_inputs(remove_padding, pad_size)
    tu.assign_non_tensor(batch, token_stats=True)
    with torch.no_grad():
        found = outputs_of(batch, arguments, model_logits)
    assert torch.equal(found["log_probs"].values(), found["stat_logp"].values())

    mask = torch.nested.as_nested_tensor([torch.ones(r) for _, r in LENGTHS], layout=torch.jagged)
    for name, field in STAT_FIELDS.items():
        response = response_from_nested(found[field], mask)
        for row, (prompt, length) in enumerate(LENGTHS):
            # response token j of a sequence is predicted at position prompt + j - 1
            states = logits[row][prompt - 1 : prompt + length - 1]
            tokens = batch["input_ids"][row][prompt : prompt + length]
            expected = token_stats(states, tokens, temperature[row].expand(length))
            assert torch.allclose(response[row], getattr(expected, name), atol=1e-6), (name, row)


@LAYOUTS
def test_outputs_and_gradient_are_those_of_verls_engine_on_fp32_logits(remove_padding, pad_size):
    batch, _, _, arguments, model_logits = make_inputs(remove_padding, pad_size)
    tu.assign_non_tensor(batch, calculate_entropy=True)
    ours_logits = model_logits.clone().requires_grad_()
    verl_logits = model_logits.clone().requires_grad_()
    ours = outputs_of(batch, arguments, ours_logits)
    engine = Engine()
    engine.engine_config = SimpleNamespace(
        entropy_checkpointing=False, entropy_from_logits_with_chunking=False
    )
    engine.compute_entropy_from_logits = entropy_from_logits
    verl = FSDPEngineWithLMHead.prepare_model_outputs(
        engine, SimpleNamespace(logits=verl_logits), arguments, batch, None
    )
    assert ours.keys() == verl.keys()
    for name in ours:
        assert torch.equal(ours[name].offsets(), verl[name].offsets())
        assert torch.allclose(ours[name].values(), verl[name].values(), atol=2e-6), name
    weight = torch.randn(len(ours["log_probs"].values()), generator=torch.Generator().manual_seed(1))
    for outputs in (ours, verl):
        ((outputs["log_probs"].values() - 0.3 * outputs["entropy"].values()) * weight).sum().backward()
    assert torch.allclose(ours_logits.grad, verl_logits.grad, atol=2e-6)


@LAYOUTS
def test_bf16_logits_under_autocast_give_fp32_and_a_first_ratio_of_exactly_one(remove_padding, pad_size):
    batch, _, _, arguments, model_logits = make_inputs(remove_padding, pad_size)
    model_logits = model_logits.bfloat16().requires_grad_()
    recorded = batch.clone()
    tu.assign_non_tensor(recorded, token_stats=True)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        new = outputs_of(batch, arguments, model_logits)
        with torch.no_grad():
            old = outputs_of(batch, arguments, model_logits)
            record = outputs_of(recorded, arguments, model_logits)
    log_probs = new["log_probs"].values()
    assert new.keys() == {"log_probs"}
    assert log_probs.dtype == torch.float32
    for other in (old, record):
        assert ((log_probs - other["log_probs"].values()).exp() == 1).all()
        assert torch.equal(log_probs, other["log_probs"].values())
    truth = outputs_of(batch, arguments, model_logits.double())["log_probs"].values()
    assert truth.dtype == torch.float64
    assert torch.allclose(log_probs.double(), truth, rtol=1e-6, atol=1e-6)
    assert (log_probs != log_probs.bfloat16().float()).float().mean() > 0.9, "not on the grid of bf16"
    log_probs.sum().backward()
    assert model_logits.grad.dtype == torch.bfloat16


@pytest.mark.parametrize("key", ["calculate_sum_pi_squared", "distillation_use_topk", "distillation_only"])
def test_what_the_engine_does_not_compute_is_refused(key):
    batch, _, _, arguments, model_logits = make_inputs(True, 0)
    tu.assign_non_tensor(batch, **{key: True})
    with pytest.raises(ConfigError, match=key):
        outputs_of(batch, arguments, model_logits)


def test_statistics_are_refused_in_an_update():
    batch, _, _, arguments, model_logits = make_inputs(True, 0)
    tu.assign_non_tensor(batch, token_stats=True)
    with pytest.raises(ConfigError, match="no gradient"):
        outputs_of(batch, arguments, model_logits)


def test_fused_kernels_are_refused_because_they_make_no_logits():
    batch, _, _ = make_micro_batch(remove_padding=True)
    tu.assign_non_tensor(batch, use_fused_kernels=True)
    with pytest.raises(ValueError, match="use_fused_kernels=False"):
        Engine().prepare_model_outputs(None, {}, batch, None)
