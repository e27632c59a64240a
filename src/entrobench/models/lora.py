"""The model of a checkpoint. Of a LoRA run verl saves adapter and base side by side, under PEFT's names; here
they are merged.
"""

import shutil
import tempfile
from pathlib import Path
from typing import Any

from entrobench.errors import CorruptFile
from entrobench.files import atomic_path
from entrobench.runs.checkpoints import SAVED_MODEL

ADAPTER = "adapter.safetensors"


def rank_of(verl: dict[str, Any]) -> int:
    """Rank of a run's adapter; 0 for a run that trains all weights."""
    return int(verl.get("actor_rollout_ref.model.lora_rank", 0) or 0)


def model_of_checkpoint(
    checkpoint: Path, verl: dict[str, Any], anew: bool = False, base: Path | None = None
) -> Path:
    """The folder of a checkpoint's model: what verl saved or, of a LoRA run, that with its adapter merged.

    checkpoint: a global_step_* folder. verl: the run's settings. anew: merge although that was done before.
    base: the model that the run began with, for a checkpoint of which the adapter alone is left. Processes
    that ask at once get the same whole model. Raises as merge_adapter.
    """
    saved = checkpoint / SAVED_MODEL
    rank = rank_of(verl)
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
        merge_adapter(saved, made, rank, verl["actor_rollout_ref.model.lora_alpha"], targets, base)
        try:
            made.rename(merged)
        except OSError:
            if not merged.exists():
                raise
    return merged


def is_reduced(saved: Path) -> bool:
    """Whether of what verl saved of a LoRA run the adapter alone is left."""
    return (saved / ADAPTER).exists()


def keep_adapter(saved: Path) -> None:
    """Reduce what verl saved of a LoRA run, and what was merged of it, to the adapter and the tokenizer.

    Raises CorruptFile where there is no adapter in it; nothing is removed then.
    """
    from safetensors import safe_open
    from safetensors.torch import save_file

    adapter: dict[str, Any] = {}
    files = sorted(path for path in saved.glob("*.safetensors") if path.name != ADAPTER)
    for file in files:
        with safe_open(file, framework="pt") as tensors:
            names = [name for name in list(tensors.keys()) if ".lora_" in name]
            adapter |= {name: tensors.get_tensor(name) for name in names}
    if not adapter:
        raise CorruptFile(f"{saved} holds no adapter: expected tensors with .lora_ in their names")
    with atomic_path(saved / ADAPTER) as temporary:
        save_file(adapter, temporary)
    for path in (*files, *saved.glob("*.safetensors.index.json")):
        path.unlink()
    shutil.rmtree(saved.parent / "merged", ignore_errors=True)


def merge_adapter(
    folder: Path, out: Path, rank: int, alpha: int, target_modules: str, base: Path | None = None
) -> None:
    """Write the model of `folder`, with its adapter merged into the weights, to `out` in Hugging Face's
    format.

    folder: what verl saved as hf_model of a LoRA run, or the adapter that is left of it, which is merged into
    `base`. Holds the whole model in memory, in fp32. Raises
    CorruptFile for weights that are no adapter's on these modules, RuntimeError (torch) for another rank.
    """
    import torch
    from peft import LoraConfig, get_peft_model
    from safetensors.torch import load_file
    from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

    config = AutoConfig.from_pretrained(folder)
    if not is_reduced(folder):
        model = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    elif base is None:
        raise CorruptFile(f"{folder} holds an adapter alone, and its base model is not named")
    else:
        model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    adapter = LoraConfig(r=rank, lora_alpha=alpha, target_modules=target_modules, task_type="CAUSAL_LM")
    wrapped = get_peft_model(model, adapter)
    weights: dict[str, torch.Tensor] = {}
    for file in sorted(folder.glob("*.safetensors")):
        weights |= load_file(file)
    missing, unexpected = wrapped.load_state_dict(weights, strict=False)
    if is_reduced(folder):
        missing = [name for name in missing if ".lora_" in name]
    # Tied weights are saved once
    tied = {"base_model.model.lm_head.weight"} if config.tie_word_embeddings else set()
    if set(missing) - tied or unexpected:
        raise CorruptFile(f"{folder} is no LoRA model: missing {missing}, unexpected {unexpected}")
    merged: Any = wrapped.merge_and_unload()
    merged.generation_config = model.generation_config
    merged.save_pretrained(out)
    AutoTokenizer.from_pretrained(folder).save_pretrained(out)
