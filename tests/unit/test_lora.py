"""A merged adapter computes what model and adapter computed together."""

import pytest
import torch
from peft import LoraConfig, get_peft_model
from safetensors.torch import save_file
from support import make_model
from transformers import AutoModelForCausalLM, AutoTokenizer

from entrobench.models.lora import merge_adapter

pytestmark = pytest.mark.slow


def save_as_verl_does(folder, wrapped):
    """hf_model of a LoRA run: PEFT's names, base and adapter in one file."""
    wrapped.base_model.model.config.save_pretrained(folder)
    save_file(
        {name: w.contiguous() for name, w in wrapped.state_dict().items()}, folder / "model.safetensors"
    )


@pytest.fixture
def trained(tmp_path):
    make_model(tmp_path / "base")
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "base", dtype=torch.float32)
    wrapped = get_peft_model(
        model, LoraConfig(r=4, lora_alpha=8, target_modules="all-linear", task_type="CAUSAL_LM")
    )
    torch.manual_seed(0)
    for name, parameter in wrapped.named_parameters():
        if "lora_" in name:
            torch.nn.init.normal_(parameter, std=0.1)
    folder = tmp_path / "huggingface"
    folder.mkdir()
    save_as_verl_does(folder, wrapped)
    AutoTokenizer.from_pretrained(tmp_path / "base").save_pretrained(folder)
    return folder, wrapped.eval()


def test_the_merged_model_is_the_adapted_one(trained, tmp_path):
    folder, wrapped = trained
    merge_adapter(folder, tmp_path / "out", rank=4, alpha=8, target_modules="all-linear")
    merged = AutoModelForCausalLM.from_pretrained(tmp_path / "out", dtype=torch.float32).eval()
    tokens = torch.arange(20)[None]
    with torch.no_grad():
        assert torch.allclose(merged(tokens).logits, wrapped(tokens).logits, atol=1e-5)
        base = AutoModelForCausalLM.from_pretrained(tmp_path / "base", dtype=torch.float32).eval()
        assert not torch.allclose(base(tokens).logits, wrapped(tokens).logits, atol=1e-1)


def test_an_adapter_of_another_rank_is_refused(trained, tmp_path):
    with pytest.raises(RuntimeError, match="size mismatch"):
        merge_adapter(trained[0], tmp_path / "out", rank=8, alpha=8, target_modules="all-linear")
