"""The model of a checkpoint. Of a LoRA run verl saves adapter and base side by side, under PEFT's names; here
they are merged.
"""

import shutil
import tempfile
from pathlib import Path
from typing import Any

from entrobench.errors import CorruptFile
from entrobench.runs.checkpoints import SAVED_MODEL


def model_of_checkpoint(checkpoint: Path, verl: dict[str, Any], anew: bool = False) -> Path:
    """The folder of a checkpoint's model: what verl saved or, of a LoRA run, that with its adapter merged.

    checkpoint: a global_step_* folder. verl: the run's settings. anew: merge although that was done before.
    Processes that ask at once get the same whole model. Raises as merge_adapter.
    """
    saved = checkpoint / SAVED_MODEL
    rank = verl.get("actor_rollout_ref.model.lora_rank", 0)
    if not rank:
        return saved
    merged = saved.parent / "merged"
    if anew:
        shutil.rmtree(merged, ignore_errors=True)
    if merged.exists():
        return merged
    targets = verl["actor_rollout_ref.model.target_modules"]
    with tempfile.TemporaryDirectory(prefix="merging.", dir=saved.parent) as folder:
        made = Path(folder) / "merged"
        merge_adapter(saved, made, rank, verl["actor_rollout_ref.model.lora_alpha"], targets)
        try:
            made.rename(merged)
        except OSError:
            if not merged.exists():
                raise
    return merged


def merge_adapter(folder: Path, out: Path, rank: int, alpha: int, target_modules: str) -> None:
    """Write the model of `folder`, with its adapter merged into the weights, to `out` in Hugging Face's
    format.

    folder: what verl saved as hf_model of a LoRA run. Holds the whole model in memory, in fp32. Raises
    CorruptFile for weights that are no adapter's on these modules, RuntimeError (torch) for another rank.
    """
    import torch
    from peft import LoraConfig, get_peft_model
    from safetensors.torch import load_file
    from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

    config = AutoConfig.from_pretrained(folder)
    model = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    adapter = LoraConfig(r=rank, lora_alpha=alpha, target_modules=target_modules, task_type="CAUSAL_LM")
    wrapped = get_peft_model(model, adapter)
    weights: dict[str, torch.Tensor] = {}
    for file in sorted(folder.glob("*.safetensors")):
        weights |= load_file(file)
    missing, unexpected = wrapped.load_state_dict(weights, strict=False)
    # Tied weights are saved once
    tied = {"base_model.model.lm_head.weight"} if config.tie_word_embeddings else set()
    if set(missing) - tied or unexpected:
        raise CorruptFile(f"{folder} is no LoRA model: missing {missing}, unexpected {unexpected}")
    merged: Any = wrapped.merge_and_unload()
    merged.generation_config = model.generation_config
    merged.save_pretrained(out)
    AutoTokenizer.from_pretrained(folder).save_pretrained(out)
