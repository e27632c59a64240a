"""A merged adapter computes what model and adapter computed together."""

import pytest
import torch
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file, save_file
from support import make_model
from transformers import AutoModelForCausalLM, AutoTokenizer

from entrobench.errors import CorruptFile
from entrobench.models import lora
from entrobench.models.lora import is_reduced, keep_adapter, merge_adapter, model_of_checkpoint

VERL = {
    "actor_rollout_ref.model.lora_rank": 4,
    "actor_rollout_ref.model.lora_alpha": 8,
    "actor_rollout_ref.model.target_modules": "all-linear",
}

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


def test_a_checkpoint_of_a_lora_run_is_merged_once_and_anew_where_asked(trained, tmp_path):
    saved = tmp_path / "global_step_2/actor/huggingface"
    saved.parent.mkdir(parents=True)
    trained[0].rename(saved)
    assert model_of_checkpoint(tmp_path / "global_step_2", {}) == saved, "of a full fine-tuning"
    merged = model_of_checkpoint(tmp_path / "global_step_2", VERL)
    (merged / "mark").touch()
    assert model_of_checkpoint(tmp_path / "global_step_2", VERL) == merged
    assert (merged / "mark").exists()
    assert model_of_checkpoint(tmp_path / "global_step_2", VERL, anew=True) == merged
    assert (merged / "model.safetensors").exists()
    assert not (merged / "mark").exists()
    assert sorted(path.name for path in saved.parent.iterdir()) == ["huggingface", "merged"]


def test_another_process_may_merge_the_same_checkpoint_at_once(trained, tmp_path, monkeypatch):
    saved = tmp_path / "global_step_2/actor/huggingface"
    saved.parent.mkdir(parents=True)
    trained[0].rename(saved)

    def slower(folder, out, *options):
        out.mkdir()
        (saved.parent / "merged").mkdir()
        (saved.parent / "merged" / "model.safetensors").touch()  # the other's

    monkeypatch.setattr(lora, "merge_adapter", slower)
    merged = model_of_checkpoint(tmp_path / "global_step_2", VERL)
    assert [path.name for path in merged.iterdir()] == ["model.safetensors"]


def test_an_adapter_of_another_rank_is_refused(trained, tmp_path):
    with pytest.raises(RuntimeError, match="size mismatch"):
        merge_adapter(trained[0], tmp_path / "out", rank=8, alpha=8, target_modules="all-linear")


def test_of_an_evaluated_run_the_adapter_is_left_and_the_same_model_comes_of_it(trained, tmp_path):
    checkpoint = tmp_path / "global_step_2"
    saved = checkpoint / "actor/huggingface"
    saved.parent.mkdir(parents=True)
    trained[0].rename(saved)
    whole = load_file(model_of_checkpoint(checkpoint, VERL) / "model.safetensors")
    assert not is_reduced(saved)
    keep_adapter(saved)
    assert is_reduced(saved)
    assert [path.name for path in saved.glob("*.safetensors")] == ["adapter.safetensors"]
    assert not (saved.parent / "merged").exists()
    with pytest.raises(CorruptFile, match="its base model is not named"):
        model_of_checkpoint(checkpoint, VERL)
    again = load_file(model_of_checkpoint(checkpoint, VERL, base=tmp_path / "base") / "model.safetensors")
    assert all(torch.equal(again[name], weights) for name, weights in whole.items())
    with pytest.raises(CorruptFile, match="holds no adapter"):
        keep_adapter(tmp_path / "base")
    assert (tmp_path / "base/model.safetensors").exists()
